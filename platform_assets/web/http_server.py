"""The HTTP server: uvicorn with bounds on request heads, trailers, slow clients and open connections.

uvicorn's httptools parser has no such bounds. A request that breaks one is answered with a problem (RFC 9457) where no
answer has begun, and its connection is closed.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httptools
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from platform_assets.web.problems import PROBLEM_JSON, REQUEST_ID, TYPE

if TYPE_CHECKING:
    import asyncio

    from starlette.types import ASGIApp
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

LOG = logging.getLogger(__name__)
SECONDS_TO_FINISH = 10
"""How long a server that was told to stop waits for the requests that it is answering."""
_RESERVED_DESCRIPTORS = 64
"""File descriptors that are kept free for databases, files and the log."""
_WARNING_SECONDS = 60.0
"""Shortest time between two warnings about file descriptors."""
_LINGER_SECONDS = 2.0
"""How long a refused client may go on sending, so that it reads the answer before its connection is reset."""
_PER_HEADER = len(": \r\n")
_NEVER = float("inf")


@dataclass(frozen=True)
class Bounds:
    """What one connection may use.

    Attributes
    ----------
    head_bytes
        Request line and headers together; also the trailers and the chunk framing between two pieces of a body.
    head_seconds
        From opening the connection, from the end of the last answer, or from a request's first byte, to the end of its
        head.
    body_seconds
        From the end of the head to the end of the body.
    write_seconds
        Without reading any of the answer.
    descriptors
        File descriptors of the process, above which the oldest unfinished connection is closed.
    """

    head_bytes: int = 32 * 1024
    head_seconds: float = 10.0
    body_seconds: float = 20.0
    write_seconds: float = 30.0
    descriptors: int = 1 << 30


class BoundedProtocol(HttpToolsProtocol):
    """One connection. It has one timer for its whole life, because a timer for each request would cost more time."""

    bounds = Bounds()
    warned_at = -_NEVER

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.opened_at = self.loop.time()
        self._uncounted = 0
        self._receiving = False
        self._refused = False
        self._write_deadline = _NEVER
        self._deadline = self.opened_at + self.bounds.head_seconds
        self._timer = self.loop.call_later(self.bounds.head_seconds, self._check_time)
        connected = transport.get_extra_info("socket")
        if connected is not None and connected.fileno() >= self.bounds.descriptors:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._timer.cancel()
        super().connection_lost(exc)

    @property
    def is_unfinished(self) -> bool:
        """Whether the client has a request to send, or the rest of one."""
        return self._deadline < _NEVER

    def data_received(self, data: bytes) -> None:
        """Parse what came; refuse a head, trailers or chunk framing beyond the bound."""
        if self._refused:
            return
        self._unset_keepalive_if_required()
        self._uncounted += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, _HeadTooLargeError):
                self._refuse_head()
            else:
                self._refuse(HTTPStatus.BAD_REQUEST, "The request is not valid HTTP/1.1.", "invalid-http")
        except httptools.HttpParserUpgrade:
            # There is no other protocol to change to; the request is answered over HTTP/1.1.
            LOG.debug("a request to change the protocol was ignored")
        else:
            if self._uncounted > self.bounds.head_bytes:
                self._refuse_head()

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._receiving = True
        self._deadline = self.loop.time() + self.bounds.head_seconds

    def on_headers_complete(self) -> None:
        """End the head; refuse one that is too large although it came in one piece."""
        size = len(self.url) + sum(len(name) + len(value) + _PER_HEADER for name, value in self.headers)
        if size > self.bounds.head_bytes:
            raise _HeadTooLargeError
        self._uncounted = 0
        self._deadline = self.loop.time() + self.bounds.body_seconds
        super().on_headers_complete()
        # Trailers must not become headers of a request whose headers were checked already.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._uncounted = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request; the client waits for its answer now."""
        self._uncounted = 0
        self._receiving = False
        self._deadline = _NEVER
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        if self._deadline == _NEVER and not self.pipeline:
            self._deadline = self.loop.time() + self.bounds.head_seconds
        super().on_response_complete()

    def shutdown(self) -> None:
        """End the connection, at once where the client has not sent its whole request."""
        if self._receiving:
            self._close()
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not read."""
        self._write_deadline = self.loop.time() + self.bounds.write_seconds
        super().pause_writing()

    def resume_writing(self) -> None:
        """Go on writing."""
        self._write_deadline = _NEVER
        super().resume_writing()

    def _check_time(self) -> None:
        now = self.loop.time()
        if self._write_deadline <= now:
            self.transport.abort()
        elif self._deadline <= now:
            self._end_slow_request()
        else:
            soonest = min(self._deadline, self._write_deadline, now + self.bounds.head_seconds)
            self._timer = self.loop.call_at(soonest, self._check_time)

    def _end_slow_request(self) -> None:
        if self._receiving:
            bounds = self.bounds
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT,
                f"The request did not arrive in time: its head has {bounds.head_seconds:g} s, its body "
                f"{bounds.body_seconds:g} s.",
                "request-too-slow",
            )
        else:
            # Nothing was asked, so there is nothing to answer.
            self._close()

    def _refuse_head(self) -> None:
        self._refuse(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"The request line and headers, or the trailers, have more than {self.bounds.head_bytes:,} bytes.",
            "head-too-large",
        )

    def _refuse(self, status: HTTPStatus, detail: str, name: str) -> None:
        """Answer with a problem if no answer has begun, and close."""
        self._refused = True
        request_id = uuid.uuid4().hex
        host = self.client[0] if self.client else "?"
        LOG.info("refused a request of %s with %s: %s", host, int(status), detail, extra={REQUEST_ID: request_id})
        cycle = self._current
        may_answer = cycle is None or cycle.response_complete or not cycle.response_started
        if may_answer and not self.pipeline and not self.transport.is_closing():
            self._drop_cycle()
            self.transport.write(_answer(status, detail, name, request_id))
            self._linger()
        else:
            self._close()

    def _linger(self) -> None:
        # With data unread, closing would reset the connection, and the client might never read the answer.
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer.cancel()
        self._timer = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def _close(self) -> None:
        self._drop_cycle()
        self.transport.close()

    def _drop_cycle(self) -> None:
        """Tell the application that the client is gone."""
        cycle = self._current
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()

    @property
    def _current(self) -> RequestResponseCycle | None:
        return self.cycle

    def _make_room(self) -> None:
        """Close the oldest connection without a whole request, because file descriptors run out."""
        kind, now = type(self), time.monotonic()
        if now - kind.warned_at > _WARNING_SECONDS:
            kind.warned_at = now
            LOG.warning(
                "file descriptors run out: %s connections are open; the oldest idle and unfinished ones are closed "
                "(raise the limit of open files, `ulimit -n`, for more)",
                len(self.connections),
            )
        others = (one for one in self.connections if isinstance(one, BoundedProtocol) and one is not self)
        oldest = min((one for one in others if one.is_unfinished), key=lambda one: one.opened_at, default=None)
        if oldest is not None:
            oldest.transport.abort()


class _HeadTooLargeError(Exception):
    """Raised in a callback of the parser, which wraps it."""


def run(app: ASGIApp, host: str, port: int) -> None:
    """Serve an application until Ctrl-C or SIGTERM.

    Raises
    ------
    SystemExit
        The server could not start.
    """
    serving = server(app, host=host, port=port)
    with suppress(KeyboardInterrupt):
        serving.run()
    if not serving.started:
        sys.exit(STARTUP_FAILURE)


def server(app: ASGIApp, bounds: Bounds | None = None, **options: Any) -> uvicorn.Server:
    """Return a server for an application; `run` it.

    Parameters
    ----------
    app
        The application.
    bounds
        Of each connection; the default raises this process's limit of file descriptors as far as it may, and keeps
        some of them free.
    options
        Further arguments of `uvicorn.Config`, such as `host` and `port`.
    """
    kept = Bounds(descriptors=_raise_descriptors() - _RESERVED_DESCRIPTORS) if bounds is None else bounds
    protocol = type("PlatformProtocol", (BoundedProtocol,), {"bounds": kept})
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        # Each request has its own line in the platform's log, with its id.
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SECONDS_TO_FINISH,
        # By default uvicorn takes it from WEB_CONCURRENCY, and then needs the application's import path.
        workers=1,
        **options,
    )
    return uvicorn.Server(config)


def _raise_descriptors() -> int:
    """Raise the soft limit of file descriptors to the hard one; the limit that holds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1 << 16 if hard == resource.RLIM_INFINITY else min(hard, 1 << 16)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft


def _answer(status: HTTPStatus, detail: str, name: str, request_id: str) -> bytes:
    """A problem as it goes over the connection; the application's middleware never sees such a request."""
    problem = {
        "type": f"{TYPE}{name}",
        "title": name.replace("-", " ").capitalize(),
        "status": int(status),
        "detail": detail,
        "instance": "",
        REQUEST_ID: request_id,
    }
    body = json.dumps(problem).encode()
    head = (
        f"HTTP/1.1 {int(status)} {status.phrase}\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {len(body)}\r\n"
        f"x-request-id: {request_id}\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + body
