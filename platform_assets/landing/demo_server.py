"""Local HTTP server that simulates an API, with faults that can be switched on.

A domain's `demo.py` gives it a function that answers requests from sample data. The server is used for
`PLATFORM_SOURCES=demo` and in the tests of clients.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Fault = Callable[["Reply"], "Reply"]

HOST = "127.0.0.1"
POLL_SECONDS = 0.02
"""Interval at which the server checks whether it has to stop."""
PIECE = b" " * (1 << 20)


@dataclass(frozen=True)
class Request:
    """A request.

    Attributes
    ----------
    path
        Path without query.
    query
        Decoded query parameters. If a name is repeated, its last value is kept.
    headers
        Headers, their names in lower case.
    arrived
        Time of arrival, in seconds of a monotonic clock.
    """

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    arrived: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Reply:
    """An answer to a request.

    Attributes
    ----------
    body
        The body, in pieces.
    status
        HTTP status.
    content_type
        Media type of the body.
    headers
        Further headers.
    length
        Value of `Content-Length`; None to omit the header and mark the end of the body by closing the connection.
    silent
        Whether to send nothing and keep the connection open until the server is closed.
    dropped
        Whether to close the connection without an answer.
    """

    body: Iterable[bytes] = ()
    status: int = HTTPStatus.OK
    content_type: str = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    silent: bool = False
    dropped: bool = False


def reply(body: bytes, content_type: str, status: int = HTTPStatus.OK) -> Reply:
    """Return an answer with a complete body."""
    return Reply((body,), status, content_type, length=len(body))


class DemoServer:
    """A server on a free port of the loopback interface. A context manager: it serves inside the context.

    Parameters
    ----------
    respond
        Function that answers a request.

    Attributes
    ----------
    faults
        Faults of the next requests: each request uses up one.
    constant_fault
        Fault of all requests while `faults` is empty.
    requests
        Requests that the server has received.
    most_at_once
        Largest number of concurrent requests.
    """

    def __init__(self, respond: Callable[[Request], Reply]) -> None:
        self._respond = respond
        self.faults: deque[Fault] = deque()
        self.constant_fault: Fault | None = None
        self.requests: list[Request] = []
        self.most_at_once = 0
        self._at_once = 0
        self._mutex = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer((HOST, 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_SECONDS,), daemon=True)

    @property
    def url(self) -> str:
        """Address without path."""
        return f"http://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: Request) -> Reply:
        """Return the answer to a request, changed by the next fault."""
        with self._mutex:
            self.requests.append(request)
            fault = self.faults.popleft() if self.faults else self.constant_fault
        found = self._respond(request)
        return fault(found) if fault else found

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer the request that a handler received."""
        with self._mutex:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            parts = urlsplit(handler.path)
            headers = {name.lower(): value for name, value in handler.headers.items()}
            self._send(handler, self.answer(Request(parts.path, dict(parse_qsl(parts.query)), headers)))
        finally:
            with self._mutex:
                self._at_once -= 1

    def _send(self, handler: BaseHTTPRequestHandler, answer: Reply) -> None:
        if answer.silent:
            self._closing.wait()
        if answer.silent or answer.dropped:
            return
        handler.send_response(answer.status)
        handler.send_header("Content-Type", answer.content_type)
        if answer.length is not None:
            handler.send_header("Content-Length", str(answer.length))
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.send_header("Connection", "close")
        handler.end_headers()
        for piece in answer.body:
            handler.wfile.write(piece)


def _handler(server: DemoServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Answer a request."""
            self.close_connection = True
            # A client that gives up closes the connection, which is not an error.
            with suppress(ConnectionError):
                server.serve(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the standard library
            """Log nothing."""

    return Handler


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    """Return a fault that answers with an error status. Underscores in header names become hyphens."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: Reply((body,), code, headers=more, length=len(body))


def silent(answer: Reply) -> Reply:
    """Fault: no answer, so that the client's time-out expires."""
    return replace(answer, silent=True)


def slow(seconds: float) -> Fault:
    """Return a fault that delays the answer."""

    def delayed(answer: Reply) -> Reply:
        time.sleep(seconds)
        return answer

    return delayed


def dropped(answer: Reply) -> Reply:
    """Fault: the connection is closed without an answer."""
    return replace(answer, dropped=True)


def truncated(answer: Reply) -> Reply:
    """Fault: a complete HTTP answer with the first half of the body."""
    body = b"".join(answer.body)
    half = body[: len(body) // 2]
    return replace(answer, body=(half,), length=len(half))


def interrupted(answer: Reply) -> Reply:
    """Fault: the connection is closed after the first half of the body."""
    body = b"".join(answer.body)
    return replace(answer, body=(body[: len(body) // 2],), length=len(body))


def oversized(size: int, *, declared: bool = False) -> Fault:
    """Return a fault: a body of `size` bytes, with or without a `Content-Length` header."""
    return lambda answer: replace(
        answer, body=(PIECE for _ in range(size // len(PIECE))), length=size if declared else None
    )
