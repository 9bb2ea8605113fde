"""The outermost middleware: request id, body limit, response headers, HEAD, and the request log.

It is plain ASGI, so that it also covers responses that other middleware makes, and unhandled exceptions.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from contextlib import nullcontext
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from platform_assets.base.errors import DatabaseError
from platform_assets.web.error_answers import Problems, answer
from platform_assets.web.problems import LONGEST_NAME, REQUEST_ID, RETRY_SECONDS, Problem
from platform_assets.web.rate_limits import LIMIT_HEADERS, LIMIT_NAMES
from platform_assets.web.request_log import Line, RequestLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from platform_assets.web.request_identity import Asked

    Header = tuple[bytes, bytes]


LOG = logging.getLogger(__name__)
HEADER = "X-Request-ID"
HEALTH_PATH = "/health/"
"""Prefix of the paths that a health check requests every few seconds."""
MAX_BODY_BYTES = 512 * 1024
"""Maximum size of a request body in bytes; 1,000 short texts fit."""
LOGGED_SECONDS = 5.0
"""Longest wait for the prediction log, if predictions are logged before the response is sent."""
BUSY_SECONDS = 0.05
"""After two overlapping requests, assume concurrent load for this long."""
CLIENT_GONE = 499
"""Logged status of a request whose client disconnected before it had sent the whole body. nginx logs the same code."""
_REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
SECURE_HEADERS = {
    # Browsers run no scripts on these pages, so an injected script would have no effect.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_DIGITS = 18
_SECURE_HEADERS = tuple((name.lower().encode(), value.encode()) for name, value in SECURE_HEADERS.items())
_CACHE_CONTROL = b"cache-control"
_OF_ANSWERS = (*_SECURE_HEADERS, (_CACHE_CONTROL, b"no-store"))
_OF_STATIC_FILES = (*_SECURE_HEADERS, (_CACHE_CONTROL, b"no-cache"))
_ADDED_NAMES = {*LIMIT_NAMES, *(name for name, _ in _OF_ANSWERS)}
_REQUEST_ID_HEADER = HEADER.lower().encode()
# Refuse repeated headers, because a proxy in front may use a different value than this service.
_SINGLE = (b"host", b"authorization", b"content-type", b"content-encoding")
_HSTS = (b"strict-transport-security", b"max-age=31536000")


class RequestMiddleware:
    """Middleware around the whole application. It turns all exceptions into responses.

    Parameters
    ----------
    app
        The wrapped application.
    count
        Function that is called after each response with the request's scope, the status and the duration in seconds.
    problems
        Turns exceptions into error responses.
    meanwhile
        Context manager for the application's lifetime. It takes a function, which the event loop calls while a database
        query is in flight; see `AsyncReads.meanwhile`.
    """

    def __init__(
        self,
        app: ASGIApp,
        count: Callable[[Scope, int, float], None],
        problems: Problems,
        meanwhile: Callable[[Callable[[], None]], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._app = app
        self._count = count
        self._problems = problems
        self._meanwhile = meanwhile
        self._requests = RequestLog(LOG)
        self._load = _Load()
        # Do not use `uuid4`, because it makes a system call for each id.
        self._names = random.Random()  # noqa: S311 - request ids are not secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle HTTP requests; pass other ASGI scopes through."""
        if scope["type"] == "lifespan":
            try:
                with self._meanwhile(self._write_log_if_idle):
                    await self._app(scope, receive, send)
            finally:
                self._requests.write()
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # If a header is repeated, use the first.
        headers = dict(reversed(scope["headers"]))
        asked = _text(headers, _REQUEST_ID_HEADER)
        state = scope.setdefault("state", {})
        state[REQUEST_ID] = asked if _REQUEST_ID.fullmatch(asked) else f"{self._names.getrandbits(128):032x}"
        exchange = _Exchange(scope, headers, receive, send, self._problems)
        try:
            with self._load:
                await exchange.run(self._app)
        finally:
            # Schedule this for later, so that the response is sent first.
            asyncio.get_running_loop().call_soon(self._note, exchange, exchange.seconds)

    def _write_log_if_idle(self) -> None:
        """Write buffered log lines while a query is in flight, if requests are not concurrent.

        Under concurrent load, writing more lines at once is cheaper.
        """
        if not self._load.is_concurrent:
            self._requests.write()

    def _note(self, exchange: _Exchange, seconds: float) -> None:
        """Count a response and buffer its log line.

        Successful health checks are not logged, because they arrive every few seconds.
        """
        self._count(exchange.scope, exchange.status, seconds)
        if exchange.status != HTTPStatus.OK or not exchange.scope["path"].startswith(HEALTH_PATH):
            self._requests.add(exchange.line(seconds))


class _Load:
    """Detects concurrent requests."""

    def __init__(self) -> None:
        self._requests = 0
        self._until = 0.0

    @property
    def is_concurrent(self) -> bool:
        return self._requests > 1 or time.perf_counter() < self._until

    def __enter__(self) -> None:
        self._requests += 1
        if self._requests > 1:
            self._until = time.perf_counter() + BUSY_SECONDS

    def __exit__(self, *_: object) -> None:
        self._requests -= 1


class _Exchange:
    """One request and its response."""

    def __init__(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, send: Send, problems: Problems
    ) -> None:
        self._method: str = scope["method"]
        # Handle HEAD as GET, in a copy of the scope. The original keeps HEAD, so that the server omits the body.
        self.scope = {**scope, "method": "GET"} if self._method == "HEAD" else scope
        self._headers = headers
        self._receive, self._send = receive, send
        self._problems = problems
        self._id: str = scope["state"][REQUEST_ID]
        self._began = time.perf_counter()
        self._received = 0
        self._is_received = False
        self._is_replaced = False
        self.status = 0

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    async def run(self, app: ASGIApp) -> None:
        try:
            problem = self._refusal()
            if problem is not None:
                await self._answer(problem)
            else:
                await app(self.scope, self.receive, self.send)
        # Catch everything, because no traceback may reach the client.
        except Exception as error:
            if self.status == CLIENT_GONE:
                return
            problem = self._problems.of(Request(self.scope), error)
            if problem is None or self.status:
                LOG.exception("%s %s failed", self._method, self.scope["path"], extra={REQUEST_ID: self._id})
            if self.status:
                raise
            detail = f"An internal error occurred. The log has the details under the request id {self._id}."
            await self._answer(problem or Problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail))

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            if not self._is_received and not self.status:
                self.status = CLIENT_GONE
            return message
        self._is_received = not message.get("more_body", False)
        self._received += len(message.get("body", b""))
        if self._received > MAX_BODY_BYTES:
            raise _too_large()
        return message

    async def send(self, message: Message) -> None:
        """Send an ASGI message of the application, or problem details if the predictions could not be logged."""
        if self._is_replaced:
            return
        is_start = message["type"] == "http.response.start"
        if is_start and self._waits_for_log and (failure := await self._logging_failure()) is not None:
            # Do not raise the problem, because Starlette would assume that the response has begun.
            self._is_replaced = True
            await self._answer(failure)
            return
        await self._deliver(message)

    async def _deliver(self, message: Message) -> None:
        if self.status == CLIENT_GONE:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self._added(message["headers"])]
        elif self._method == "HEAD":
            message = {**message, "body": b""}
        await self._send(message)

    @property
    def _waits_for_log(self) -> bool:
        asked: Asked | None = self.scope["state"].get("asked")
        return asked is not None and bool(asked.logging)

    async def _logging_failure(self) -> Problem | None:
        """Wait until the predictions in the response are logged; return the reason if logging failed."""
        asked: Asked = self.scope["state"]["asked"]
        while asked.logging:
            logged = asyncio.wrap_future(asked.logging.pop())
            try:
                await asyncio.wait_for(logged, LOGGED_SECONDS)
            except (DatabaseError, TimeoutError) as error:
                LOG.warning(
                    "a prediction could not be logged, so its request gets 503: %r", error, extra={REQUEST_ID: self._id}
                )
                return Problem(
                    DatabaseError.status,
                    "The prediction could not be logged, but this service must log it before it responds. Try again in "
                    "a moment.",
                    DatabaseError.problem,
                    headers={"Retry-After": str(RETRY_SECONDS)},
                )
        return None

    def _added(self, given: Iterable[Header]) -> list[Header]:
        """Return the headers that every response gets, except those that the application has set."""
        # Browsers may cache static files, which contain no data of the platform, but must revalidate them.
        common = _OF_STATIC_FILES if self.scope["path"].startswith("/static/") else _OF_ANSWERS
        there = {name for name, _ in given}
        limits: Sequence[Header] = self.scope["state"].get(LIMIT_HEADERS, ())
        if there.isdisjoint(_ADDED_NAMES):
            added = [*limits, *common]
        else:
            added = [pair for pair in (*limits, *common) if pair[0] not in there]
        added.append((_REQUEST_ID_HEADER, self._id.encode()))
        if self.scope["scheme"] == "https":
            added.append(_HSTS)
        return added

    async def _answer(self, problem: Problem) -> None:
        response = await run_in_threadpool(answer, Request(self.scope), problem)
        await response(self.scope, self.receive, self._deliver)

    def _refusal(self) -> Problem | None:
        """Return the reason if the request is refused before its body is read; None if it is not refused."""
        if len(self._headers) < len(self.scope["headers"]) and self._repeats():
            told = f"Send each of the headers {', '.join(name.decode() for name in _SINGLE)} at most once."
            return Problem(HTTPStatus.BAD_REQUEST, told, "header-repeated")
        if self._declared_length() > MAX_BODY_BYTES:
            return _too_large()
        encoding = _text(self._headers, b"content-encoding").strip().lower()
        if encoding not in {"", "identity"}:
            return Problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"The body has the content encoding {encoding[:LONGEST_NAME]!r}; send it unencoded.",
                "body-encoded",
                headers={"Accept-Encoding": "identity"},
            )
        return None

    def _repeats(self) -> bool:
        names = [name for name, _ in self.scope["headers"]]
        return any(names.count(name) > 1 for name in _SINGLE)

    def _declared_length(self) -> int:
        text = _text(self._headers, b"content-length")
        # Cut the text, because Python refuses to parse a number with thousands of digits.
        return int(text[:_DIGITS]) if text.isascii() and text.isdigit() else 0

    def line(self, seconds: float) -> Line:
        extra = {
            REQUEST_ID: self._id,
            "status": self.status,
            "milliseconds": round(1000 * seconds, 1),
            # `authentication.py` sets this attribute.
            "asked_by": self.scope["state"].get("asked_by"),
        }
        return Line(self._method, self.scope["path"], self.status, extra)


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str:
    """Return a header of the request; empty if it is missing."""
    return headers[name].decode("latin-1") if name in headers else ""


def _too_large() -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body has more than {MAX_BODY_BYTES:,} bytes; split it into several requests.",
        "body-too-large",
    )
