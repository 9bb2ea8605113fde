"""The application: its parts put together, sign-in, health, and its description for programs and people.

No state of its own: what it says comes from the services at each request, so that any number of processes can serve.
"""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager, closing
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

from fastapi import FastAPI, Form, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles

from platform_assets.services import open_services
from platform_assets.serving import approvals
from platform_assets.serving.access import SESSION_SECONDS, Access, Sessions, installation_secret
from platform_assets.serving.guard import Guard
from platform_assets.serving.pages import STATIC, from_elsewhere, render, safe_next
from platform_assets.serving.problems import PROBLEM_SCHEMA, answer_problems

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from platform_assets.core.database import Database
    from platform_assets.core.keys import KeyRing
    from platform_assets.core.ledger import Ledger
    from platform_assets.services import Services
    from platform_assets.settings import Settings

DESCRIPTION = (
    "What the platform's models know, for programs, and the pages where people decide about them. Programs send the "
    "header Authorization: Bearer <key>; errors are problem details (RFC 9457)."
)


def create_app(settings: Settings) -> FastAPI:
    """The application for some settings. Nothing is opened before it is asked for; what is, is closed at the end."""
    return application(open_services(settings), close=True)


def application(services: Services, *, close: bool = False) -> FastAPI:
    """The application over services that are there.

    Parameters
    ----------
    services
        Where ledger, keys and database come from.
    close
        Whether to close them when the application ends.
    """
    settings = services.settings

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if close:
            await run_in_threadpool(services.close)

    app = FastAPI(
        title="platform_assets",
        version=version("platform-assets"),
        description=DESCRIPTION,
        lifespan=lifespan,
        # Theirs load scripts from elsewhere, which no page of ours may.
        docs_url=None,
        redoc_url=None,
    )
    opening = threading.Lock()

    def database() -> Database:
        # Two threads must not open it at once: since Python 3.12 cached properties do not see to it.
        with opening:
            return services.database

    def ledger() -> Ledger:
        database()
        return services.ledger

    def keys() -> KeyRing:
        if not settings.api_keys.get_secret_value():
            database()
        return services.keys

    access = Access(
        keys,
        Sessions(installation_secret(settings.home / "serving"), insecure_loopback=settings.env == "development"),
    )
    app.state.access = access
    app.add_middleware(Guard)
    answer_problems(app, settings.secrets())
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    _add_health(app, database)
    _add_sign_in(app, access)
    _add_docs(app)
    app.include_router(approvals.router(ledger, access))
    return app


def _add_health(app: FastAPI, database: Callable[[], Database]) -> None:
    @app.get("/health/live", tags=["health"])
    async def is_live() -> dict[str, str]:
        """Whether the process answers; needs no key."""
        return {"status": "live"}

    @app.get(
        "/health/ready",
        tags=["health"],
        responses={
            503: {
                "description": "The database does not answer.",
                "content": {"application/problem+json": {"schema": PROBLEM_SCHEMA}},
            }
        },
    )
    def is_ready() -> dict[str, str]:
        """Whether the database answers, without which nothing here does; needs no key."""
        with closing(database().connect("platform")) as connection:
            connection.execute("select 1")
        return {"status": "ready"}


def _add_sign_in(app: FastAPI, access: Access) -> None:
    def form(request: Request, target: str, status: int = HTTPStatus.OK, error: str = "") -> Response:
        hours = SESSION_SECONDS // 3_600
        kept = access.sessions.can_keep(request)
        return render(request, "sign_in.html", status, next=safe_next(target), error=error, hours=hours, can_keep=kept)

    @app.get("/", include_in_schema=False)
    def go_to_approvals() -> Response:
        return RedirectResponse("/approvals", HTTPStatus.SEE_OTHER)

    @app.get("/sign-in", include_in_schema=False)
    def show_sign_in(request: Request, next: str = "") -> Response:  # noqa: A002 - what such a parameter is called
        return from_elsewhere(request) or form(request, next)

    @app.post("/sign-in", include_in_schema=False)
    def sign_in(
        request: Request,
        csrf_token: Annotated[str, Form(max_length=200)] = "",
        key: Annotated[str, Form(max_length=1_000)] = "",
        next: Annotated[str, Form(max_length=1_000)] = "",  # noqa: A002 - what such a parameter is called
    ) -> Response:
        access.sessions.demand_token(access.sessions.of(request), csrf_token)
        session = access.sign_in(key.strip()) if key.strip() else None
        if session is None:
            told = "This key is not known, or was revoked." if key.strip() else "Enter your key."
            return form(request, next, HTTPStatus.UNPROCESSABLE_ENTITY, told)
        response = RedirectResponse(safe_next(next), HTTPStatus.SEE_OTHER)
        access.sessions.keep(request, response, session)
        return response

    @app.post("/sign-out", include_in_schema=False)
    def sign_out(request: Request, csrf_token: Annotated[str, Form(max_length=200)] = "") -> Response:
        access.sessions.demand_token(access.sessions.of(request), csrf_token)
        response = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
        access.sessions.end(request, response)
        return response


def _add_docs(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    def show_api(request: Request) -> Response:
        return render(request, "docs.html", api=app.openapi())
