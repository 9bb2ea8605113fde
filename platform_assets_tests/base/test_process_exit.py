"""A process ends as Python lets it end, but for taking its modules apart."""

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
    """Exit code, output and errors of a process that calls `work` last."""
    # With buffers, whatever the environment says.
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
def test_its_code_is_that_of_its_exit(end: str, code: int, told: str) -> None:
    assert ended(f"def work(): {end}") == (code, "", told)


def test_nothing_that_waits_for_the_end_is_left_out() -> None:
    work = """
def late():
    time.sleep(0.1)
    sys.stdout.write("a thread, ")

def work():
    atexit.register(lambda: sys.stdout.write("a registered function, what was not written yet"))
    threading.Thread(target=late).start()
"""
    assert ended(work) == (0, "a thread, a registered function, what was not written yet", "")


def test_another_exception_is_told_as_always() -> None:
    code, _, told = ended("def work(): raise LookupError('nothing there')")
    assert code == 1
    assert "LookupError: nothing there" in told


@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
def test_output_that_cannot_be_written_is_no_success() -> None:
    with FULL.open("w") as full:
        code, _, _ = ended("def work(): sys.stdout.write('lost')", full.fileno())
    assert code == 120
