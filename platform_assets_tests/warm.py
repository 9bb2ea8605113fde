"""Warm processes: processes that start with the libraries already imported.

They start faster, because importing Great Expectations alone takes seconds. They are forks of one parent process that
has imported the libraries (`warm_parent.py`). The pytest-xdist workers are warm processes too (`warm_worker.py`).
Without warm processes, a random sample of 72 test modules took twice as long: 499 s instead of 247 s on 2 processors.

Tests that check imports or start-up time use `command_line.PROGRAM` instead. `conftest.py` loads this module as a
plugin.
"""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import IO, TYPE_CHECKING, Self

import pytest

from platform_assets_tests import warm_parent, warm_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from execnet import XSpec


@dataclass
class Process:
    """A running process in its own process group. Use it as a context manager to kill the process at the end.

    Attributes
    ----------
    pid
        Id of the process and its group.
    stdin, stdout
        Pipes to and from the process; `stdout` is empty if the output goes to a file.
    """

    pid: int
    stdin: IO[str]
    stdout: IO[str]
    _answers: IO[str]
    _code: int | None = None

    def wait(self) -> int:
        """Wait for the end of the process; return its exit code, or -n if signal n killed it."""
        if self._code is None:
            self._code = int(self._answers.readline())
        return self._code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, but not to its children."""
        # Signal only before the exit code has arrived, because the id can be reused by another process afterwards.
        if self._code is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process, but not its children."""
        self.send_signal(signal.SIGKILL)

    def kill_group(self) -> None:
        """Kill the process and its children."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.wait()
        for file in (self._answers, self.stdout):
            file.close()
        with suppress(BrokenPipeError):
            self.stdin.close()


@dataclass(frozen=True)
class WarmParent:
    """Starts warm processes. `path` is the socket of their parent process."""

    path: Path

    def start(
        self,
        function: Callable[..., None],
        *arguments: str | Path,
        stdout: IO[str] | None = None,
        stderr: IO[str] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a process that calls a function.

        Parameters
        ----------
        function
            A module-level function, for example `command`, which runs `platform-assets`.
        arguments
            Arguments of the function, which receives them as strings.
        stdout
            File for the output; None for a pipe.
        stderr
            File for the error output; None for the stderr of this process.
        variables
            Environment variables, in addition to those of this process.
        """
        with ExitStack() as handed_over:
            reads, stdin = _pipe()
            result, writes = _pipe()
            handed_over.push(reads)
            handed_over.push(writes)
            streams = [reads.fileno(), (stdout or writes).fileno(), stderr.fileno() if stderr else 2]
            answers = warm_parent.asked(self.path, function, arguments, streams, variables)
        return Process(int(answers.readline()), stdin, result, answers)


def command(*arguments: str) -> None:
    """Run the program `platform-assets`."""
    from platform_assets import cli

    sys.argv = ["platform-assets", *arguments]
    cli.main()


def script(name: str, *arguments: str) -> None:
    """Run a console script of this Python environment, for example `dagster`."""
    [program] = entry_points(group="console_scripts", name=name)
    sys.argv = [name, *arguments]
    program.load()()


def measured_command(*arguments: str) -> None:
    """Run `platform-assets`, and print the peak memory in KiB at the end."""
    try:
        command(*arguments)
    finally:
        sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}\n")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[XSpec]) -> None:
    """Make pytest-xdist start its workers as warm processes."""
    # Use this folder, because it is the workers' `shared_folder`, where they look for the parent process's socket.
    path, session = _parent_of(config._tmp_path_factory.getbasetemp())  # type: ignore[attr-defined]
    config.add_cleanup(session.close)
    for spec in specs:
        spec.python = shlex.join([sys.executable, "-m", warm_worker.__name__, str(path)])


def pytest_collection_finish(session: pytest.Session) -> None:
    # Exclude the collected tests from garbage collection, because each pass over them takes seconds.
    if hasattr(session.config, "workerinput"):
        gc.freeze()


@pytest.fixture(scope="session")
def warm(shared_folder: Path) -> Iterator[WarmParent]:
    """Starts warm processes. Their parent process exits when the last test session has ended."""
    path, session = _parent_of(shared_folder)
    with session:
        yield WarmParent(path)


def _parent_of(folder: Path) -> tuple[Path, socket.socket]:
    """Return the path of the parent process's socket in this folder, and an open session.

    Start the parent process if it is not running.
    """
    path = folder / "warm"
    with (folder / "warm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        session = _session(path)
        if session is None:
            path.unlink(missing_ok=True)
            with (folder / "warm.log").open("a") as log:
                start = [sys.executable, "-m", warm_parent.__name__, str(path)]
                subprocess.run(start, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
            session = _session(path)
    if session is None:
        pytest.fail((folder / "warm.log").read_text())
    return path, session


def _session(path: Path) -> socket.socket | None:
    """Open a session with the parent process; return None if no parent process is running.

    The parent process runs until all sessions are closed.
    """
    session = socket.socket(socket.AF_UNIX)
    with suppress(OSError):
        session.connect(str(path))
        session.sendall(warm_parent.STAY)
        # If the parent does not answer, it is about to exit, so there is no session.
        if session.recv(len(warm_parent.READY)):
            return session
    session.close()
    return None


def _pipe() -> tuple[IO[str], IO[str]]:
    reads, writes = os.pipe()
    return os.fdopen(reads), os.fdopen(writes, "w")
