"""Processes that need not import anything, for each import of Great Expectations alone costs seconds.

They are forked from one process that has imported all (`warm_parent.py`), and so are the workers of a session
(`warm_worker.py`), who share it. Where the start of a process is the point, tests start `command_line.PROGRAM`. Loaded
by `conftest.py` as a plugin.
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
    """A process that leads a group of its own; killed, where it still runs, at the end of its context.

    Attributes
    ----------
    pid
        Of the process and its group.
    stdin, stdout
        The other ends of its pipes; `stdout` is empty where its output goes to a file.
    """

    pid: int
    stdin: IO[str]
    stdout: IO[str]
    _answers: IO[str]
    _code: int | None = None

    def wait(self) -> int:
        """Wait for its end; its exit code, or minus the signal that killed it."""
        if self._code is None:
            self._code = int(self._answers.readline())
        return self._code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to it alone."""
        # Until its end was told, hardly anybody else can have got its number.
        if self._code is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it alone."""
        self.send_signal(signal.SIGKILL)

    def kill_group(self) -> None:
        """Kill it and its children."""
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
    """Starts processes."""

    path: Path

    def start(
        self,
        function: Callable[..., None],
        *arguments: str | Path,
        stdout: IO[str] | None = None,
        stderr: IO[str] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> Process:
        """Call a function of a module in a process of its own.

        Parameters
        ----------
        function
            Found by its name; `command` does what `platform-assets` does.
        arguments
            Its arguments; it gets them as text.
        stdout
            Where its output goes; a pipe without.
        stderr
            Where its errors go; this process's own without.
        variables
            Of the environment, above this process's own.
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
    """What the program `platform-assets` does."""
    from platform_assets import cli

    sys.argv = ["platform-assets", *arguments]
    cli.main()


def script(name: str, *arguments: str) -> None:
    """What another program of this environment does."""
    [program] = entry_points(group="console_scripts", name=name)
    sys.argv = [name, *arguments]
    program.load()()


def measured_command(*arguments: str) -> None:
    """The same; prints last how much memory it held at most, in KiB."""
    try:
        command(*arguments)
    finally:
        sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}\n")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[XSpec]) -> None:
    """Let the workers be warm processes too."""
    # Where the workers will look for it.
    path, session = _parent_of(config._tmp_path_factory.getbasetemp())  # type: ignore[attr-defined]
    config.add_cleanup(session.close)
    for spec in specs:
        spec.python = shlex.join([sys.executable, "-m", warm_worker.__name__, str(path)])


def pytest_collection_finish(session: pytest.Session) -> None:
    # What was collected stays; looking through it for garbage takes a worker seconds.
    if hasattr(session.config, "workerinput"):
        gc.freeze()


@pytest.fixture(scope="session")
def warm(shared_folder: Path) -> Iterator[WarmParent]:
    """The parent of warm processes, started by the first who asks and gone with the last."""
    path, session = _parent_of(shared_folder)
    with session:
        yield WarmParent(path)


def _parent_of(folder: Path) -> tuple[Path, socket.socket]:
    """The socket of the parent that all share who share a folder, and a session of it."""
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
    """Hold on to the parent, where there is one that stays."""
    session = socket.socket(socket.AF_UNIX)
    with suppress(OSError):
        session.connect(str(path))
        session.sendall(warm_parent.STAY)
        # One that is about to end hangs up instead.
        if session.recv(len(warm_parent.READY)):
            return session
    session.close()
    return None


def _pipe() -> tuple[IO[str], IO[str]]:
    reads, writes = os.pipe()
    return os.fdopen(reads), os.fdopen(writes, "w")
