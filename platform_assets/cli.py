"""`platform-assets`: the command line. Thin: each command calls what does the work and says what came of it."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from platform_assets.approval import commands as cli_decisions
from platform_assets.base.process_exit import call_and_leave
from platform_assets.domains.sentence_relevance import commands as cli_sentences
from platform_assets.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:
    from platform_assets.operations.run_report import Outcome, Report

app = typer.Typer(
    name="platform-assets",
    help="Data and ML assets on Dagster: run everything, look after it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
demo = typer.Typer(help="Invented sample data.", no_args_is_help=True)
app.add_typer(demo, name="demo")
app.add_typer(cli_decisions.decide, name="decide")
app.add_typer(cli_decisions.keys, name="keys")
app.add_typer(cli_sentences.sentences, name="sentences")
app.command()(cli_decisions.rollback)
app.command()(cli_decisions.export)
app.command()(cli_decisions.audit)
out = cli_decisions.out
err = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


SECONDS_TO_FINISH = 30
"""How long `serve` waits, once it is to stop, for requests that are being answered."""
INTERRUPTED = 130  # what a shell says of a program that Ctrl-C ended
# Most of what a command has in memory are modules. By default Python looks through all of them for garbage again and
# again while it imports, which takes a fifth of a run.
GARBAGE_THRESHOLDS = (10_000, 20, 20)


def program() -> NoReturn:
    """Entry point."""
    call_and_leave(main)


def main() -> None:
    """What the program does: an error that a person can mend is one line on stderr and exit code 1, not a trace."""
    from platform_assets.base.errors import PlatformError

    gc.set_threshold(*GARBAGE_THRESHOLDS)
    try:
        app()
    except (PlatformError, SettingsError) as error:
        err.print(f"[red]{type(error).__name__}[/]: {escape(str(error))}")
        sys.exit(1)


@app.callback()
def _settings(context: typer.Context) -> None:
    from platform_assets.base.logs import configure_logging

    context.obj = settings = load_settings()
    # What is said to people is printed; what is logged is for machines, and only when it matters.
    configure_logging(settings.secrets(), logging.WARNING)


@app.command()
def run(context: typer.Context) -> None:
    """Materialise everything once, say what happened, and exit: 0 when all is well, 1 when not, 130 after Ctrl-C."""
    settings: Settings = context.obj
    source = "demo data unless a source is set" if settings.sources == "demo" else "live sources"
    out.print(f"platform-assets: materialising every asset into {settings.home} ({source})", markup=False)
    _quiet()
    from platform_assets.operations.dead_runs import fail_dead_runs
    from platform_assets.operations.run_report import materialise_all
    from platform_assets.orchestration.storage import dagster_instance

    with dagster_instance(settings) as instance:
        for dead in fail_dead_runs(instance):
            out.print(f"run {dead} was left behind by a process that ended; marked as failed")
        from platform_assets.definitions import defs, services

        try:
            report = materialise_all(defs(), instance, _say, _say_detail)
        finally:
            services().close()
    out.print(_table(report))
    _say_what_next(report, settings)
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)
    if not report.complete:
        raise typer.Exit(1)


@app.command()
def up(context: typer.Context) -> None:
    """Start database, MLflow, service, Dagster's UI and daemon, with automation on; Ctrl-C stops them all."""
    settings: Settings = context.obj
    out.print(f"platform-assets: starting on {settings.home}; logs are in {settings.home / 'logs'}", markup=False)
    from platform_assets.base.home_folder import make_home
    from platform_assets.operations.servers import servers
    from platform_assets.operations.supervisor import Supervisor
    from platform_assets.services import open_services

    services = open_services(settings)
    make_home(settings.home / "logs")
    with Supervisor(servers(services), settings.home / "logs", _say_plainly) as supervisor:
        supervisor.run()


@app.command()
def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines too.")] = "127.0.0.1",
) -> None:
    """Serve the API and the pages where people decide about models; stay until Ctrl-C. Logs go to stderr."""
    settings: Settings = context.obj
    from platform_assets.operations.supervisor import demand_free

    demand_free("the service", settings.service_port, host)
    out.print(f"platform-assets: serving on http://{host}:{settings.service_port}", markup=False)
    import uvicorn

    from platform_assets.app import create_app
    from platform_assets.base.home_folder import make_home
    from platform_assets.base.logs import configure_logging

    make_home(settings.home)
    configure_logging(settings.secrets(), logging.INFO)
    # uvicorn raises the signal again once all requests are answered and the application has ended: that is success.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(
        create_app(settings, host),
        host=host,
        port=settings.service_port,
        # Each request has its line in our log already, with its id.
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SECONDS_TO_FINISH,
    )


@app.command()
def migrate(context: typer.Context) -> None:
    """Bring the databases of the platform, Dagster and MLflow to the versions that this code needs."""
    from platform_assets.database.migrate import migrate as migrate_database
    from platform_assets.database.opening import open_database, open_owner

    settings: Settings = context.obj
    url = settings.database_url.get_secret_value()
    database = open_database(url, settings.home, migrated=False)
    owner = open_owner(settings.migration_database_url.get_secret_value() or url, settings.home)
    done = migrate_database(database, owner)
    out.print("\n".join(done) if done else "every database is at the version that this code needs", markup=False)


@app.command()
def reproduce(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of a registered model, e.g. credit_risk_model.")],
    version: Annotated[int, typer.Argument(min=1, help="Its version in the registry.")],
) -> None:
    """Train a version again from the tables' versions that it names, and say whether it is the same; exit 1 if not."""
    _quiet()
    from platform_assets.domains import model_spec
    from platform_assets.services import open_services

    spec, services = model_spec(model), open_services(context.obj)
    try:
        found = services.trainer.reproduce(spec, version, _say_plainly)
    finally:
        services.close()
    for line in found.told():
        out.print(line, markup=False)
    if not found.same:
        raise typer.Exit(1)


@app.command()
def doctor(context: typer.Context) -> None:
    """Say what is configured, reachable or missing, and how to mend it; exit 1 when something is broken."""
    _quiet()
    from platform_assets.operations.doctor import examine
    from platform_assets.services import open_services

    findings = examine(open_services(context.obj))
    for finding in findings:
        out.print(f"{STATES[finding.state]} {finding.thing}: ", end="")
        out.print(finding.found, markup=False)
        if finding.mend:
            out.print(f"   -> {finding.mend}", markup=False)
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


@demo.command()
def generate(
    folder: Annotated[Path, typer.Argument(help="Where the files go.")],
    rows: Annotated[int, typer.Option(min=1, help="Rows of each file.")] = 20_000,
) -> None:
    """Write the sample data that serves where no source is set."""
    from platform_assets.landing.sample_data import demos

    folder.mkdir(parents=True, exist_ok=True)
    for name, sample in demos().items():
        out.print(str(sample.write(folder / f"{name}{sample.suffix}", rows)), markup=False)


def _say_detail(line: str) -> None:
    out.print(f"      {line}", markup=False)


def _say_plainly(line: str) -> None:
    out.print(line, markup=False)


def _quiet() -> None:
    """Libraries' own chatter off the screen: what matters is in Dagster's history and in our table."""
    warnings.simplefilter("ignore")
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    logging.getLogger("dagster").setLevel(logging.ERROR)
    # When the database goes away, each connection and each lock would tell it with a trace; the report says it once.
    for name in ("sqlalchemy", "platform_assets.orchestration.run_locks"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


STATES = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "broken": "[red]broken[/]"}
SIGNS = {"running": "[cyan]...[/]", "done": "[green]ok[/]", "failed": "[red]FAILED[/]", "skipped": "[yellow]skipped[/]"}


def _say(outcome: Outcome) -> None:
    rows = f" {outcome.rows:,} rows" if outcome.rows is not None else ""
    seconds = f" {outcome.seconds:.1f} s" if outcome.state in {"done", "failed"} else ""
    reason = f" {outcome.reason}" if outcome.reason else ""
    out.print(f"  {SIGNS[outcome.state]} {outcome.asset}{rows}{seconds}", end="")
    out.print(reason, markup=False)


def _sign(outcome: Outcome) -> str:
    """A model that does not pass its gate is there, and may not be used: neither fine nor a failure of the run."""
    return "[yellow]gate FAILED[/]" if outcome.verdict.startswith("FAILED") else SIGNS[outcome.state]


def _table(report: Report) -> Table:
    table = Table(title="What happened")
    for heading in ("asset", ""):
        table.add_column(heading)
    for heading in ("rows", "seconds", "checks passed", "failed", "quarantined"):
        table.add_column(heading, justify="right")
    for outcome in report.outcomes:
        table.add_row(
            outcome.asset,
            _sign(outcome),
            "" if outcome.rows is None else f"{outcome.rows:,}",
            f"{outcome.seconds:.1f}",
            str(len(outcome.passed)),
            str(len(outcome.failed)),
            "" if outcome.quarantined is None else f"{outcome.quarantined:,}",
        )
    return table


def _say_what_next(report: Report, settings: Settings) -> None:
    for outcome in report.outcomes:
        if outcome.verdict:
            out.print(f"{outcome.asset}: quality gate {outcome.verdict}", markup=False)
            out.print(f"{outcome.asset}: {outcome.approval}", markup=False)
        elif outcome.failed:
            out.print(f"{outcome.asset}: these checks do not hold: {', '.join(outcome.failed)}", markup=False)
        if outcome.quarantined:
            out.print(f"{outcome.asset}: the bad rows, with line and reason, are in {outcome.asset}_quarantine")
        if outcome.reason:
            out.print(f"{outcome.asset}: {outcome.reason}", markup=False)
    from platform_assets.base.logs import shown

    where = (
        "in memory, gone with this process; PLATFORM_LAKE_URI keeps them"
        if settings.lake_is_memory
        else shown(settings.lake)
    )
    where = f"Tables: {where}. Run {report.run_id}; look at it with `.venv/bin/dagster dev`."
    out.print(where, markup=False)


if __name__ == "__main__":
    main()
