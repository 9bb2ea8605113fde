from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from platform_assets.base import provenance

if TYPE_CHECKING:
    from pathlib import Path


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(
        ["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(provenance, "_PROJECT", tmp_path)
    monkeypatch.setattr(provenance, "version", lambda _: "1.2.3")
    provenance.code_version.cache_clear()
    provenance.git_commit.cache_clear()
    return tmp_path


@pytest.mark.requirement("PLT-7")
def test_the_code_version_contains_the_commit_and_a_dirty_flag(project: Path) -> None:
    git(project, "init", "-q")
    (project / "code.py").write_text("one")
    git(project, "add", ".")
    git(project, "commit", "-qm", "one")
    commit = git(project, "rev-parse", "--short=12", "HEAD").strip()
    assert provenance.code_version() == f"1.2.3+{commit}"
    (project / "code.py").write_text("two")
    assert provenance.code_version() == f"1.2.3+{commit}"  # cached for the life of the process
    provenance.code_version.cache_clear()
    assert provenance.code_version() == f"1.2.3+{commit}.dirty"


def test_the_git_commit_is_the_full_hash(project: Path) -> None:
    assert provenance.git_commit() == ""
    git(project, "init", "-q")
    git(project, "commit", "-q", "--allow-empty", "-m", "one")
    provenance.git_commit.cache_clear()
    assert provenance.git_commit() == git(project, "rev-parse", "HEAD").strip()
    provenance.git_commit.cache_clear()


def test_an_installed_package_ignores_the_git_checkout_that_contains_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(project, "init", "-q")
    git(project, "commit", "-q", "--allow-empty", "-m", "somebody else's")
    (project / "site-packages").mkdir()
    monkeypatch.setattr(provenance, "_PROJECT", project / "site-packages")
    assert provenance.code_version() == "1.2.3"


def test_without_git_the_code_version_is_the_release(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".git").mkdir()
    monkeypatch.setenv("PATH", str(project))
    assert provenance.code_version() == "1.2.3"
