"""The HTTP application, with the routes from the `api.py` of each subpackage and each domain.

The service can run as any number of processes, because they share only the database, the lake and, if configured,
the rate limits in Redis.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, nullcontext
from importlib.metadata import version
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.staticfiles import StaticFiles

from platform_assets.base.discovery import modules_named
from platform_assets.base.errors import PlatformError
from platform_assets.domains import api_modules, model_spec, model_specs, traced_answers
from platform_assets.services import open_services
from platform_assets.serving.prometheus import LimitsCollector, Metrics, ShadowMetrics
from platform_assets.serving.worker_metrics import WorkersMetrics
from platform_assets.web.authentication import Access, is_loopback
from platform_assets.web.authorization import AuthorizationMiddleware
from platform_assets.web.browser_sessions import Sessions
from platform_assets.web.error_answers import Problems
from platform_assets.web.middleware import RequestMiddleware
from platform_assets.web.openapi import DescribedApp
from platform_assets.web.pages import STATIC
from platform_assets.web.rate_limits import RateLimits
from platform_assets.web.routers import gates, include

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from fastapi import APIRouter, FastAPI
    from starlette.types import Scope

    from platform_assets.monitoring.incidents.watch import Watch
    from platform_assets.services import Services
    from platform_assets.settings import Settings
    from platform_assets.training.model_spec import ModelSpec
    from platform_assets.web.workers import Worker

DESCRIPTION = (
    "Predictions, features and approval requests. Programs send the header Authorization: Bearer <key>. Errors are "
    "problem details (RFC 9457)."
)


def create_app(settings: Settings, host: str = "", worker: Worker | None = None) -> FastAPI:
    """Build the application from settings. The application opens services on first use and closes them on shutdown.

    Parameters
    ----------
    settings
        The platform's settings.
    host
        Address that the server listens on. In development, a loopback address allows requests without a key.
    worker
        Identifies this process among several workers; None if the service has only one process.
    """
    return application(open_services(settings, traced_answers), close=True, host=host, worker=worker)


def application(services: Services, *, close: bool = False, host: str = "", worker: Worker | None = None) -> FastAPI:
    """Build the application from services.

    Parameters
    ----------
    services
        The platform's services.
    close
        Whether to close the services on shutdown.
    host, worker
        As for `create_app`.
    """
    settings, bundle = services.settings, services.bundle
    is_open = settings.env == "development" and is_loopback(host)
    if bundle and not is_open:
        _require_keys(settings)
    specs = [model_spec(bundle.model)] if bundle else model_specs()
    app = DescribedApp(
        title="platform_assets",
        version=version("platform-assets"),
        description=DESCRIPTION,
        lifespan=_lifespan(services, specs, close=close, watches=worker is None or worker.is_first),
        # Disable FastAPI's documentation pages. They load scripts from other sites, which the Content-Security-Policy
        # forbids.
        docs_url=None,
        redoc_url=None,
        # Do not redirect paths with a missing or extra trailing slash. The redirect would repeat the request's `Host`
        # header, which a client may forge.
        redirect_slashes=False,
        # Disable the framework's telemetry, because `prometheus.py` and `middleware.py` already count and log requests.
        telemetry={"metrics": False, "logs": False},
    )
    redis = settings.limits_url.get_secret_value()
    limits = None if is_open else RateLimits(settings.rate_limit, redis, is_alone=worker is None)
    sessions = Sessions(insecure_loopback=settings.env == "development")
    access = Access(lambda: services.keys, sessions, limits, open_locally=is_open, sign_in=services.sign_in)
    online = None if bundle else services.online
    metrics = Metrics(services.predictor, services.live_models.state, services.prediction_log, online)
    if services.shadows is not None:
        metrics.registry.register(ShadowMetrics(services.shadows))
    if limits is not None and redis:
        metrics.registry.register(LimitsCollector(limits))
    problems = Problems(settings.secrets())
    app.state.access, app.state.decides = access, bundle is None
    app.state.metrics = metrics if worker is None else WorkersMetrics(metrics.registry, worker)
    app.state.models = {spec.name: spec for spec in specs}
    routers = _routers(services, specs)
    app.gates = gates(routers)
    app.add_middleware(AuthorizationMiddleware, access=access, gates=app.gates)
    meanwhile = nullcontext if bundle else services.async_reads.meanwhile
    app.add_middleware(RequestMiddleware, count=_counting(services, metrics), problems=problems, meanwhile=meanwhile)
    include(app, routers)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


def _routers(services: Services, specs: Sequence[ModelSpec]) -> list[APIRouter]:
    """Return the routers. Domains come first, because routes are tried in order and most requests are predictions."""
    domains = {spec.domain for spec in specs} if services.bundle else None
    modules = [*api_modules(domains), *modules_named("api", __package__ or "platform_assets")]
    return [module.router(services) for module in modules]


def _counting(services: Services, metrics: Metrics) -> Callable[[Scope, int, float], None]:
    """Return a function that counts each response in Prometheus and, if the service has a database, in the database."""
    if services.bundle:
        return metrics.count_request

    def count(scope: Scope, status: int, seconds: float) -> None:
        metrics.count_request(scope, status, seconds)
        services.request_statistics.count(scope, status, seconds)

    return count


def _lifespan(
    services: Services, specs: Sequence[ModelSpec], *, close: bool, watches: bool
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if not services.live_models.state():
            services.live_models.start([spec.name for spec in specs])
        if services.shadows is not None:
            services.shadows.start()
        # Monitor the services only if this application owns them (`close`). Otherwise, the caller monitors them.
        watch = _started_watch(services, specs) if close and watches and not services.bundle else None
        yield
        if watch:
            await run_in_threadpool(watch.close)
        if close:
            # Closing the services also writes the queued predictions.
            await run_in_threadpool(services.close)

    return lifespan


def _started_watch(services: Services, specs: Sequence[ModelSpec]) -> Watch:
    owners = {spec.name: spec.owners for spec in specs}
    watch = services.watch(expects_daemon=services.settings.automation == "on", owners=owners)
    watch.start()
    return watch


def _require_keys(settings: Settings) -> None:
    """Refuse to start a service that would refuse every request."""
    if not settings.api_keys.get_secret_value():
        raise PlatformError(
            "the service runs without a database, and PLATFORM_API_KEYS is not set, so it would refuse every request. "
            "Set PLATFORM_API_KEYS to name:predict+read:sha256, with the SHA-256 of the key "
            "(`printf %s KEY | sha256sum`)"
        )
