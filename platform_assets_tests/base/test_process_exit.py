"""`call_and_leave` ends a process like Python itself, but without tearing down modules."""

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
    """Return exit code, stdout and stderr of a process that passes the function `work` to `call_and_leave`."""
    # `-E` makes Python ignore PYTHONUNBUFFERED. The tests need buffered output.
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
def test_the_process_ends_with_the_exit_code_given_to_sys_exit(end: str, code: int, told: str) -> None:
    assert ended(f"def work(): {end}") == (code, "", told)


def test_threads_and_atexit_functions_finish_before_the_exit() -> None:
    work = """
def late():
    time.sleep(0.1)
    sys.stdout.write("a thread, ")

def work():
    atexit.register(lambda: sys.stdout.write("a registered function, the buffered output"))
    threading.Thread(target=late).start()
"""
    assert ended(work) == (0, "a thread, a registered function, the buffered output", "")


def test_any_other_exception_is_printed_with_exit_code_1() -> None:
    code, _, told = ended("def work(): raise LookupError('nothing there')")
    assert code == 1
    assert "LookupError: nothing there" in told


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, a device that is always full")
def test_output_that_cannot_be_written_gives_exit_code_120() -> None:
    with FULL.open("w") as full:
        code, _, _ = ended("def work(): sys.stdout.write('lost')", full.fileno())
    assert code == 120
