"""Routes for browsers: sign-in, sign-out, the API documentation, and the start page."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from starlette.responses import RedirectResponse

from platform_assets.web.authentication import SESSION_SECONDS, access_of
from platform_assets.web.openapi import operations
from platform_assets.web.pages import from_elsewhere, render, safe_next
from platform_assets.web.routers import checks_access_itself

if TYPE_CHECKING:
    from platform_assets.services import Services

Token = Annotated[str, Form(max_length=200)]


def router(services: Services) -> APIRouter:
    """Return the routes; a service without a database has no sign-in.

    Parameters
    ----------
    services
        The platform's services.
    """
    routes = APIRouter(include_in_schema=False)
    routes.get("/")(checks_access_itself(go_to_approvals if services.bundle is None else go_to_docs))
    routes.get("/docs")(checks_access_itself(show_api))
    if services.bundle is None:
        routes.get("/sign-in")(checks_access_itself(show_sign_in))
        routes.post("/sign-in")(checks_access_itself(sign_in))
        routes.post("/sign-out")(checks_access_itself(sign_out))
    return routes


def go_to_approvals() -> Response:
    """Redirect to the requests for approval."""
    return RedirectResponse("/approvals", HTTPStatus.SEE_OTHER)


def go_to_docs() -> Response:
    """Redirect to the API documentation."""
    return RedirectResponse("/docs", HTTPStatus.SEE_OTHER)


def show_api(request: Request) -> Response:
    """Show the API documentation."""
    groups: dict[str, list[dict[str, Any]]] = {}
    described = request.app.openapi()
    for path, method, operation in operations(described):
        shown = {"path": path, "method": method, "operation": operation}
        groups.setdefault(operation.get("tags", ["other"])[0], []).append(shown)
    return render(request, "docs.html", api=described, groups=groups)


def show_sign_in(request: Request, next: str = "") -> Response:  # noqa: A002 - the usual name of this parameter
    """Show the sign-in form."""
    return from_elsewhere(request) or _form(request, next)


def sign_in(
    request: Request,
    csrf_token: Token = "",
    key: Annotated[str, Form(max_length=1_000)] = "",
    next: Annotated[str, Form(max_length=1_000)] = "",  # noqa: A002 - the usual name of this parameter
) -> Response:
    """Start a session with a key."""
    access = access_of(request)
    access.sessions.demand_token(access.sessions.of(request), csrf_token)
    session = access.sign_in(request, key.strip()) if key.strip() else None
    if session is None:
        told = "This key is unknown or was revoked." if key.strip() else "Enter your key."
        return _form(request, next, HTTPStatus.UNPROCESSABLE_ENTITY, told)
    response = RedirectResponse(safe_next(next), HTTPStatus.SEE_OTHER)
    access.sessions.keep(request, response, session)
    return response


def sign_out(request: Request, csrf_token: Token = "") -> Response:
    """End the session."""
    access = access_of(request)
    access.sessions.demand_token(access.sessions.of(request), csrf_token)
    response = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    access.sessions.end(request, response)
    return response


def _form(request: Request, target: str, status: int = HTTPStatus.OK, error: str = "") -> Response:
    return render(
        request,
        "sign_in.html",
        status,
        next=safe_next(target),
        error=error,
        hours=SESSION_SECONDS // 3_600,
        can_keep=access_of(request).sessions.can_keep(request),
    )
