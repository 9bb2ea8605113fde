"""The domains' routes: found, documented alike, and behind the same gates.

A domain's `api.py` has `router(services)`, and finds who asks in `request.state.asked`. It says what is answered; who
may ask, how often, what a wrong body is told and how an error looks is the same for all of them, and is said here.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi.routing import APIRoute

from platform_assets.domains import modules_of
from platform_assets.web.authentication import PREDICT, READ
from platform_assets.web.authorization import Gate
from platform_assets.web.problems import documented

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from fastapi import APIRouter, FastAPI

    from platform_assets.services import Services

PREDICTIONS = "/predictions/"
"""Paths below which a key has to be one that may predict."""
_OF_ALL = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_OF_BODIES = (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)


def domain_routers(services: Services, domains: Collection[str] | None = None) -> list[APIRouter]:
    """What each domain with an `api.py` answers, or some of them only."""
    return [module.router(services) for module in modules_of("api", domains)]


def gates(routers: Iterable[APIRouter], *scopes: str) -> list[Gate]:
    """What each of their routes demands: some scopes; by default `predict` to predict, else `read` or `predict`."""
    return [_gate(route, scopes) for router in routers for route in router.routes if isinstance(route, APIRoute)]


def include(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """Add routers to an application, with the problems that any of their routes can answer."""
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute):
                statuses = (*_OF_ALL, *(_OF_BODIES if route.body_field else ()))
                route.responses = {**documented(*statuses), **route.responses}
        app.include_router(router)


def _gate(route: APIRoute, scopes: tuple[str, ...]) -> Gate:
    methods = frozenset(route.methods or ())
    predicts = route.path.startswith(PREDICTIONS) and methods != {"GET"}
    needed = scopes or ((PREDICT,) if predicts else (READ, PREDICT))
    return Gate(route.path_regex, methods, needed, json_body=route.body_field is not None)
