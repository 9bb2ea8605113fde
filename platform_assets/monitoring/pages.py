"""The monitoring pages: all models, and one model with its charts, champions, runs and work list."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Form, Request, Response
from starlette.responses import RedirectResponse

from platform_assets.approval.pages import find_consoles
from platform_assets.base.errors import NotFound
from platform_assets.monitoring import overview
from platform_assets.monitoring.recent_runs import recent_runs
from platform_assets.monitoring.work_list import LABEL_OF, demand_subject, mark, open_tasks
from platform_assets.web.authentication import APPROVE, LABEL, READ, access_of
from platform_assets.web.pages import render
from platform_assets.web.problems import invalid
from platform_assets.web.routers import checks_access_itself

if TYPE_CHECKING:
    from collections.abc import Callable

    from platform_assets.approval.ledger import Ledger
    from platform_assets.database.connections import Database
    from platform_assets.lake.delta_tables import TableStore
    from platform_assets.monitoring.drift.history import DriftHistory
    from platform_assets.monitoring.incidents.store import Incidents
    from platform_assets.monitoring.label_store import Labels
    from platform_assets.settings import Settings
    from platform_assets.training.model_spec import ModelSpec

TEMPLATES = Path(__file__).parent / "templates"
MONITOR = "monitor"
"""Name of the job of the daily measurements."""
Text = Annotated[str, Form(max_length=1_000)]


@dataclass(frozen=True)
class PageSources:
    """Sources of the pages' content. Each function opens its source when a page needs it."""

    settings: Settings
    tables: Callable[[], TableStore]
    ledger: Callable[[], Ledger]
    labels: Callable[[], Labels]
    database: Callable[[], Database]
    incidents: Callable[[], Incidents]
    drift: Callable[[], DriftHistory]


def pages(sources: PageSources) -> APIRouter:
    """Return the routes of the pages."""
    routes = APIRouter(include_in_schema=False)
    _add_all_models(routes, sources)
    _add_model(routes, sources)
    _add_work(routes, sources)
    return routes


def _add_all_models(routes: APIRouter, sources: PageSources) -> None:
    @routes.get("/monitoring")
    @checks_access_itself
    def show_models(request: Request) -> Response:
        """Show all models, and all tables with a failed check."""
        access_of(request).demand(request, READ, APPROVE)
        specs: dict[str, ModelSpec] = request.app.state.models
        return render(
            request,
            "monitoring.html",
            folder=TEMPLATES,
            models=overview.models(sources.tables(), sources.drift(), specs.values()),
            table_alarms=overview.table_alarms(sources.tables()),
            incidents=sources.incidents().list(),
            runs=recent_runs(partial(sources.database().connect, "dagster")),
            consoles=find_consoles(sources.settings, request),
        )


def _add_model(routes: APIRouter, sources: PageSources) -> None:
    @routes.get("/monitoring/{model}")
    @checks_access_itself
    def show_model(request: Request, model: str) -> Response:
        """Show a model's check results, charts, champions, runs and work list."""
        caller = access_of(request).demand(request, READ, APPROVE)
        spec = _spec(request, model)
        is_measured, results, charts = overview.model(sources.tables(), sources.drift(), spec)
        declared = spec.monitoring.work_list
        tasks, number = open_tasks(sources.database().pooled, spec, declared) if declared else ([], 0)
        jobs = [MONITOR, f"train_{model}", f"evaluate_{model}", f"predict_{spec.domain}"]
        return render(
            request,
            "monitoring_model.html",
            folder=TEMPLATES,
            spec=spec,
            is_measured=is_measured,
            results=results,
            charts=charts,
            incidents=[one for one in sources.incidents().list() if model in one.cause],
            champion=sources.ledger().champion(model),
            changes=list(reversed(sources.ledger().changes(model))),
            runs=recent_runs(partial(sources.database().connect, "dagster"), jobs),
            jobs=jobs,
            consoles=find_consoles(sources.settings, request),
            work_list=declared,
            tasks=tasks,
            tasks_in_all=number,
            may_label=LABEL in caller.key.scopes,
        )


def _add_work(routes: APIRouter, sources: PageSources) -> None:
    @routes.post("/monitoring/{model}/work")
    @checks_access_itself
    def mark_task(
        request: Request, model: str, subject: Text = "", at: Text = "", outcome: Text = "", csrf_token: Text = ""
    ) -> Response:
        """Store the outcome of a task, `done` or `wrong`, as a label. Programs should use `POST /labels` instead."""
        access = access_of(request)
        caller = access.demand(request, LABEL)
        access.sessions.demand_token(access.sessions.of(request), csrf_token)
        spec = _spec(request, model)
        if spec.monitoring.work_list is None:
            raise NotFound(f"{model} has no work list.")
        if outcome not in LABEL_OF:
            raise invalid([{"loc": ["body", "outcome"], "msg": f"Send one of {', '.join(LABEL_OF)}."}])
        time = _time(at)
        demand_subject(sources.database().pooled, spec.monitoring.work_list, subject)
        mark(sources.labels(), spec, (subject, time), outcome, caller.key.name)
        return RedirectResponse(f"/monitoring/{model}#work", HTTPStatus.SEE_OTHER)


def _spec(request: Request, model: str) -> ModelSpec:
    specs: dict[str, ModelSpec] = request.app.state.models
    if model not in specs:
        raise NotFound(f"There is no model with this name; the models are {', '.join(sorted(specs))}.")
    return specs[model]


def _time(value: str) -> datetime:
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise invalid([{"loc": ["body", "at"], "msg": "Send the time of the prediction, with its time zone."}])
    return time
