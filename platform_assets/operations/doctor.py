"""Diagnosis of the configuration, the stores and the models, with a fix for each problem.

`examine` changes nothing, but it starts the embedded database, as any command does.
"""

import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from dagster import DagsterRunStatus, RunsFilter

from platform_assets import domains
from platform_assets.base.errors import PlatformError, SourceError
from platform_assets.base.home_folder import is_open_to_all, make_home
from platform_assets.base.logs import shown
from platform_assets.engine.spark_cluster import why_not
from platform_assets.lake.sql_connection import connected
from platform_assets.landing.source_files import trouble_with
from platform_assets.operations.backup_record import newest_backup
from platform_assets.orchestration.executors import demand_extra, step_executor
from platform_assets.services import Services
from platform_assets.settings import Settings, unknown_variables
from platform_assets.web.key_ring import APPROVE, IDENTIFY
from platform_assets.web.limit_windows import trouble_with_redis
from platform_assets.web.openid_connect import Provider

State = Literal["ok", "warning", "broken"]
LEAST_FREE_BYTES = 2 << 30
HEALTH_SECONDS = 3
WEB_ADDRESS = r"https?://[^\s/]"
UNFINISHED = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes
    ----------
    thing
        Name of the checked component.
    state
        `broken` if the platform cannot work until the problem is fixed.
    found
        What the check found.
    fix
        How to solve the problem; empty if there is none.
    """

    thing: str
    state: State
    found: str
    fix: str = ""


Look = Callable[[Services], Iterator[Finding]]
FIXES = {"lake": "correct PLATFORM_LAKE_URI or the credentials of the object store"}
"""Fixes for errors whose message contains no fix."""


def examine(services: Services) -> list[Finding]:
    """Examine everything that the platform needs."""
    findings = [*_environment(services), *_safely("home", _home, services)]
    if findings[-1].state == "broken":
        # Stop here, because all other checks write to PLATFORM_HOME.
        return findings
    looks: dict[str, Look] = {
        "database": _database,
        "history": _history,
        "engine": _engine,
        "executor": _executor,
        "lake": _lake,
        "mlflow": _mlflow,
        "models": _models,
        "backup": _backup,
        "alerts": _alerts,
        "messages": _messages,
        "sign-in": _sign_in,
        "rate limits": _rate_limits,
        "sources": _sources,
        "APIs": _apis,
        "encoders": _encoders,
        "SQL target": _sql_target,
    }
    seen: dict[str, str] = {}
    for thing, look in looks.items():
        for finding in _safely(thing, look, services):
            if finding.state == "broken" and seen.setdefault(finding.found, thing) != thing:
                # Report a problem once. A single problem, such as an unreachable database, often fails several checks.
                findings.append(
                    Finding(finding.thing, "broken", f"not examined: same problem as {seen[finding.found]}")
                )
            else:
                findings.append(finding)
    return findings


def _safely(thing: str, look: Look, services: Services) -> Iterator[Finding]:
    try:
        yield from look(services)
    except PlatformError as error:
        yield Finding(thing, "broken", str(error), FIXES.get(thing, ""))


def _environment(services: Services) -> Iterator[Finding]:
    settings = services.settings
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("environment", "ok", f"{settings.env}, sources {settings.sources}, Python {python}")
    for name, near in unknown_variables([Settings, *domains.settings_classes()]).items():
        yield Finding(
            name, "warning", "is set but is not a known setting", f"did you mean {near}?" if near else "unset it"
        )


def _home(services: Services) -> Iterator[Finding]:
    home = make_home(services.settings.home)
    free = shutil.disk_usage(home).free
    found = f"{home}, {free / (1 << 30):.0f} GiB free"
    if free <= LEAST_FREE_BYTES:
        yield Finding("home", "warning", found, "free some space, or set PLATFORM_HOME to a folder on a larger disk")
    elif is_open_to_all(home):
        found = f"{found}; all users of this machine can open it, and it may contain personal data"
        yield Finding("home", "warning", found, f"run: chmod 700 {shlex.quote(str(home))}")
    else:
        yield Finding("home", "ok", found)


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
        told = f"{found}; the role in PLATFORM_DATABASE_URL owns the ledger, so only triggers protect it from changes"
        fix = "set PLATFORM_MIGRATION_DATABASE_URL to another role, and run `platform-assets migrate`"
        yield Finding("database", "warning", told, fix)
    else:
        yield Finding("database", "ok", found)


def _history(services: Services) -> Iterator[Finding]:
    with services.history() as instance:
        runs, unfinished = instance.get_runs_count(), len(instance.get_runs(RunsFilter(statuses=UNFINISHED)))
    fix = "the job `upkeep` marks runs of dead processes as failed" if unfinished else ""
    yield Finding("history", "ok", f"recorded runs: {runs}, unfinished: {unfinished}", fix)


def _lake(services: Services) -> Iterator[Finding]:
    services.tables.exists("any")
    if services.settings.lake_is_memory:
        fix = "set PLATFORM_LAKE_URI to a folder or an object store"
        yield Finding("lake", "warning", "in memory: the tables are lost when the process that writes them ends", fix)
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
        yield Finding("mlflow", "ok", f"{shown(uri)}, not checked, because it is not a web address")
    elif trouble := _unhealthy(uri):
        fix = "start that server, correct PLATFORM_MLFLOW_TRACKING_URI, or unset it to use the platform's database"
        yield Finding("mlflow", "broken", f"{shown(uri)} {trouble}", fix)
    else:
        yield Finding("mlflow", "ok", shown(uri))


def _models(services: Services) -> Iterator[Finding]:
    promoter = services.promoter
    names = promoter.models()
    problems = [problem for name in names for problem in (*promoter.drifted(name), *promoter.altered(name))]
    if problems:
        fix = "`platform-assets audit` lists all problems; `platform-assets reconcile` corrects aliases"
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        yield Finding("models", "broken", f"{problems[0]}{more}", fix)
    else:
        yield Finding("models", "ok", f"{len(names)} registered; artefacts and versions are unchanged since approval")


def _backup(services: Services) -> Iterator[Finding]:
    newest, longest = newest_backup(services.database), services.settings.backup_days
    found = (
        f"the newest backup was made at {newest.at:%Y-%m-%d %H:%M} UTC, in {newest.place}" if newest else "none exists"
    )
    is_needed = services.settings.env == "production" or newest is not None
    if is_needed and not (newest and newest.is_recent(longest)):
        yield Finding("backup", "warning", found, "run `platform-assets backup DIR`")
    else:
        yield Finding("backup", "ok", found)


def _unhealthy(uri: str) -> str:
    """Return the reason why MLflow's server does not work; empty if it works."""
    import requests

    try:
        answer = requests.get(f"{uri.rstrip('/')}/health", timeout=HEALTH_SECONDS)
    except (requests.RequestException, ValueError) as error:  # some malformed addresses raise a ValueError
        return f"does not respond: {type(error).__name__}"
    return "" if answer.ok else f"fails its health check with HTTP {answer.status_code}"


def _alerts(services: Services) -> Iterator[Finding]:
    settings = services.settings
    webhook = settings.alert_webhook_url.get_secret_value()
    destinations = {address for route in settings.alert_destinations.values() for address in route}
    if not destinations:
        yield Finding("alerts", "ok", "go to the log only, because PLATFORM_ALERT_WEBHOOK_URL is not set")
    else:
        count = "1 receiver" if len(destinations) == 1 else f"{len(destinations)} receivers"
        receivers = "the webhook" if destinations == {webhook} else count
        yield Finding("alerts", "ok", f"go to the log and to {receivers} (not tested with a message)")


def _messages(services: Services) -> Iterator[Finding]:
    if waiting := sum(services.incidents.unsent().values()):
        fix = (
            "see the log for the reason, and correct PLATFORM_ALERT_ROUTES; `platform-assets alerts list --all` shows "
            "the incidents"
        )
        messages = "1 message has" if waiting == 1 else f"{waiting:,} messages have"
        yield Finding("messages", "warning", f"{messages} not yet been accepted by the receiver", fix)
    else:
        yield Finding("messages", "ok", "all messages about incidents were accepted")


def _rate_limits(services: Services) -> Iterator[Finding]:
    url = services.settings.limits_url.get_secret_value()
    if not url:
        yield Finding("rate limits", "ok", "each process of the service counts its own requests")
    elif trouble := trouble_with_redis(url):
        fix = "start Redis or correct PLATFORM_LIMITS_URL; until then, each process counts its own requests"
        yield Finding("rate limits", "warning", f"Redis does not respond: {trouble}", fix)
    else:
        yield Finding("rate limits", "ok", "Redis counts the requests of all processes")


def _sign_in(services: Services) -> Iterator[Finding]:
    settings = services.settings
    ways = services.sign_in
    if not ways.provider and not ways.proxy:
        yield Finding("sign-in", "ok", "with keys only, because neither PLATFORM_OIDC_ISSUER nor a proxy is set")
        return
    key = services.keys.check(ways.secret)
    if key is None or IDENTIFY not in key.scopes:
        told = "PLATFORM_SIGN_IN_KEY is unknown, revoked, or lacks the scope `identify`, so nobody can sign in"
        yield Finding("sign-in", "broken", told, "run `platform-assets keys add sign-in --scope identify`")
    elif not any(one.is_person and APPROVE in one.scopes and not one.revoked_at for one in services.keys.list()):
        fix = "run `platform-assets people add NAME --scope read --scope approve`"
        yield Finding("sign-in", "warning", "no enrolled person has the scope `approve`", fix)
    elif not ways.groups.give_approve:
        fix = "give a group the scope `approve` in PLATFORM_GROUP_SCOPES, or unset PLATFORM_GROUP_SCOPES"
        yield Finding("sign-in", "warning", "PLATFORM_GROUP_SCOPES gives no group the scope `approve`", fix)
    else:
        yield Finding("sign-in", "ok", "the service may sign people in")
    if ways.provider:
        yield _provider(ways.provider)
    if ways.proxy and not settings.proxy_secret.get_secret_value() and ways.proxy.admits_all:
        told = "PLATFORM_PROXY_TRUSTED contains all addresses, so anyone can sign in as any person"
        yield Finding("proxy", "broken", told, "set it to the proxy's addresses only, or set PLATFORM_PROXY_SECRET")
    elif ways.proxy:
        yield Finding("proxy", "ok", f"{settings.proxy_user_header} is accepted from {settings.proxy_trusted}")


def _provider(provider: Provider) -> Finding:
    client = provider.client
    if trouble := provider.examine():
        return Finding("OpenID Connect", "broken", trouble, "start the provider, or correct PLATFORM_OIDC_ISSUER")
    if not re.match(r"https:|http://(localhost|127\.0\.0\.1)[:/]", client.redirect_uri):
        told = f"{client.redirect_uri} has no TLS, so browsers discard the session cookie"
        return Finding("OpenID Connect", "warning", told, "set PLATFORM_SERVICE_URL to https://..")
    found = f"{client.issuer} is reachable; it must allow redirects to {client.redirect_uri}"
    return Finding("OpenID Connect", "ok", found)


def _sql_target(services: Services) -> Iterator[Finding]:
    target = services.sql_target
    if target.is_own:
        yield Finding("SQL target", "ok", "the platform's own database, because no PLATFORM_SQL_TARGET_ setting is set")
        return
    with connected(target):
        yield Finding("SQL target", "ok", f"{target.place} is reachable")


def _sources(services: Services) -> Iterator[Finding]:
    settings = services.settings
    for declared in domains.declared_sources():
        source = services.sources.given(declared)
        if source:
            trouble = trouble_with(source)
            yield Finding(declared.variable, "broken" if trouble else "ok", trouble or "is set and reachable")
        elif settings.sources == "demo":
            yield Finding(
                declared.variable, "ok", f"not set: {services.sources.demo_rows(declared):,} rows of demo data"
            )
        else:
            yield Finding(
                declared.variable,
                "broken",
                "not set",
                "set it to the location of the data, or set PLATFORM_SOURCES=demo",
            )


def _apis(services: Services) -> Iterator[Finding]:
    for declared in domains.declared_apis():
        try:
            yield Finding(declared.name, "ok", declared.describe(services.sources))
        except SourceError as error:
            yield Finding(declared.name, "broken", str(error))


def _engine(services: Services) -> Iterator[Finding]:
    settings = services.settings
    if settings.engine == "duckdb":
        yield Finding("engine", "ok", f"DuckDB, {settings.engine_memory} of memory")
    elif reason := why_not(settings.spark_remote):
        found, _, fix = reason.partition("; ")
        yield Finding("engine", "broken", f"Spark at {settings.spark_remote}: {found}", fix)
    else:
        yield Finding("engine", "ok", f"Spark at {settings.spark_remote} for derived tables, DuckDB for all others")


def _executor(services: Services) -> Iterator[Finding]:
    settings = services.settings
    if "celery" in {settings.executor, settings.run_launcher}:
        yield from _workers(settings)
    with services.history() as instance:
        # Opening the executor or the launcher raises an error if an extra is missing or Kubernetes is configured
        # wrongly.
        step_executor(settings)
        launcher = type(instance.run_launcher).__name__
    yield Finding("executor", "ok", f"steps: {settings.executor}; runs: {settings.run_launcher} ({launcher})")


def _workers(settings: Settings) -> Iterator[Finding]:
    demand_extra("celery")
    from platform_assets.orchestration.celery_app import celery_app, demand_broker, workers_of

    app = celery_app(settings)
    demand_broker(app)
    workers = workers_of(app)
    chosen = {"runs": settings.run_launcher, "steps": settings.executor}
    for queue in (queue for queue, choice in chosen.items() if choice == "celery"):
        number = len(workers[queue])
        fix = "" if number else f"start a worker with `platform-assets worker {queue}`"
        yield Finding(f"workers of {queue}", "ok" if number else "warning", f"{number} registered in Redis", fix)


def _encoders(services: Services) -> Iterator[Finding]:
    for declared in dict.fromkeys(one.encoder for spec in domains.model_specs() for one in spec.candidates):
        if declared is None:
            continue
        files = services.encoders.files(declared)
        trouble = next((told for told in map(trouble_with, files) if told), None)
        if trouble:
            yield Finding(declared.variable, "broken", trouble)
        elif files and (reason := services.encoders.why_not(declared)):
            fix = "run `export EXTRAS=encoder` before `make up`, or unset the variable"
            yield Finding(declared.variable, "warning", f"is set, but {reason}", fix)
        else:
            yield Finding(declared.variable, "ok", "is set and reachable" if files else "not set: no sentence encoder")
