"""Benchmark of loading the definitions: `dg check defs` on this project, compared with an empty project.

It measures CPU seconds (user and system), because other load on the machine affects them less than wall time. The
CPU seconds of all processes that the command starts are counted, including the embedded PostgreSQL, which keeps running
after the command ends. The command runs in the two projects alternately. Linux only.
"""

from __future__ import annotations

import ctypes
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

PROJECT = Path(__file__).parents[1]
DG = Path(sys.executable).with_name("dg")
ROUNDS = 5
LIMIT = 1.5
PR_SET_CHILD_SUBREAPER = 36
PYPROJECT = """
[project]
name = "empty"
version = "0"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "empty"
code_location_target_module = "empty.definitions"
"""
DEFINITIONS = """
import dagster as dg

defs = dg.Definitions()
"""


def main() -> float:
    """Print the medians and their ratio, and return the ratio."""
    # Become the parent of detached processes, so that this process can wait for them and count their CPU time.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    with tempfile.TemporaryDirectory() as folder:
        empty, home = _empty_project(Path(folder, "empty")), Path(folder, "home")
        for project in (empty, PROJECT):
            _cpu_seconds(project, home)  # warms the caches and creates the database
        rounds = [(_cpu_seconds(empty, home), _cpu_seconds(PROJECT, home)) for _ in range(ROUNDS)]
    of_empty, of_ours = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    ratio: float = of_ours / of_empty
    print("dg check defs, CPU seconds, medians of", ROUNDS)
    print(f"  an empty project  {of_empty:6.2f}")
    print(f"  platform_assets   {of_ours:6.2f}   {ratio:.2f} times as much (limit: {LIMIT})")
    return ratio


def _empty_project(folder: Path) -> Path:
    package = folder / "empty"
    package.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (package / "__init__.py").touch()
    (package / "definitions.py").write_text(DEFINITIONS)
    return folder


def _cpu_seconds(project: Path, home: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"PLATFORM_HOME": str(home)}
    subprocess.run([DG, "check", "defs"], cwd=project, env=environment, check=True, capture_output=True)
    with suppress(ChildProcessError):
        while True:
            os.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main() > LIMIT)
