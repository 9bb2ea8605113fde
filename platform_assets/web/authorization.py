"""Who may pass: the key that a request brings, how often it may, what its scopes open, and whether its body is JSON.

Before routing, and before the body is read: whoever may not pass learns nothing more, and costs nothing more.
What needs which scope is said once, for all routes, where the application is put together.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request

from platform_assets.base.json_values import JSON
from platform_assets.web.error_answers import Problems, answer
from platform_assets.web.problems import Problem, request_id
from platform_assets.web.rate_limits import UNLIMITED_PATHS
from platform_assets.web.request_identity import Asked

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from platform_assets.web.authentication import Access


@dataclass(frozen=True)
class Gate:
    """What a path demands of whoever asks for it.

    Attributes
    ----------
    path
        Matches it.
    methods
        With which it is asked for.
    scopes
        A key needs one of them.
    json_body
        Whether a body, where one is sent, has to be JSON.
    """

    path: re.Pattern[str]
    methods: frozenset[str]
    scopes: tuple[str, ...]
    json_body: bool = False


def scopes_of(gates: Sequence[Gate], method: str, template: str) -> list[str]:
    """What the gate demands that is before a route, known by the template of its path; nothing without a gate."""
    return [scope for gate in gates if method in gate.methods and gate.path.match(template) for scope in gate.scopes]


class AuthorizationMiddleware:
    """Middleware inside `RequestMiddleware`.

    Parameters
    ----------
    app
        What it stands before.
    access
        Knows who asks, and how often they may.
    gates
        What paths demand; a path without any is for everybody, or its route asks itself.
    problems
        Tells errors to clients.
    """

    def __init__(self, app: ASGIApp, access: Access, gates: Sequence[Gate], problems: Problems) -> None:
        self._app = app
        self._access = access
        self._gates = gates
        self._problems = problems

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or tell why it does not."""
        if scope["type"] != "http" or scope["path"].startswith(UNLIMITED_PATHS):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        try:
            await self._access.identify(request)
            # A session is looked up in the database by whoever needs it; who sends a key is known by now.
            if self._access.brings_key(request):
                headers = self._admit(request)
            else:
                headers = await run_in_threadpool(self._admit, request)
        except Exception as error:
            problem = self._problems.of(request, error)
            if problem is None:
                raise
            response = await run_in_threadpool(answer, request, problem)
            await response(scope, receive, send)
            return
        await self._app(scope, receive, _adding(headers, send))

    def _admit(self, request: Request) -> Mapping[str, str]:
        headers, method, path = self._access.limited(request), request.method, request.scope["path"]
        for gate in self._gates:
            if method in gate.methods and gate.path.match(path):
                caller = self._access.admit(request, *gate.scopes)
                request.state.asked = Asked(caller.key.name, request_id(request))
                if gate.json_body:
                    _demand_json(request)
        return headers


def _demand_json(request: Request) -> None:
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if has_body and kind != JSON:
        told = f"The body is {kind or 'of no type'}; send {JSON}."
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, told, "not-json", headers={"Accept": JSON})


def _adding(headers: Mapping[str, str], send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return sent if headers else send
