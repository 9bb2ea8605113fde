"""HTTP load generator: several clients in one thread, each with one persistent connection.

It uses plain sockets and prepares the requests in advance, so that it needs little CPU time. It also measures its own
CPU time.
"""

from __future__ import annotations

import gc
import select
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PATIENCE_SECONDS = 30
CHUNK = 1 << 16
END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length:"
GOOD = b"HTTP/1.1 200 "


@dataclass(frozen=True)
class Answers:
    """Measurements of one load run.

    Attributes
    ----------
    milliseconds
        Latency of each request, from sending it to the last byte of its response.
    seconds
        Duration of the run.
    asking_seconds
        CPU time that the load generator used.
    """

    milliseconds: Sequence[float]
    seconds: float
    asking_seconds: float

    @property
    def per_second(self) -> float:
        return len(self.milliseconds) / self.seconds

    @property
    def p50(self) -> float:
        return median(self.milliseconds)

    @property
    def p99(self) -> float:
        return quantiles(self.milliseconds, n=100)[-1]


def request(method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of a request. A body must be JSON."""
    lines = {"Host": "127.0.0.1", **(headers or {})}
    if body:
        lines |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    head = "".join(f"{name}: {text}\r\n" for name, text in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def answer_to(port: int, asked: bytes) -> bytes:
    """Send a request, and return the body of the response.

    Raises
    ------
    RuntimeError
        The status is not 200, or the server closes the connection early.
    """
    with _connected(port) as connection:
        connection.sendall(asked)
        answer = b""
        while not _is_whole(answer):
            received = connection.recv(CHUNK)
            _demand(bool(received), answer)
            answer += received
    _demand(answer.startswith(GOOD), answer)
    return answer.partition(END_OF_HEAD)[2]


def keep_busy(port: int, requests: Iterator[bytes], clients: int, seconds: float) -> Answers:
    """Send requests for some seconds. Each client sends its next request when it has received a response.

    Raises
    ------
    RuntimeError
        A status is not 200, or no response arrives within `PATIENCE_SECONDS`.
    """
    with ExitStack() as stack:
        connections = [stack.enter_context(_connected(port)) for _ in range(clients)]
        gc.collect()
        gc.disable()
        try:
            return _ask({connection.fileno(): connection for connection in connections}, requests, seconds)
        finally:
            gc.enable()


def _ask(connections: Mapping[int, socket.socket], requests: Iterator[bytes], seconds: float) -> Answers:
    poll = select.epoll()  # Linux only
    sent, parts = dict.fromkeys(connections, 0.0), dict.fromkeys(connections, b"")
    took: list[float] = []
    began, used = time.perf_counter(), time.thread_time()

    def send(number: int) -> None:
        sent[number] = time.perf_counter()
        connections[number].sendall(next(requests))

    def receive(number: int) -> bool:
        """Read from a connection, and return whether the response is complete."""
        received = connections[number].recv(CHUNK)
        parts[number] += received
        if not _is_whole(parts[number]):
            _demand(bool(received), parts[number])
            return False
        took.append(1000 * (time.perf_counter() - sent[number]))
        _demand(parts[number].startswith(GOOD), parts[number])
        parts[number] = b""
        return True

    for number in connections:
        poll.register(number, select.EPOLLIN)
        send(number)
    end, waiting = began + seconds, len(connections)
    while waiting:
        ready = poll.poll(PATIENCE_SECONDS)
        _demand(bool(ready), b"")
        for number, _ in ready:
            if receive(number):
                if time.perf_counter() < end:
                    send(number)
                else:
                    waiting -= 1
    poll.close()
    return Answers(took, time.perf_counter() - began, time.thread_time() - used)


def _connected(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(END_OF_HEAD)
    if not end:
        return False
    head = head.lower() + b"\r\n"
    start = head.find(LENGTH)
    _demand(start >= 0, answer)
    start += len(LENGTH)
    return len(body) >= int(head[start : head.index(b"\r\n", start)])


def _demand(fine: bool, answer: bytes) -> None:  # noqa: FBT001 - reads as a sentence
    if not fine:
        raise RuntimeError(f"expected a complete response with status 200, but received {answer[:1000]!r}")
