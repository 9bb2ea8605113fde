"""Routes for operations: liveness, readiness, live models, and metrics for Prometheus."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, TypeAdapter

from platform_assets.base.json_values import JSON
from platform_assets.serving.live_models import ModelState
from platform_assets.serving.prometheus import CONTENT_TYPE
from platform_assets.web.authentication import READ, access_of
from platform_assets.web.paging import ItemsPerPage, Page, PageNumber
from platform_assets.web.problems import RETRY_SECONDS, Problem, documented
from platform_assets.web.remembered_keys import RememberedKeys
from platform_assets.web.routers import checks_access_itself

if TYPE_CHECKING:
    from platform_assets.services import Services
    from platform_assets.serving.live_models import LiveModel
    from platform_assets.serving.shadow_scoring import ShadowState


ModelName = Annotated[str, Field(description="Name of the registered model.", examples=["credit_risk_model"])]


class Live(BaseModel):
    """Response of a live process."""

    status: Literal["live"] = "live"


class ReadyModel(BaseModel):
    """State of a model, for monitoring."""

    model: ModelName
    version: Annotated[int | None, Field(description="The live version; null if there is none.")]
    failure: Annotated[
        str | None,
        Field(description="Why the champion cannot be loaded; null if there is no failure.", examples=[None]),
    ]
    failing_since: Annotated[datetime | None, Field(examples=[None])]
    reload_failures: Annotated[
        int, Field(description="Failed attempts to load a champion since the service started.", examples=[0])
    ]


class Ready(BaseModel):
    """Response of a ready service."""

    status: Literal["ready"] = "ready"
    without_champion: Annotated[
        list[str], Field(description="Models without a live version.", examples=[["sentence_relevance_model"]])
    ]
    models: list[ReadyModel]
    rate_limits: Annotated[
        Literal["shared", "per_process", "off"],
        Field(
            description="Whether requests are counted for all processes together, or by each process. If "
            "PLATFORM_LIMITS_URL is set, `per_process` means that Redis does not answer.",
            examples=["per_process"],
        ),
    ]


class ChampionLive(BaseModel):
    """The live version of a model."""

    version: Annotated[int, Field(examples=[3])]
    digest: Annotated[str, Field(description="SHA-256 of the model's file.", examples=["9f86d081884c7d65" * 4])]
    approval_id: Annotated[int, Field(description="Approval request of this version.")]
    threshold: Annotated[
        float | None,
        Field(
            description="Score from which a prediction is positive; null for a model that makes no decisions.",
            examples=[0.0655],
        ),
    ]
    metrics: Annotated[
        dict[str, float],
        Field(
            description="Metrics on the test set, as recorded in the approval request.", examples=[{"roc_auc": 0.81}]
        ),
    ]
    demo: Annotated[bool, Field(description="Whether the model was trained on sample data.")]
    loaded_since: datetime


class ShadowLive(BaseModel):
    """The shadow version, which scores the same requests as the live version."""

    version: Annotated[int, Field(examples=[4])]
    approval_id: Annotated[int, Field(description="Pending approval request of this version.")]
    until: Annotated[datetime, Field(description="Latest time at which the shadow ends.")]
    loaded: Annotated[bool, Field(description="Whether this process has loaded the version.")]
    failure: Annotated[
        str | None,
        Field(
            description="Why the version could not be loaded or could not score the most recent row; null if it could.",
            examples=[None],
        ),
    ]


class ModelLive(BaseModel):
    """A declared model and its live version."""

    model: ModelName
    champion: Annotated[ChampionLive | None, Field(description="The live version; null if there is none.")]
    failure: Annotated[
        str | None,
        Field(description="Why the champion cannot be loaded; null if there is no failure.", examples=[None]),
    ]
    shadow: Annotated[
        ShadowLive | None, Field(description="The running shadow; null if there is none.", examples=[None])
    ]


_MODELS = TypeAdapter(list[ModelLive])


def router(services: Services) -> APIRouter:
    """Return the routes.

    Parameters
    ----------
    services
        The platform's services.
    """
    routes = APIRouter()
    _add_models(routes, services)
    _add_health(routes, services)
    return routes


def _add_models(routes: APIRouter, services: Services) -> None:
    @routes.get("/models", response_model=list[ModelLive], tags=["models"])
    def list_live_models(request: Request, page: PageNumber = 0, items_per_page: ItemsPerPage = 50) -> Response:
        """List the declared models, each with its live version."""
        states = services.live_models.state()
        shown = Page(page, items_per_page, len(states), request.url.path, request.query_params.multi_items())
        shadows = services.shadows.state() if services.shadows else {}
        found = [
            ModelLive(
                model=name,
                champion=_champion(state.live),
                failure=state.failure,
                shadow=_shadow(shadows.get(name)),
            )
            for name, state in shown.of(sorted(states.items(), key=lambda one: one[0]))
        ]
        return Response(_MODELS.dump_json(found), media_type=JSON, headers=dict(shown.headers))


def _add_health(routes: APIRouter, services: Services) -> None:
    keys = RememberedKeys()

    @routes.get("/health/live", response_model=Live, tags=["health"])
    @checks_access_itself
    async def is_live() -> Live:
        """Check that the process responds. No key is needed."""
        return Live()

    @routes.get(
        "/health/ready", response_model=Ready, responses=documented(HTTPStatus.SERVICE_UNAVAILABLE), tags=["health"]
    )
    @checks_access_itself
    def is_ready(request: Request) -> Ready:
        """Check that the database responds and that every model was looked up. No key is needed."""
        if services.bundle is None:
            # Use the shared pool, so that frequent probes open no further connections.
            services.database.reads.rows(b"select 1")
        states = services.live_models.state()
        waiting = [name for name, state in states.items() if state.looked_at is None and state.failure is None]
        if waiting:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"The service has just started and is still loading {', '.join(waiting)}.",
                "starting",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )
        broken = [state.failure for state in states.values() if state.live is None]
        if services.bundle and broken:
            # A service that serves a bundle has only the bundle's model, so it is not ready until the model is loaded.
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "; ".join(map(str, broken)), "no-champion")
        return Ready(
            without_champion=[name for name, state in states.items() if state.live is None],
            models=[_ready(name, state) for name, state in states.items()],
            rate_limits=access_of(request).rate_limits,
        )

    @routes.get(
        "/metrics",
        response_class=Response,
        responses={
            200: {
                "content": {"text/plain": {"schema": {"type": "string"}, "example": "platform_database_up 1.0\n"}},
                "description": "The metrics.",
            },
            **documented(401, 403, 429, 503),
        },
        tags=["health"],
    )
    @checks_access_itself
    def show_metrics(request: Request) -> Response:
        """Return the metrics in Prometheus's text format.

        Needs a key with the scope `read`. While the database is unavailable, a key that has read the metrics within
        the last hour is still accepted.
        """
        keys.admit(request, READ)
        return Response(request.app.state.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _ready(name: str, state: ModelState) -> ReadyModel:
    return ReadyModel(
        model=name,
        version=state.live.version if state.live else None,
        failure=state.failure,
        failing_since=state.failing_since,
        reload_failures=state.reload_failures,
    )


def _shadow(state: ShadowState | None) -> ShadowLive | None:
    if state is None:
        return None
    return ShadowLive(
        version=state.shadow.version,
        approval_id=state.shadow.request_id,
        until=state.shadow.until,
        loaded=state.model is not None,
        failure=state.failure,
    )


def _champion(live: LiveModel | None) -> ChampionLive | None:
    if live is None:
        return None
    return ChampionLive(
        version=live.version,
        digest=live.digest,
        approval_id=live.approval_id,
        threshold=live.threshold,
        metrics=dict(live.metrics),
        demo=live.demo,
        loaded_since=live.loaded_at,
    )
