"""What is configured, reachable or missing, and how to mend it. Looks, and changes nothing.

Opening the embedded database starts it, as any command does.
"""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from dagster import DagsterRunStatus, RunsFilter

from platform_assets import domains
from platform_assets.base.errors import PlatformError
from platform_assets.base.home_folder import make_home
from platform_assets.base.logs import shown
from platform_assets.landing.source_files import trouble_with
from platform_assets.orchestration.storage import dagster_instance
from platform_assets.services import Services
from platform_assets.settings import Settings, unknown_variables

State = Literal["ok", "warning", "broken"]
LEAST_FREE_BYTES = 2 << 30
HEALTH_SECONDS = 3
WEB_ADDRESS = r"https?://[^\s/]"
UNFINISHED = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    thing
        Its name.
    state
        `broken` things keep the platform from working.
    found
        What was found.
    mend
        What helps, where something is wrong.
    """

    thing: str
    state: State
    found: str
    mend: str = ""


Look = Callable[[Services], Iterator[Finding]]
MENDS = {"lake": "mend PLATFORM_LAKE_URI, or the credentials of the object store"}
"""What helps where the error does not say it."""


def examine(services: Services) -> list[Finding]:
    """Look at everything that the platform needs, one thing after the other."""
    findings = [*_environment(services), *_safely("home", _home, services)]
    if findings[-1].state == "broken":
        # Whatever else there is keeps something in it.
        return findings
    looks: dict[str, Look] = {
        "database": _database,
        "history": _history,
        "lake": _lake,
        "mlflow": _mlflow,
        "alerts": _alerts,
        "sources": _sources,
    }
    return findings + [finding for thing, look in looks.items() for finding in _safely(thing, look, services)]


def _safely(thing: str, look: Look, services: Services) -> Iterator[Finding]:
    try:
        yield from look(services)
    except PlatformError as error:
        yield Finding(thing, "broken", str(error), MENDS.get(thing, ""))


def _environment(services: Services) -> Iterator[Finding]:
    settings = services.settings
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("environment", "ok", f"{settings.env}, sources {settings.sources}, Python {python}")
    for name, near in unknown_variables([Settings, *domains.settings_classes()]).items():
        yield Finding(name, "warning", "is set and read by nobody", f"did you mean {near}?" if near else "unset it")


def _home(services: Services) -> Iterator[Finding]:
    home = make_home(services.settings.home)
    free = shutil.disk_usage(home).free
    state: State = "ok" if free > LEAST_FREE_BYTES else "warning"
    mend = "" if state == "ok" else "make room, or set PLATFORM_HOME to a larger disk"
    yield Finding("home", state, f"{home}, {free / (1 << 30):.0f} GiB free", mend)


def _database(services: Services) -> Iterator[Finding]:
    with services.database.connect("platform") as connection:
        row = connection.execute(
            "select current_setting('server_version'), pg_has_role(relowner, 'usage')"
            " from pg_class where oid = 'platform.approval_events'::regclass"
        ).fetchone()
    version, owns_ledger = row or ("?", False)
    kind = "embedded" if services.database.embedded else "external"
    found = f"{kind} PostgreSQL {version}, migrated"
    if owns_ledger:
        told = f"{found}; the role of PLATFORM_DATABASE_URL owns the record of decisions, which only triggers protect"
        mend = "let another role own it: set PLATFORM_MIGRATION_DATABASE_URL, and run `platform-assets migrate`"
        yield Finding("database", "warning", told, mend)
    else:
        yield Finding("database", "ok", found)


def _history(services: Services) -> Iterator[Finding]:
    with dagster_instance(services.settings) as instance:
        runs, unfinished = instance.get_runs_count(), len(instance.get_runs(RunsFilter(statuses=UNFINISHED)))
    mend = "the job `upkeep` marks those as failed whose process is gone" if unfinished else ""
    yield Finding("history", "ok", f"{runs} runs, {unfinished} of them not finished", mend)


def _lake(services: Services) -> Iterator[Finding]:
    services.tables.exists("any")
    if services.settings.lake_is_memory:
        mend = "set PLATFORM_LAKE_URI to a folder or an object store"
        yield Finding("lake", "warning", "in memory: the tables end with the process that writes them", mend)
    else:
        yield Finding("lake", "ok", shown(services.settings.lake))
        for table, reason_and_fix in services.tables.damage():
            yield Finding(table, "broken", reason_and_fix)


def _mlflow(services: Services) -> Iterator[Finding]:
    uri = services.settings.mlflow_tracking_uri.get_secret_value()
    if not uri:
        services.database.connect("mlflow").close()
        yield Finding("mlflow", "ok", "in the platform's database")
    elif not re.match(WEB_ADDRESS, uri):
        yield Finding("mlflow", "ok", f"{shown(uri)}, not looked at: no web address")
    elif trouble := _unhealthy(uri):
        mend = "start that server, or mend PLATFORM_MLFLOW_TRACKING_URI; empty, it stands for the platform's database"
        yield Finding("mlflow", "broken", f"{shown(uri)} {trouble}", mend)
    else:
        yield Finding("mlflow", "ok", shown(uri))


def _unhealthy(uri: str) -> str:
    """Why MLflow's server at an address cannot be worked with; nothing where it can."""
    import requests

    try:
        answer = requests.get(f"{uri.rstrip('/')}/health", timeout=HEALTH_SECONDS)
    except (requests.RequestException, ValueError) as error:  # the latter for some addresses that are none
        return f"does not answer: {type(error).__name__}"
    return "" if answer.ok else f"answers {answer.status_code} when asked for its health"


def _alerts(services: Services) -> Iterator[Finding]:
    url = services.settings.alert_webhook_url.get_secret_value()
    if not url:
        yield Finding("alerts", "ok", "go to the log only: PLATFORM_ALERT_WEBHOOK_URL is not set")
    elif re.match(WEB_ADDRESS, url):
        yield Finding("alerts", "ok", "go to the webhook, which was not called, and to the log")
    else:
        mend = "set it to https://.., or to nothing: then alerts go to the log only"
        yield Finding("alerts", "broken", "PLATFORM_ALERT_WEBHOOK_URL is no web address", mend)


def _sources(services: Services) -> Iterator[Finding]:
    settings = services.settings
    for declared in domains.declared_sources():
        source = services.sources.given(declared)
        if source:
            trouble = trouble_with(source)
            yield Finding(declared.variable, "broken" if trouble else "ok", trouble or "is set and can be reached")
        elif settings.sources == "demo":
            yield Finding(declared.variable, "ok", f"not set: {settings.demo_rows:,} rows of demo data")
        else:
            yield Finding(declared.variable, "broken", "not set", "name the source, or set PLATFORM_SOURCES=demo")
