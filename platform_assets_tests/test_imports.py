"""Starting the platform must import no heavy library, because each import would delay the start of every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = {
    "alembic",
    "deltalake",
    "duckdb",
    "fastapi",
    "great_expectations",
    "ibis",
    "matplotlib",
    "mlflow",
    "numba",
    "pandas",
    "pyarrow",
    "pyspark",
    "sklearn",
    "skops",
    "sqlalchemy",
}
LOAD_THE_LOCATION = """
import dagster as dg
from platform_assets.definitions import defs
dg.Definitions.validate_loadable(defs())
"""
IMPORT_THE_DOORS = """
from platform_assets import domains
from platform_assets.base.discovery import modules_named

for door in ("api", "commands"):
    for package in ("platform_assets", domains.__name__):
        assert modules_named(door, package), (door, package)
"""
NOT_IN_THE_IMAGE = {"alembic", "dagster", "deltalake", "duckdb", "great_expectations", "ibis", "mlflow", "pyarrow"}


def run(code: str, folder: Path) -> set[str]:
    """Run code in a fresh interpreter, and return the top-level packages that it imports."""
    code += "\nimport json, sys; sys.stdout.write(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    environment = os.environ | {"DAGSTER_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.requirement("PLT-3")
@pytest.mark.parametrize(
    "code",
    [
        pytest.param(LOAD_THE_LOCATION, id="the code location loads"),
        pytest.param("import platform_assets.cli", id="the command line starts"),
        pytest.param("import platform_assets.services", id="the services are opened lazily"),
    ],
)
def test_loading_the_platform_imports_no_heavy_library_and_writes_no_file(code: str, tmp_path: Path) -> None:
    assert run(code, tmp_path) & HEAVY == set()
    assert list(tmp_path.iterdir()) == []


def test_routes_and_commands_import_no_library_that_the_image_lacks(tmp_path: Path) -> None:
    assert run(IMPORT_THE_DOORS, tmp_path) & NOT_IN_THE_IMAGE == set()


def test_the_helper_detects_an_imported_package(tmp_path: Path) -> None:
    assert run("import pyarrow.lib", tmp_path) & HEAVY == {"pyarrow"}
