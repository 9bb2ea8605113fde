"""The application: its parts put together, sign-in, and its description for programs and people.

No state of its own but the models in memory: what it says comes from the services at each request, so that any number
of processes can serve.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, nullcontext
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Form, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles

from platform_assets.approval import api as approvals
from platform_assets.base.errors import PlatformError
from platform_assets.domains import model_spec, model_specs
from platform_assets.services import open_services
from platform_assets.serving import api as live
from platform_assets.serving.prometheus import Metrics
from platform_assets.web.authentication import READ, SESSION_SECONDS, Access, Sessions, installation_secret, is_loopback
from platform_assets.web.authorization import Admission, Gate, scopes_of
from platform_assets.web.middleware import Guard
from platform_assets.web.pages import STATIC, from_elsewhere, render, safe_next
from platform_assets.web.problems import Problems
from platform_assets.web.rate_limits import RateLimits
from platform_assets.web.routers import domain_routers, gates, include

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from platform_assets.services import Services
    from platform_assets.settings import Settings

KEY = "key"
"""What the API's description calls the key in the header."""
NEEDS_KEY = str(int(HTTPStatus.UNAUTHORIZED))
DESCRIPTION = (
    "What the platform's models know, for programs, and the pages where people decide about them. Programs send the "
    "header Authorization: Bearer <key>; errors are problem details (RFC 9457)."
)


class Service(FastAPI):
    """The application, whose description also says which routes need a key."""

    gates: Sequence[Gate] = ()

    def openapi(self) -> dict[str, Any]:
        """The description, as OpenAPI."""
        if self.openapi_schema is None:
            described = super().openapi()
            described.setdefault("components", {})["securitySchemes"] = {KEY: {"type": "http", "scheme": "bearer"}}
            for path, method, operation in _operations(described):
                if NEEDS_KEY in operation["responses"]:
                    operation["security"] = [{KEY: scopes_of(self.gates, method, path)}]
        assert self.openapi_schema is not None  # noqa: S101 - what the above makes
        return self.openapi_schema


def create_app(settings: Settings, host: str = "") -> FastAPI:
    """The application for some settings. Nothing is opened before it is asked for; what is, is closed at the end.

    Parameters
    ----------
    settings
        Of the service.
    host
        The address that it listens on. Only on one that no other machine reaches, and in development, may programs ask
        without a key.
    """
    return application(open_services(settings), close=True, host=host)


def application(services: Services, *, close: bool = False, host: str = "") -> FastAPI:
    """The application over services that are there.

    Parameters
    ----------
    services
        Where ledger, keys, models and database come from.
    close
        Whether to close them when the application ends.
    host
        As for `create_app`.
    """
    settings, bundle = services.settings, services.bundle
    is_open = settings.env == "development" and is_loopback(host)
    if bundle and not is_open:
        _demand_keys(settings)
    specs = [model_spec(bundle.model)] if bundle else model_specs()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if not services.live_models.state():
            services.live_models.start([spec.name for spec in specs])
        yield
        if close:
            # Which also writes what was answered to its log.
            await run_in_threadpool(services.close)

    app = Service(
        title="platform_assets",
        version=version("platform-assets"),
        description=DESCRIPTION,
        lifespan=lifespan,
        # Theirs load scripts from elsewhere, which no page of ours may.
        docs_url=None,
        redoc_url=None,
        # What is counted and logged, `metrics.py` and `guard.py` say.
        telemetry={"metrics": False, "logs": False},
    )
    access = Access(
        lambda: services.keys,
        Sessions(installation_secret(settings.home / "serving"), insecure_loopback=settings.env == "development"),
        None if is_open else RateLimits(settings.rate_limit),
        open_locally=is_open,
    )
    kept, problems = Metrics(services), Problems(settings.secrets())
    domains = {spec.domain for spec in specs} if bundle else None
    routers = [*domain_routers(services, domains), live.live_models(services.live_models.state)]
    measured = live.metrics(kept)
    app.state.access, app.state.decides = access, bundle is None
    app.gates = [*gates(routers), *gates([measured], READ)]
    app.add_middleware(Admission, access=access, gates=app.gates, problems=problems)
    meanwhile = nullcontext if bundle else services.async_reads.meanwhile
    app.add_middleware(Guard, metrics=kept, problems=problems, meanwhile=meanwhile)
    problems.answered_by(app)
    # Programs ask most, and routes are tried in this order; so people read about them.
    include(app, routers)
    if not bundle:
        _add_sign_in(app, access)
        app.include_router(approvals.router(lambda: services.ledger, access))
    app.include_router(live.health(None if bundle else lambda: services.database, services.live_models.state))
    include(app, [measured])
    _add_docs(app, "/docs" if bundle else "/approvals")
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


def _demand_keys(settings: Settings) -> None:
    """Refuse to start where nobody could ever ask."""
    if not settings.api_keys.get_secret_value():
        raise PlatformError(
            "nobody could ask this service, for it has no database with keys: set PLATFORM_API_KEYS to "
            "name:predict+read:sha256, the last of the key (`printf %s KEY | sha256sum`)"
        )


def _add_sign_in(app: FastAPI, access: Access) -> None:
    def form(request: Request, target: str, status: int = HTTPStatus.OK, error: str = "") -> Response:
        hours = SESSION_SECONDS // 3_600
        kept = access.sessions.can_keep(request)
        return render(request, "sign_in.html", status, next=safe_next(target), error=error, hours=hours, can_keep=kept)

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
        session = access.sign_in(request, key.strip()) if key.strip() else None
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


def _add_docs(app: FastAPI, first_page: str) -> None:
    @app.get("/", include_in_schema=False)
    def go_to_first_page() -> Response:
        return RedirectResponse(first_page, HTTPStatus.SEE_OTHER)

    @app.get("/docs", include_in_schema=False)
    def show_api(request: Request) -> Response:
        groups: dict[str, list[dict[str, Any]]] = {}
        for path, method, operation in _operations(app.openapi()):
            shown = {"path": path, "method": method, "operation": operation}
            groups.setdefault(operation.get("tags", ["other"])[0], []).append(shown)
        return render(request, "docs.html", api=app.openapi(), groups=groups)


def _operations(described: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            yield path, method.upper(), operation
