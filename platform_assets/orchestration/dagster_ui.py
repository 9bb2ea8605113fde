"""Protect Dagster's UI, which has no sign-in, against pages of other web sites.

Dagster's webserver executes GraphQL mutations that a browser sends for a page of another site, also by GET. Such a page
could start runs on the machine of a person who opens it.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from dagster_webserver import app
from dagster_webserver.webserver import DagsterWebserver
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response

from platform_assets.settings import load_settings, variable
from platform_assets.web.site_guard import SiteGuard

if TYPE_CHECKING:
    from starlette.requests import Request


class GuardedWebserver(DagsterWebserver[Any, Any]):
    """Dagster's webserver behind a `SiteGuard`. It executes GraphQL requests only by POST."""

    def build_middleware(self) -> list[Middleware]:
        """Add the guard in front of Dagster's middleware."""
        guard = Middleware(SiteGuard, address=load_settings().dagster_url, variable=variable("dagster_url"))
        return [guard, *super().build_middleware()]

    async def graphql_http_endpoint(self, request: Request) -> Response:
        """Answer a GraphQL request. GET shows only the page GraphiQL, which takes no parameters.

        The guard cannot detect all GET requests that other sites cause: browsers send no `Origin` for images, and no
        `Sec-Fetch-Site` over plain HTTP. An image or link in a run's Markdown even comes from the UI itself.
        """
        if request.method != "POST" and request.url.query:
            told = "GraphQL requests must use POST.\n"
            return PlainTextResponse(told, HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "POST"})
        response: Response = await super().graphql_http_endpoint(request)
        return response


def guard_webserver() -> None:
    """Make Dagster's webserver in this process use `GuardedWebserver`.

    Dagster has no setting for middleware. Its command creates an instance of the class with this name in the module
    `app`.
    """
    app.DagsterWebserver = GuardedWebserver  # type: ignore[attr-defined]  # imported there, not exported
