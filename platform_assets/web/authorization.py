"""Authorization before routing: check the key, the rate limit, the scope, and the content type of the body.

The body of a refused request is not read. The scopes of all paths are declared in one place, where the application is
assembled.
"""

from __future__ import annotations

import email.message
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from platform_assets.base.json_values import JSON
from platform_assets.web.problems import LONGEST_NAME, Problem, request_id
from platform_assets.web.rate_limits import LIMIT_HEADERS, UNLIMITED_PATHS
from platform_assets.web.request_bodies import refuse_repeated
from platform_assets.web.request_identity import Asked

if TYPE_CHECKING:
    import re
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from platform_assets.web.authentication import Access


@dataclass(frozen=True)
class Gate:
    """Requirements of a path.

    Attributes
    ----------
    path
        Pattern of the path.
    methods
        HTTP methods to which the requirements apply.
    scopes
        The key needs one of these scopes.
    json_body
        Whether a body must be JSON.
    """

    path: re.Pattern[str]
    methods: frozenset[str]
    scopes: tuple[str, ...]
    json_body: bool = False


def scopes_of(gates: Sequence[Gate], method: str, template: str) -> list[str]:
    """Return the scopes that the route with this method and path template accepts; empty if it has no gate."""
    return [scope for gate in gates if method in gate.methods and gate.path.match(template) for scope in gate.scopes]


class AuthorizationMiddleware:
    """Middleware that authorizes requests; it runs inside `RequestMiddleware`.

    Parameters
    ----------
    app
        The application that handles admitted requests.
    access
        Authenticates requests and applies the rate limits.
    gates
        Requirements of paths. A path without a gate is public, or its route checks the access itself.
    """

    def __init__(self, app: ASGIApp, access: Access, gates: Sequence[Gate]) -> None:
        self._app = app
        self._access = access
        methods = {method for gate in gates for method in gate.methods}
        self._gates = {method: [gate for gate in gates if method in gate.methods] for method in methods}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an admitted request on to the application. Raise a `Problem` for a refused request."""
        if scope["type"] == "http" and not scope["path"].startswith(UNLIMITED_PATHS):
            request = Request(scope)
            await self._access.identify(request)
            # Use a thread only if the checks block. `identify` has already looked up the key in the header.
            if self._access.waits(request):
                await run_in_threadpool(self._admit, request)
            else:
                self._admit(request)
        await self._app(scope, receive, send)

    def _admit(self, request: Request) -> None:
        scope = request.scope
        if limits := self._access.limited(request):
            # `RequestMiddleware` adds these headers to the response.
            scope["state"][LIMIT_HEADERS] = [(name.lower().encode(), told.encode()) for name, told in limits.items()]
        if scope["query_string"]:
            refuse_repeated((name for name, _ in request.query_params.multi_items()), "query")
        for gate in self._gates.get(scope["method"], ()):
            if gate.path.match(scope["path"]):
                caller = self._access.admit(request, *gate.scopes)
                request.state.asked = Asked(caller.key.name, request_id(request))
                if gate.json_body:
                    _demand_json(request)


def content_type(request: Request) -> str:
    """Return the type of a request's body in lower case, without parameters; empty if it is not stated.

    Raises
    ------
    Problem
        415: the encoding of the body is not UTF-8, so its texts would be misread.
    """
    stated = request.headers.get("content-type", "")
    if stated == JSON:
        return JSON
    message = email.message.Message()
    message["content-type"] = stated
    charset = message.get_content_charset("utf-8")
    if charset not in {"utf-8", "utf8"}:
        told = f"The body has the encoding {charset[:LONGEST_NAME]!r}; send UTF-8."
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, told, "not-json", headers={"Accept": JSON})
    return stated.partition(";")[0].strip().lower()


def _demand_json(request: Request) -> None:
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    if has_body and content_type(request) != JSON:
        told = f"The content type is {content_type(request) or 'missing'}; send {JSON}."
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, told, "not-json", headers={"Accept": JSON})
