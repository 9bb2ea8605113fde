"""Rules that `conftest.py` enforces: known requirement numbers, a clean environment, reasons for skips."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from platform_assets_tests.requirements import ROOT, known_requirements

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser


def run_pytest(folder: Path, *, variables: dict[str, str] | None = None, **modules: str) -> str:
    """Run test modules with this project's `conftest.py` in another process, and return the output.

    Parameters
    ----------
    folder
        Where to write the modules.
    variables
        Additional environment variables.
    modules
        Code of the test modules, keyed by module name.
    """
    for name, code in modules.items():
        (folder / f"test_{name}.py").write_text(f"import os, pytest\n{code}\n")
    rules = ("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), "-p", "platform_assets_tests.conftest")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *rules, str(folder)],
        cwd=ROOT,
        env=os.environ | (variables or {}),
        check=False,
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_all_requirements_are_parsed() -> None:
    lines = (ROOT / "docs" / "requirements.md").read_text().splitlines()
    bullets = [line.split()[1] for line in lines if line.startswith("- ")]
    assert list(known_requirements()) == [word for word in bullets if "-" in word]
    assert known_requirements()["PLT-5"].endswith("a blocking check stops what is downstream.")


def test_a_mark_with_an_unknown_requirement_fails_the_collection(tmp_path: Path) -> None:
    printed = run_pytest(
        tmp_path,
        good='@pytest.mark.requirement("PLT-1", "CRE-2")\ndef test_it(): pass',
        unknown='@pytest.mark.requirement("PLT-1", "XYZ-9")\ndef test_it(): pass',
        empty="@pytest.mark.requirement\ndef test_it(): pass",
        misspelt='@pytest.mark.requirment("PLT-1")\ndef test_it(): pass',
    )
    assert "test_unknown.py::test_it: XYZ-9 is not in docs/requirements.md" in printed
    assert "test_empty.py::test_it: the mark names no requirement" in printed
    assert "'requirment' not found in `markers`" in printed
    assert "test_good.py" not in printed
    assert "3 errors" in printed


def test_platform_variables_are_removed_from_the_environment(tmp_path: Path) -> None:
    code = """
def ours(): return [name for name in os.environ if name.startswith(("PLATFORM_", "AWS_", "DAGSTER_HOME"))]
while_collected = ours()
def test_while_collected(): assert while_collected == ["PLATFORM_REAL_DATA"]
def test_while_running(): assert ours() == []
def test_real_data(real_data): assert str(real_data) == os.getcwd()
"""
    variables = {"PLATFORM_HOME": "/x", "PLATFORM_REAL_DATA": str(ROOT), "DAGSTER_HOME": "/x", "AWS_PROFILE": "x"}
    printed = run_pytest(tmp_path, example=code, variables=variables)
    assert "3 passed" in printed, printed


def test_a_skipped_test_names_the_reason_and_the_package(tmp_path: Path) -> None:
    code = "def test_a(browser): pass\ndef test_b(real_data): pass"
    printed = run_pytest(tmp_path, example=code, variables={"PATH": "/nowhere"})
    assert "test_example.py::test_a - Skipped: needs a browser: apt-get install chromium" in printed
    assert "test_example.py::test_b - Skipped: needs the real data sets (no apt package)" in printed


@pytest.mark.parametrize(("mark", "where"), [("release", ".ci/run"), ("nightly", "the nightly workflow")])
def test_release_and_nightly_tests_are_skipped_by_default(tmp_path: Path, mark: str, where: str) -> None:
    code, variable = f"@pytest.mark.{mark}\ndef test_a(): pass", f"{mark.upper()}_TESTS"
    told = f"test_a - Skipped: is a {mark} test (no apt package): {where} runs it; to enable it, set {variable}=1"
    assert told in run_pytest(tmp_path, example=code, variables={variable: ""})
    assert "1 passed" in run_pytest(tmp_path, example=code, variables={variable: "1"})


def test_the_browser_runs_scripts(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content("<title>before</title><script>document.title = 'after'</script>")
    assert page.title() == "after"
