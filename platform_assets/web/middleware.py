"""What stands before every request: its id, the limit of its body, the headers of its answer, its line in the log.

Plain ASGI and outermost, so that nothing leaves without it, whatever fails inside.
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

from platform_assets.web.error_answers import Problems, answer
from platform_assets.web.problems import REQUEST_ID, Problem
from platform_assets.web.request_log import Line, RequestLog

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from contextlib import AbstractContextManager

    from starlette.types import ASGIApp, Message, Receive, Scope, Send


LOG = logging.getLogger(__name__)
HEADER = "X-Request-ID"
MAX_BODY_BYTES = 512 * 1024
"""A thousand short messages fit in."""
CROWD_SECONDS = 0.05
"""So long after two requests beside each other, others are expected to be."""
_REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
SECURE_HEADERS = {
    # No script at all, so that text of others that slipped through could not run.
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
_REQUEST_ID_HEADER = HEADER.lower().encode()
_CACHE_CONTROL = b"cache-control"
_HSTS = (b"strict-transport-security", b"max-age=31536000")


class RequestMiddleware:
    """Middleware around the whole application.

    Parameters
    ----------
    app
        What it stands before.
    count
        Called after each answer, with the request's scope, the status and the seconds that it took.
    problems
        Tells errors to clients.
    meanwhile
        A context for the application's life, in which the event loop does what it is given while requests wait for the
        database.
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
        self._crowd = _Crowd()
        # Without asking the kernel for each, as `uuid4` does.
        self._names = random.Random()  # noqa: S311 - they name requests, and guard nothing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; what is none passes."""
        if scope["type"] == "lifespan":
            try:
                with self._meanwhile(self._write_for_one):
                    await self._app(scope, receive, send)
            finally:
                self._requests.write()
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = _header(scope, _REQUEST_ID_HEADER)
        state = scope.setdefault("state", {})
        state[REQUEST_ID] = asked if _REQUEST_ID.fullmatch(asked) else f"{self._names.getrandbits(128):032x}"
        exchange = _Exchange(scope, receive, send, self._problems)
        try:
            with self._crowd:
                await exchange.run(self._app)
        finally:
            # The loop sends the answer first: nobody waits for what is written down about it.
            asyncio.get_running_loop().call_soon(self._note, scope, exchange, exchange.seconds)

    def _write_for_one(self) -> None:
        """Write what waits while the only client waits for the database; for many, several lines at once take less."""
        if not self._crowd.is_there:
            self._requests.write()

    def _note(self, scope: Scope, exchange: _Exchange, seconds: float) -> None:
        """Count an answer; its line is written soon."""
        self._count(scope, exchange.status, seconds)
        self._requests.add(exchange.line(seconds))


class _Crowd:
    """Whether requests come beside each other of late, or one after the other, as a single client's do."""

    def __init__(self) -> None:
        self._requests = 0
        self._until = 0.0

    @property
    def is_there(self) -> bool:
        return self._requests > 1 or time.perf_counter() < self._until

    def __enter__(self) -> None:
        self._requests += 1
        if self._requests > 1:
            self._until = time.perf_counter() + CROWD_SECONDS

    def __exit__(self, *_: object) -> None:
        self._requests -= 1


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, problems: Problems) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._problems = problems
        self._id: str = scope["state"][REQUEST_ID]
        self._began = time.perf_counter()
        self._received = 0
        self.status = 0

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    async def run(self, app: ASGIApp) -> None:
        try:
            if self._declared_length() > MAX_BODY_BYTES:
                await self._answer(_too_large())
            else:
                await app(self._scope, self.receive, self.send)
        # The last place that can keep a stack trace from the client.
        except Exception as error:
            problem = self._problems.of(Request(self._scope), error)
            if problem is None or self.status:
                LOG.exception("%s %s failed", self._scope["method"], self._scope["path"], extra={REQUEST_ID: self._id})
            if self.status:
                raise
            told = f"Something went wrong here. Whoever runs this service finds it in the log as {self._id}."
            await self._answer(problem or Problem(HTTPStatus.INTERNAL_SERVER_ERROR, told))

    async def receive(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self._received > MAX_BODY_BYTES:
            raise _too_large()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self._added({name for name, _ in message["headers"]})]
        await self._send(message)

    def _added(self, there: Collection[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """The headers that every answer has, but those that this one has of its own."""
        # Written as they go over the line: this is done for each answer.
        yield _REQUEST_ID_HEADER, self._id.encode()
        yield from (pair for pair in _SECURE_HEADERS if pair[0] not in there)
        if _CACHE_CONTROL not in there:
            # What a page needs besides its text holds nothing of anybody; browsers ask whether it has changed.
            yield _CACHE_CONTROL, b"no-cache" if self._scope["path"].startswith("/static/") else b"no-store"
        if self._scope["scheme"] == "https":
            yield _HSTS

    async def _answer(self, problem: Problem) -> None:
        response = await run_in_threadpool(answer, Request(self._scope), problem)
        await response(self._scope, self.receive, self.send)

    def _declared_length(self) -> int:
        text = _header(self._scope, b"content-length")
        # Python refuses to read a number of thousands of digits.
        return int(text[:_DIGITS]) if text.isascii() and text.isdigit() else 0

    def line(self, seconds: float) -> Line:
        extra = {
            REQUEST_ID: self._id,
            "status": self.status,
            "milliseconds": round(1000 * seconds, 1),
            # Set by `authentication.py`, once it knows.
            "asked_by": self._scope["state"].get("asked_by"),
        }
        return Line(self._scope["method"], self._scope["path"], self.status, extra)


def _header(scope: Scope, name: bytes) -> str:
    """What a request says under a name; nothing where it says nothing."""
    return next((str(value, "latin-1") for key, value in scope["headers"] if key == name), "")


def _too_large() -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body has more than {MAX_BODY_BYTES:,} bytes; send less, in several requests.",
        "body-too-large",
    )
