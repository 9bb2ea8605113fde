"""A process ends as under Python, except that its modules are not torn down."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import atexit, sys, threading, time
from platform_assets.base.process_exit import call_and_leave

class Torn:
    def __del__(self):
        sys.stderr.write("taken apart")

torn = Torn()
{}
call_and_leave(work)
"""
FULL = Path("/dev/full")


def ended(work: str, stdout: int = subprocess.PIPE) -> tuple[int, str, str]:
    """Return exit code, output and errors of a process that calls `work` last."""
    # With buffered output, whatever the environment sets.
    command = [sys.executable, "-E", "-c", PROGRAM.format(work)]
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("end", "code", "told"),
    [
        ("pass", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('no such thing')", 1, "no such thing\n"),
    ],
)
def test_the_exit_code_is_that_of_system_exit(end: str, code: int, told: str) -> None:
    assert ended(f"def work(): {end}") == (code, "", told)


def test_threads_and_atexit_functions_are_awaited() -> None:
    work = """
def late():
    time.sleep(0.1)
    sys.stdout.write("a thread, ")

def work():
    atexit.register(lambda: sys.stdout.write("a registered function, what was not written yet"))
    threading.Thread(target=late).start()
"""
    assert ended(work) == (0, "a thread, a registered function, what was not written yet", "")


def test_another_exception_is_printed_as_usual() -> None:
    code, _, told = ended("def work(): raise LookupError('nothing there')")
    assert code == 1
    assert "LookupError: nothing there" in told


@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
def test_output_that_cannot_be_written_is_a_failure() -> None:
    with FULL.open("w") as full:
        code, _, _ = ended("def work(): sys.stdout.write('lost')", full.fileno())
    assert code == 120
