"""Rules for the routes of every `api.py`: the scopes that they need and the errors that they document.

An `api.py` defines `router(services)`. A route needs a key with the scope `read` or `predict`. A route that is not a
GET needs `predict` below `/predictions/`, and `label` below `/labels/`. Every route below `/trace/` needs `trace`. A
function that is marked with `checks_access_itself` is exempt. All other functions find the caller in
`request.state.asked`.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi.routing import APIRoute

from platform_assets.web.authentication import LABEL, PREDICT, READ, TRACE
from platform_assets.web.authorization import Gate
from platform_assets.web.direct_routes import direct_app
from platform_assets.web.problems import documented
from platform_assets.web.request_bodies import strict_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fastapi import APIRouter, FastAPI
    from starlette.routing import BaseRoute

Endpoint = TypeVar("Endpoint", bound="Callable[..., Any]")
SENT_BELOW = {"/predictions/": PREDICT, "/labels/": LABEL}
"""Scope that routes with methods other than GET need, by the prefix of their path."""
ALL_BELOW = {"/trace/": TRACE}
"""Scope that all routes need, by the prefix of their path."""
_CHECKS_ITSELF = "checks_access_itself"
"""Attribute by which `checks_access_itself` marks a route's function."""
_OF_ALL = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_OF_BODIES = (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)


def checks_access_itself(endpoint: Endpoint) -> Endpoint:
    """Mark the function of a route that is public, or that checks access and documents its errors itself."""
    setattr(endpoint, _CHECKS_ITSELF, True)
    return endpoint


def gates(routers: Iterable[APIRouter]) -> list[Gate]:
    """Return the access rules of the routes."""
    return [_gate(route) for route in _gated(routers)]


def include(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """Add the routes of routers to an application.

    The routes then parse JSON strictly, and their documentation also lists the errors common to routes of their kind.
    """
    routers = list(routers)
    for route in _gated(routers):
        statuses = (*_OF_ALL, *(_OF_BODIES if route.body_field else ()))
        route.responses = {**documented(*statuses), **route.responses}
    first: list[BaseRoute] = []
    others: list[BaseRoute] = []
    for one in (route for router in routers for route in router.routes):
        answered = direct_app(one) if isinstance(one, APIRoute) else None
        if isinstance(one, APIRoute):
            one.app = answered or strict_app(one)
        (first if answered else others).append(one)
    # Routes are tried in order. The direct routes come first, because they get the most requests. Do not use
    # `include_router`, because FastAPI would then search each router twice.
    app.router.routes[:0] = first
    app.router.routes += others


def _gated(routers: Iterable[APIRouter]) -> Iterator[APIRoute]:
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute) and _scopes(route):
                yield route


def _scopes(route: APIRoute) -> tuple[str, ...]:
    if hasattr(route.endpoint, _CHECKS_ITSELF):
        return ()
    is_sent = (route.methods or set()) != {"GET"}
    for prefix, scope in {**ALL_BELOW, **(SENT_BELOW if is_sent else {})}.items():
        if route.path.startswith(prefix):
            return (scope,)
    return (READ, PREDICT)


def _gate(route: APIRoute) -> Gate:
    return Gate(
        route.path_regex, frozenset(route.methods or ()), _scopes(route), json_body=route.body_field is not None
    )
