"""Routes for browsers: sign-in, sign-out, the API documentation, and the start page."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from starlette.responses import RedirectResponse

from platform_assets.web.authentication import access_of
from platform_assets.web.browser_sessions import SESSION_SECONDS
from platform_assets.web.openapi import operations
from platform_assets.web.openid_connect import FLOW_SECONDS, Flow
from platform_assets.web.pages import from_elsewhere, render, safe_next, signed_in_page
from platform_assets.web.problems import Problem
from platform_assets.web.routers import checks_access_itself
from platform_assets.web.sign_in import PERSON_SECONDS

if TYPE_CHECKING:
    from platform_assets.services import Services
    from platform_assets.web.authentication import Access
    from platform_assets.web.openid_connect import Provider

Token = Annotated[str, Form(max_length=200)]


def router(services: Services) -> APIRouter:
    """Return the routes. They include the sign-in only if the service has a database.

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
        routes.get("/sign-in/oidc")(checks_access_itself(begin_at_provider))
        routes.get("/sign-in/callback")(checks_access_itself(return_from_provider))
        routes.post("/sign-in/proxy")(checks_access_itself(sign_in_through_proxy))
        routes.post("/sign-out")(checks_access_itself(sign_out))
    return routes


def go_to_approvals() -> Response:
    """Redirect to the list of approval requests."""
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
    """Begin a session for the owner of a key."""
    access = access_of(request)
    access.sessions.demand_token(access.sessions.of(request), csrf_token)
    session = access.sign_in(request, key.strip()) if key.strip() else None
    if session is None:
        told = "This key is unknown or was revoked." if key.strip() else "Enter your key."
        return _form(request, next, HTTPStatus.UNPROCESSABLE_ENTITY, told)
    response = RedirectResponse(safe_next(next), HTTPStatus.SEE_OTHER)
    access.sessions.keep(request, response, session)
    return response


def begin_at_provider(request: Request, next: str = "") -> Response:  # noqa: A002 - the usual name of this parameter
    """Send the browser to the OpenID Connect provider."""
    access = access_of(request)
    address, flow = _provider(access).begin(safe_next(next))
    response = RedirectResponse(address, HTTPStatus.SEE_OTHER)
    access.sessions.keep_flow(request, response, flow.sealed(access.ways.flow_key), FLOW_SECONDS)
    return response


def return_from_provider(request: Request) -> Response:
    """Begin a session for a person after the sign-in at the OpenID Connect provider."""
    access = access_of(request)
    provider = _provider(access)
    flow = Flow.opened(access.sessions.take_flow(request), access.ways.flow_key)
    session = access.sign_in_person(provider.finish(flow, request.query_params))
    # Return a page instead of a redirect. The browser treats a redirect as part of the navigation that the provider
    # began, and therefore would not send the session's `SameSite=Strict` cookie.
    response = signed_in_page(flow.next)
    access.sessions.keep(request, response, session, PERSON_SECONDS)
    access.sessions.end_flow(request, response)
    return response


def sign_in_through_proxy(
    request: Request,
    csrf_token: Token = "",
    next: Annotated[str, Form(max_length=1_000)] = "",  # noqa: A002 - the usual name of this parameter
) -> Response:
    """Begin a session for the person whom the trusted proxy names."""
    access = access_of(request)
    access.sessions.demand_token(access.sessions.of(request), csrf_token)
    identity = access.proxied(request)
    if identity is None:
        raise Problem(
            HTTPStatus.UNAUTHORIZED,
            "The proxy did not send the name of a person. Sign in at the proxy first.",
            "key-needed",
        )
    session = access.sign_in_person(identity)
    response = RedirectResponse(safe_next(next), HTTPStatus.SEE_OTHER)
    access.sessions.keep(request, response, session, PERSON_SECONDS)
    return response


def _provider(access: Access) -> Provider:
    if access.ways.provider is None:
        told = "OpenID Connect is not configured (PLATFORM_OIDC_ISSUER is not set). Sign in with a key."
        raise Problem(HTTPStatus.NOT_FOUND, told)
    return access.ways.provider


def sign_out(request: Request, csrf_token: Token = "") -> Response:
    """End the session in the database, and delete its cookie."""
    access = access_of(request)
    access.sessions.demand_token(access.sessions.of(request), csrf_token)
    access.sign_out(request)
    response = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    access.sessions.end(request, response)
    return response


def _form(request: Request, target: str, status: int = HTTPStatus.OK, error: str = "") -> Response:
    access = access_of(request)
    return render(
        request,
        "sign_in.html",
        status,
        next=safe_next(target),
        error=error,
        hours=SESSION_SECONDS // 3_600,
        person_hours=PERSON_SECONDS // 3_600,
        can_keep=access.sessions.can_keep(request),
        provider=access.ways.provider,
        proxied=access.proxied(request),
    )
