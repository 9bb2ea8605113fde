"""A connection of the HTTP server, with bounds on request heads, trailers, slow clients and open connections.

uvicorn's httptools parser has no such bounds. If a request exceeds a bound, its connection is closed. If the response
has not begun yet, the client first gets problem details (RFC 9457).
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from platform_assets.web.problems import PROBLEM_JSON, REQUEST_ID, TYPE
from platform_assets.web.request_identity import PEER

if TYPE_CHECKING:
    import asyncio

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

LOG = logging.getLogger(__name__)
_WARNING_SECONDS = 60.0
"""Minimum time between two warnings about file descriptors."""
_LINGER_SECONDS = 2.0
"""Time for which a refused client may keep sending, so that it can read the response before the connection is reset."""
_PER_HEADER = len(": \r\n")
_NEVER = float("inf")


@dataclass(frozen=True)
class Bounds:
    """Limits of one connection.

    Attributes
    ----------
    head_bytes
        Maximum size of the request line and headers together; also of the trailers, and of the chunk framing between
        two pieces of a body.
    head_seconds
        Maximum time until the end of a request's head. It starts when the connection opens, the last response ends, or
        the first byte of the request arrives.
    body_seconds
        Maximum time from the end of the head to the end of the body.
    write_seconds
        Maximum time without progress while a response is sent to a client that does not read.
    descriptors
        If a new connection gets this file descriptor number or a higher one, the oldest unfinished connection is
        closed.
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
        """Start the time limit of the first request's head."""
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
        """Whether the server waits for a request, or for the rest of a request."""
        return self._deadline < _NEVER

    def data_received(self, data: bytes) -> None:
        """Parse received bytes; refuse a head, trailers or chunk framing with more than `head_bytes`."""
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
            # Ignore the upgrade, because no other protocol is supported; the request is answered over HTTP/1.1.
            LOG.debug("ignored a request to upgrade the protocol")
        else:
            if self._uncounted > self.bounds.head_bytes:
                self._refuse_head()

    def on_message_begin(self) -> None:
        """Start the time limit of a request's head."""
        super().on_message_begin()
        # uvicorn replaces `client` with the address in X-Forwarded-For, if it trusts the proxy.
        self.scope[PEER] = self.client  # type: ignore[literal-required]  # an entry of our own
        self._receiving = True
        self._deadline = self.loop.time() + self.bounds.head_seconds

    def on_headers_complete(self) -> None:
        """Start the time limit of the body; refuse a head that arrived in one piece but is too large."""
        size = len(self.url) + sum(len(name) + len(value) + _PER_HEADER for name, value in self.headers)
        if size > self.bounds.head_bytes:
            raise _HeadTooLargeError
        self._uncounted = 0
        self._deadline = self.loop.time() + self.bounds.body_seconds
        super().on_headers_complete()
        # Replace the list of headers, because the parser appends trailers to `self.headers`, and the application must
        # get only the headers whose size was checked above.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """Pass on a piece of the body; only the bytes between two pieces count towards `head_bytes`."""
        self._uncounted = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the time limit, because the request is complete."""
        self._uncounted = 0
        self._receiving = False
        self._deadline = _NEVER
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start the time limit of the next request's head."""
        if self._deadline == _NEVER and not self.pipeline:
            self._deadline = self.loop.time() + self.bounds.head_seconds
        super().on_response_complete()

    def shutdown(self) -> None:
        """Close the connection: at once if its request is incomplete, otherwise after the response."""
        if self._receiving:
            self._close()
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        """Start the time limit of a client that does not read."""
        self._write_deadline = self.loop.time() + self.bounds.write_seconds
        super().pause_writing()

    def resume_writing(self) -> None:
        """Stop the time limit for sending, because the client reads again."""
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
                f"The request did not arrive in time: the limit is {bounds.head_seconds:g} s for its head and "
                f"{bounds.body_seconds:g} s for its body.",
                "request-too-slow",
            )
        else:
            # Close without a response, because there is no request.
            self._close()

    def _refuse_head(self) -> None:
        self._refuse(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"The request line and headers, or the trailers, have more than {self.bounds.head_bytes:,} bytes.",
            "head-too-large",
        )

    def _refuse(self, status: HTTPStatus, detail: str, name: str) -> None:
        """Send problem details unless a response has begun, and close the connection."""
        self._refused = True
        request_id = uuid.uuid4().hex
        host = self.client[0] if self.client else "?"
        LOG.info("refused a request from %s with %s: %s", host, int(status), detail, extra={REQUEST_ID: request_id})
        cycle = self._current
        may_answer = cycle is None or cycle.response_complete or not cycle.response_started
        if may_answer and not self.pipeline and not self.transport.is_closing():
            self._drop_cycle()
            self.transport.write(_answer(status, detail, name, request_id))
            self._linger()
        else:
            self._close()

    def _linger(self) -> None:
        # Keep reading for a moment, because closing with unread data resets the connection, and the client might never
        # read the response.
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer.cancel()
        self._timer = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def _close(self) -> None:
        self._drop_cycle()
        self.transport.close()

    def _drop_cycle(self) -> None:
        """Notify the application that the client has disconnected."""
        cycle = self._current
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()

    @property
    def _current(self) -> RequestResponseCycle | None:
        return self.cycle

    def _make_room(self) -> None:
        """Close the oldest connection without a complete request, because file descriptors are running out."""
        kind, now = type(self), time.monotonic()
        if now - kind.warned_at > _WARNING_SECONDS:
            kind.warned_at = now
            LOG.warning(
                "file descriptors are running out: %s connections are open, and the oldest idle or unfinished ones are "
                "closed; to keep more open, raise the limit of open files (`ulimit -n`)",
                len(self.connections),
            )
        others = (one for one in self.connections if isinstance(one, BoundedProtocol) and one is not self)
        oldest = min((one for one in others if one.is_unfinished), key=lambda one: one.opened_at, default=None)
        if oldest is not None:
            oldest.transport.abort()


class _HeadTooLargeError(Exception):
    """The head is too large. Raised in a callback of the parser, which wraps it in its own error."""


def _answer(status: HTTPStatus, detail: str, name: str, request_id: str) -> bytes:
    """Return the bytes of a problem response. The application cannot respond, as it never sees the request."""
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
