"""Servers to be measured: each a group of processes of its own, with what it is asked, in turns with the others."""

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
    from collections.abc import Iterator, Mapping, Sequence

LOOPBACK = "127.0.0.1"
START_SECONDS = 240
STOP_SECONDS = 20
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Turn:
    """What came of asking a server for a while.

    Attributes
    ----------
    answers
        What was measured at the client.
    server_seconds
        Processor time of the server's processes; a database beside it is not among them.
    """

    answers: Answers
    server_seconds: float

    @property
    def server_milliseconds(self) -> float:
        """Processor time for each answer."""
        return 1000 * self.server_seconds / len(self.answers.milliseconds)


class Server:
    """A server that runs: a group of processes of its own.

    Parameters
    ----------
    leader
        The group's first process.
    port
        Where it listens on loopback.
    """

    def __init__(self, leader: subprocess.Popen[bytes], port: int) -> None:
        self._leader = leader
        self.port = port

    def processor_seconds(self) -> float:
        """Of all its processes so far."""
        ticks = 0
        for path in Path("/proc").glob("[0-9]*/stat"):  # Linux only
            with suppress(OSError):
                # The name in brackets may hold blanks. Behind it: state, parent, group ..
                told = path.read_text().rpartition(")")[2].split()
                ticks += int(told[11]) + int(told[12]) if int(told[2]) == self._leader.pid else 0
        return ticks / TICKS


class Side:
    """One server, and what it is asked over and over.

    Parameters
    ----------
    name
        Shown in tables.
    server
        The server.
    requests
        As they go over the line; see `load.request`.
    """

    def __init__(self, name: str, server: Server, requests: Sequence[bytes]) -> None:
        self.name = name
        self.requests = requests
        self._server = server
        self._next = cycle(requests)

    def answer(self, place: int) -> Any:
        """What it answers to one of the requests; JSON."""
        return json.loads(answer_to(self._server.port, self.requests[place]))

    def take_turn(self, clients: int, seconds: float) -> Turn:
        """Keep that many clients busy for a while."""
        before = self._server.processor_seconds()
        answers = keep_busy(self._server.port, self._next, clients, seconds)
        return Turn(answers, self._server.processor_seconds() - before)


@contextmanager
def started(
    command: Sequence[str | Path], port: int, health: str, environment: Mapping[str, str], log: Path
) -> Iterator[Server]:
    """A server, from its first good answer on; its whole group ends with the block.

    Raises
    ------
    RuntimeError
        It ends, or does not answer in time; with the end of its log.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        end = time.monotonic() + START_SECONDS
        while not _answers(port, health):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{command[0]} does not serve: {log.read_text(errors='replace')[-2_000:]}")
            time.sleep(0.05)
        yield Server(process, port)
    finally:
        _end(process)


def free_port() -> int:
    """A port where nobody listens at the moment."""
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
