"""Start servers in their own process groups, send them requests, and measure latency and CPU time."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.load import Answers, answer_to, keep_busy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

LOOPBACK = "127.0.0.1"
START_SECONDS = 240
STOP_SECONDS = 20
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Turn:
    """Measurements of one server during one interval, in which it receives requests.

    Attributes
    ----------
    answers
        Measurements of the clients.
    server_seconds
        CPU time of the server's processes. The database is not counted.
    """

    answers: Answers
    server_seconds: float

    @property
    def server_milliseconds(self) -> float:
        """CPU time per response."""
        return 1000 * self.server_seconds / len(self.answers.milliseconds)


class Server:
    """A running server with its own process group.

    Parameters
    ----------
    leader
        First process of the group.
    port
        Port on loopback.
    """

    def __init__(self, leader: subprocess.Popen[bytes], port: int) -> None:
        self._leader = leader
        self.port = port

    def processor_seconds(self) -> float:
        """Return the CPU time that all processes of the server have used so far."""
        ticks = 0
        for path in Path("/proc").glob("[0-9]*/stat"):  # Linux only
            with suppress(OSError):
                # Skip the process name, which is in brackets and can contain spaces. In the rest, field 2 is the
                # process group, and fields 11 and 12 are the CPU times.
                told = path.read_text().rpartition(")")[2].split()
                ticks += int(told[11]) + int(told[12]) if int(told[2]) == self._leader.pid else 0
        return ticks / TICKS


class Side:
    """A server to measure, and the requests to send to it. They are sent in order, again and again.

    Parameters
    ----------
    name
        Name in tables.
    server
        The running server.
    requests
        Bytes of each request; see `load.request`.
    """

    def __init__(self, name: str, server: Server, requests: Sequence[bytes]) -> None:
        self.name = name
        self.requests = requests
        self._server = server
        self._next = cycle(requests)

    def answer(self, place: int) -> Any:
        """Send the request with the index `place`, and return the JSON of the response."""
        return json.loads(answer_to(self._server.port, self.requests[place]))

    def take_turn(self, clients: int, seconds: float) -> Turn:
        """Send requests with `clients` concurrent clients for `seconds` seconds, and return the measurements."""
        before = self._server.processor_seconds()
        answers = keep_busy(self._server.port, self._next, clients, seconds)
        return Turn(answers, self._server.processor_seconds() - before)


@contextmanager
def started(
    command: Sequence[str | Path], port: int, health: str, environment: Mapping[str, str], log: Path
) -> Iterator[Server]:
    """Start a server, and yield it when its health check succeeds. Its process group is stopped at the end.

    Raises
    ------
    RuntimeError
        The server exits, or is not healthy in time. The message contains the end of its log.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        end = time.monotonic() + START_SECONDS
        while not _answers(port, health):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{command[0]} did not start: {log.read_text(errors='replace')[-2_000:]}")
            time.sleep(0.05)
        yield Server(process, port)
    finally:
        _end(process)


def wait_until(holds: Callable[[], bool], otherwise: str) -> None:
    """Wait until a condition is true.

    Raises
    ------
    RuntimeError
        The condition does not become true in time; `otherwise` is the message.
    """
    end = time.monotonic() + START_SECONDS
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(otherwise)
        # Sleep, so that the server can use the processor.
        time.sleep(0.1)


def free_port() -> int:
    """Return a port that is currently free."""
    with socket.create_server((LOOPBACK, 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


def _answers(port: int, path: str) -> bool:
    connection = HTTPConnection(LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, kind)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
