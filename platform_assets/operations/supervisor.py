"""Supervisor: start several servers, watch them, and stop them together with all their processes.

Each server runs in a separate process group and writes to a log file. `servers.py` lists the servers.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Self

from platform_assets.base.errors import PlatformError
from platform_assets.web.http_server import SECONDS_TO_FINISH

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import FrameType, TracebackType

LAST_LINES = 15
"""Number of log lines in the error about a server that ended."""
POLL_SECONDS = 0.2
PATIENCE_SECONDS = SECONDS_TO_FINISH + 20.0
"""Time for a server to end after SIGTERM, before it is killed. The service finishes its requests in this time."""
LOOK_SECONDS = 1.0
"""Time between two calls of `look`."""


class ServerEnded(PlatformError):  # noqa: N818 - the name is the message
    """A server ended unexpectedly, so all servers were stopped."""


@dataclass(frozen=True)
class Server:
    """One server.

    Attributes
    ----------
    name
        Name of the server in messages, and of its log file.
    command
        Program and arguments.
    environment
        Environment variables in addition to those of this process.
    port
        Port on loopback; None for a process that does not listen.
    health_path
        HTTP path that answers 200 as soon as the server is ready.
    page
        Path of the page to open first.
    note
        Text to print after the address.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    health_path: str = "/"
    page: str = ""
    note: str = ""

    @property
    def address(self) -> str:
        """URL of the server."""
        return f"http://127.0.0.1:{self.port}"


def demand_free(name: str, port: int, host: str = "127.0.0.1") -> None:
    """Raise an error if a server cannot listen on a port.

    Raises
    ------
    PlatformError
        The port is in use, or this user may not listen on it.
    """
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise PlatformError(
            f"{name} cannot listen on port {port} of {host} ({error.strerror}); stop the program that "
            "uses the port, or set another port"
        ) from None


class Supervisor:
    """Runs servers until one of them ends or a signal arrives. Leaving the context stops all of them.

    Parameters
    ----------
    servers
        The servers, in the order in which they start.
    logs
        Folder of the log files, one for each server.
    say
        Function that prints a message.
    look
        Function that is called about once a second.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        logs: Path,
        say: Callable[[str], None],
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self._servers = servers
        self._logs = logs
        self._say = say
        self._look = look
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping: str | None = None
        self._former: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._former[number] = signal.signal(number, self._stop_asked)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stop_all()
        finally:
            for number, handler in self._former.items():
                signal.signal(number, handler)  # type: ignore[arg-type]  # a handler that `signal` returned

    def run(self) -> None:
        """Start every server, report its address when it is ready, and wait for a signal.

        Raises
        ------
        PlatformError
            A port is in use.
        ServerEnded
            A server ended. The message contains the last lines of its log.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        for server in self._servers:
            self._stop_leftover(server)
        for server in self._servers:
            if server.port is not None:
                demand_free(server.name, server.port)
        for server in self._servers:
            self._log(server).write_bytes(b"")
        for server in self._servers:
            self._start(server)
        waiting = [server for server in self._servers if server.port]
        next_look = time.monotonic() + LOOK_SECONDS
        while not self._stopping:
            self._demand_alive()
            for server in [server for server in waiting if _answers(server)]:
                waiting.remove(server)
                self._say(f"{server.name}: {server.address}{server.page} {server.note}".rstrip())
                if not waiting:
                    self._say("all servers are ready; press Ctrl-C to stop them")
            if time.monotonic() >= next_look:
                self._look()
                next_look = time.monotonic() + LOOK_SECONDS
            time.sleep(POLL_SECONDS)
        self._say(f"stopping: {self._stopping} was received")

    def _start(self, server: Server) -> None:
        with self._log(server).open("ab") as log, self._mark(server).open("a+") as mark:
            # The server inherits the locked file, so the lock is held exactly as long as the server runs.
            fcntl.flock(mark, fcntl.LOCK_EX)
            # Remove the old process id before the server can hold the lock. Otherwise, if this process were killed
            # before it writes the new id, the next start would signal any process that has the old id by then.
            mark.truncate(0)
            process = subprocess.Popen(  # noqa: S603 - the commands are our own
                server.command,
                env=os.environ | dict(server.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[mark.fileno()],
            )
            self._running[server.name] = process
            mark.write(f"{process.pid} {socket.gethostname()}")

    def _stop_leftover(self, server: Server) -> None:
        """Stop a server that still runs because its supervisor was killed."""
        with self._mark(server).open("a+") as mark:
            if _locks(mark):
                return
            mark.seek(0)
            group, _, host = mark.read().partition(" ")
            error = PlatformError(
                f"an earlier `platform-assets up` was killed, but its {server.name} still runs; stop process "
                f"{group or 'unknown'} on {host or 'this machine'} first"
            )
            # The home can be shared with other machines, on which the id names other processes.
            if not group.isdecimal() or host != socket.gethostname():
                raise error
            self._say(f"stopping {server.name} of an earlier `platform-assets up` that was killed")
            _signal_group(int(group), signal.SIGTERM)
            has_ended = _locks(mark, PATIENCE_SECONDS)
            # Kill the group even if the server has ended, because its child processes may still run.
            _signal_group(int(group), signal.SIGKILL)
            if not has_ended and not _locks(mark, PATIENCE_SECONDS):
                raise error

    def _mark(self, server: Server) -> Path:
        """Return the file that a running server keeps locked, and that contains its process id and machine."""
        return self._logs / f"{server.name}.pid"

    def _log(self, server: Server) -> Path:
        return self._logs / f"{server.name}.log"

    def _demand_alive(self) -> None:
        for server in self._servers:
            code = self._running[server.name].poll()
            if code is not None:
                lines = self._log(server).read_text(errors="replace").splitlines()[-LAST_LINES:]
                last = "\n  ".join(["", *lines])
                raise ServerEnded(f"{server.name} ended with exit code {code}; last lines of its log:{last}")

    def _stop_asked(self, number: int, _frame: FrameType | None) -> None:
        self._stopping = signal.Signals(number).name

    def _stop_all(self) -> None:
        for process in reversed(self._running.values()):
            _signal_group(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE_SECONDS
        for name, process in self._running.items():
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS / 4)
            if process.poll() is None:
                self._say(f"{name} did not stop within {PATIENCE_SECONDS:g} s and was killed")
            # Kill the group even if the server has ended, because its child processes may still run.
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


def _locks(file: IO[str], seconds: float = 0.0) -> bool:
    """Take the lock of a file within a time; return whether it was taken."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            # Poll, because `flock` cannot wait with a time limit.
            time.sleep(POLL_SECONDS)
        else:
            return True


def _answers(server: Server) -> bool:
    import requests

    try:
        return requests.get(server.address + server.health_path, timeout=2).ok
    except requests.RequestException:
        return False
