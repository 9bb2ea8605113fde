"""The wheel: it contains the whole package, and its commands run without a checkout of the project."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DAGSTERS_FILES = {"platform_assets/dagster.yaml", "platform_assets/workspace.yaml"}


def uv(*arguments: str | Path) -> None:
    [program] = ROOT.glob(".uv/*/bin/uv")
    done = subprocess.run(
        [program, *arguments, "--quiet"],
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--wheel", "--python", sys.executable, "--out-dir", folder)
    [file] = folder.glob("*.whl")
    return file


def test_the_wheel_contains_every_file_of_the_package(wheel: Path) -> None:
    package = {file for file in (ROOT / "platform_assets").rglob("*") if file.is_file() and file.suffix != ".pyc"}
    expected = {str(file.relative_to(ROOT)) for file in package} | DAGSTERS_FILES
    # Leave out the files that numba caches in `__pycache__`.
    expected = {name for name in expected if "__pycache__" not in name}
    contained = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in contained if ".dist-info/" not in name} == expected


@pytest.mark.release
@pytest.mark.slow
@pytest.mark.requirement("PLT-3")
def test_the_installed_wheel_materialises_all_assets_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    environment, locked, folder = tmp_path / "venv", tmp_path / "locked.txt", tmp_path / "empty"
    uv("venv", "--python", sys.executable, environment)
    uv("export", "--frozen", "--no-dev", "--no-emit-project", "--output-file", locked)
    # uv links files from its cache, so this takes only seconds.
    uv("pip", "install", "--python", environment / "bin" / "python", "--requirement", locked)
    uv("pip", "install", "--python", environment / "bin" / "python", "--no-deps", wheel)
    folder.mkdir()
    done = subprocess.run(
        [environment / "bin" / "platform-assets", "run"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "PLATFORM_DEMO_ROWS": "200"},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert f"Tables: {folder}/.platform/lake" in done.stdout
    assert "Traceback" not in done.stdout
    assert (folder / ".platform" / "lake" / "credit_risk" / "loans").is_dir()
    assert not [path for path in folder.iterdir() if not path.name.startswith(".")]
