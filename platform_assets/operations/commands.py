"""The commands of operations: run, up, worker, migrate, doctor, table, readiness, upkeep, backup, restore and erase."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from platform_assets.base.command_line import out, say
from platform_assets.base.logs import quiet_libraries
from platform_assets.landing.commands import demo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from platform_assets.operations.run_report import Outcome, Report
    from platform_assets.settings import Settings

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells report it."""
STATES = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "broken": "[red]broken[/]"}
SIGNS = {"running": "[cyan]...[/]", "done": "[green]ok[/]", "failed": "[red]FAILED[/]", "skipped": "[yellow]skipped[/]"}

commands = typer.Typer()
table = typer.Typer(help="Manage tables of the lake.", no_args_is_help=True)
commands.add_typer(table, name="table")


@commands.command()
def run(context: typer.Context) -> None:
    """Materialise every asset once and print a summary. Exit 0 on success, 1 on failure, 130 after Ctrl-C."""
    settings: Settings = context.obj.settings
    source = "demo data unless a source is set" if settings.sources == "demo" else "live sources"
    out.print(f"platform-assets: materialising every asset into {settings.home} ({source})", markup=False)
    quiet_libraries()
    from platform_assets.operations.dead_runs import fail_dead_runs
    from platform_assets.operations.run_report import materialise_all

    _clean_scratch(settings)
    with context.obj.services.history() as instance:
        for dead in fail_dead_runs(instance):
            out.print(f"run {dead} was marked as failed, because its process has died")
        report = materialise_all(context.obj.find_definitions(), instance, _say, _say_detail)
    out.print(_table(report))
    _say_what_next(report, settings)
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)
    if not report.complete:
        raise typer.Exit(1)


@commands.command()
def up(context: typer.Context) -> None:
    """Start the database, MLflow, the service, and Dagster's UI and daemon, with automation on. Ctrl-C stops them."""
    settings: Settings = context.obj.settings
    out.print(
        f"platform-assets: starting with home {settings.home}; logs are in {settings.home / 'logs'}", markup=False
    )
    from platform_assets.base.home_folder import make_home
    from platform_assets.operations.servers import DatabaseWatch, servers, watched
    from platform_assets.operations.supervisor import Supervisor
    from platform_assets.operations.up_lock import DatabaseClaim, only_one_up

    _clean_scratch(settings)
    services = context.obj.services
    make_home(settings.home, "logs")
    started = servers(services)
    with (
        only_one_up(settings.home, started),
        DatabaseClaim(services.database, settings.home) as claim,
        Supervisor(started, settings.home / "logs", say, DatabaseWatch(services, say, claim)) as supervisor,
        watched(services),
    ):
        supervisor.run()


@commands.command()
def worker(
    context: typer.Context,
    queue: Annotated[
        Literal["runs", "steps"],
        typer.Argument(help="Kind of work: runs (PLATFORM_RUN_LAUNCHER=celery) or steps (PLATFORM_EXECUTOR=celery)."),
    ],
    processes: Annotated[int, typer.Option(min=1, help="Number of runs or steps to execute at the same time.")] = 1,
) -> None:
    """Execute runs or steps that other machines put into a Redis queue. Stop with Ctrl-C. Logs go to stderr.

    After the first Ctrl-C, the worker finishes its current work. The second Ctrl-C aborts this work.
    """
    from platform_assets.orchestration.executors import demand_extra

    demand_extra("celery")
    from platform_assets.operations.worker import work

    # Import the definitions before Celery forks the worker processes, so that they inherit the imported modules.
    # Each worker process executes only one run or step, so importing in each process would be slow.
    context.obj.find_definitions()
    work(context.obj.services, queue, processes)


@commands.command()
def migrate(
    context: typer.Context,
    adopt_lake: Annotated[bool, typer.Option("--adopt-lake", help="Bind the database to this lake.")] = False,  # noqa: FBT002 - how Typer declares a flag
) -> None:
    """Upgrade the databases of the platform, Dagster and MLflow, and record the approval policies."""
    from platform_assets.approval.policy import policy_as_json
    from platform_assets.database.migrate import Rules
    from platform_assets.database.migrate import migrate as migrate_database
    from platform_assets.database.opening import open_database, open_owner
    from platform_assets.domains import model_specs
    from platform_assets.lake.lake_identity import bind_lake, place_of, refuse_other_lake

    settings: Settings = context.obj.settings
    url = settings.database_url.get_secret_value()
    database = open_database(url, settings.home, migrated=False)
    owner = open_owner(settings.migration_database_url.get_secret_value() or url, settings.home)
    policies = {spec.name: policy_as_json(spec.approval) for spec in model_specs()}
    if not adopt_lake:
        refuse_other_lake(owner, settings.lake)
    done = migrate_database(database, owner, rules=Rules(settings.identity_required, policies))
    if adopt_lake:
        identity = bind_lake(database, settings.lake)
        done.append(
            f"bound the database {database.name('platform')} to the lake {place_of(settings.lake)}, identity {identity}"
        )
    out.print("\n".join(done) if done else "all databases are up to date", markup=False)


@commands.command()
def doctor(context: typer.Context) -> None:
    """Print what is configured, reachable or missing, and how to fix problems. Exit 1 if something is broken."""
    quiet_libraries()
    from platform_assets.operations.doctor import examine

    findings = examine(context.obj.services)
    for finding in findings:
        out.print(f"{STATES[finding.state]} {finding.thing}: ", end="")
        out.print(finding.found, markup=False)
        if finding.fix:
            out.print(f"   -> {finding.fix}", markup=False)
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


@table.command("rollback")
def roll_back_table(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Table, e.g. credit_risk/loans.")],
    version: Annotated[int, typer.Argument(min=0, help="Number of the version to restore.")],
    reason: Annotated[str, typer.Option("--reason", help="Why the newer versions are wrong. This reason is recorded.")],
) -> None:
    """Undo a load that passed all checks but was wrong: restore the rows of an earlier version.

    All downstream tables, including online tables, are rebuilt. Models that were trained on a rolled-back version
    are listed and tagged. Exit 1 if a table could not be rebuilt.
    """
    from platform_assets.approval.commands import actor_of
    from platform_assets.operations import table_rollback

    quiet_libraries()
    services, definitions = context.obj.services, context.obj.find_definitions()
    services.demand_own_lake()
    table_rollback.demand_lake_table(definitions, name)
    restored = services.tables.restore(name, version, actor_of(context.obj).name, reason)
    undone = [one.version for one in restored.undone]
    numbers = ", ".join(map(str, undone))
    say(f"{name}: restored version {version} as version {restored.version.version}; rolled-back versions: {numbers}")
    with context.obj.services.history() as instance:
        table_rollback.report_restored(instance, restored)
        made, others = table_rollback.dependent_tables(definitions, services.tables, name)
        failed = table_rollback.make_again(definitions, instance, made)
    for one in made:
        say(f"{one}: {'could NOT be rebuilt; materialise it' if one in failed else 'rebuilt'}")
    for one in others:
        say(f"{one}: depends on {name}, but was not rebuilt; check it, and backfill its partitions")
    for model in table_rollback.affected_models(
        services.tables, services.registry, services.ledger, {name: set(undone)}
    ):
        say(model.told)
    if failed:
        raise typer.Exit(1)


@commands.command()
def upkeep(context: typer.Context) -> None:
    """Run the job `upkeep` now: delete data past their retention period. Exit 1 if a step fails."""
    quiet_libraries()
    from platform_assets.orchestration.failures import reason
    from platform_assets.orchestration.in_process_runs import run_in_process

    job = context.obj.find_definitions().resolve_job_def("upkeep")
    with context.obj.services.history() as instance:
        result = run_in_process(job, instance)
    for event in result.all_events:
        name = str(event.step_key).replace("_", " ")
        if event.is_step_success:
            say(f"{name}: {removed_summary(result.output_for_node(str(event.step_key)))}")
        elif event.is_step_failure:
            say(f"{name}: FAILED: {reason(event.step_failure_data.error)}")
    if not result.success:
        raise typer.Exit(1)


def removed_summary(found: int | Sequence[str] | Mapping[str, int]) -> str:
    """Describe what a step of `upkeep` removed. Counts of 0 in a mapping are left out."""
    if isinstance(found, int):
        return str(found)
    if isinstance(found, Mapping):
        found = [f"{name} {count}" for name, count in found.items() if count]
    return ", ".join(found) or "0"


@commands.command()
def readiness(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of the registered model, e.g. credit_risk_model.")],
) -> None:
    """Check whether a model is ready for production; print evidence and fixes. Exit 1 if something is missing."""
    quiet_libraries()
    from platform_assets.operations.readiness import readiness as examine_model

    found = examine_model(context.obj.services, context.obj.find_model(model))
    for requirement in found:
        out.print(f"{'[green]ready[/]' if requirement.is_met else '[red]gap[/]'} {requirement.name}: ", end="")
        out.print(requirement.found, markup=False)
        if requirement.fix:
            out.print(f"   -> {requirement.fix}", markup=False)
    met = sum(requirement.is_met for requirement in found)
    say(f"{model} meets {met} of {len(found)} requirements")
    if met < len(found):
        raise typer.Exit(1)


@demo.command()
def story(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help="Model for which two more versions are trained, e.g. credit_risk_model.")
    ],
) -> None:
    """Fill a new platform with sample decisions: champions, a rejected version, and one that awaits your decision."""
    quiet_libraries()
    from platform_assets.approval.commands import actor_of
    from platform_assets.operations.demo_story import tell_story

    tell_story(context.obj.services, context.obj.find_model(model).name, actor_of(context.obj), say)


@commands.command("import")
def import_model(
    context: typer.Context,
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="Folder that `export` wrote in the other environment.")
    ],
) -> None:
    """Register a model exported by another environment as a new challenger, and request its approval here.

    The model is evaluated on the data of this environment. Approvals of the other environment are shown, but do not
    count. Importing the same bundle again changes nothing.
    """
    quiet_libraries()
    from platform_assets.approval.commands import requester, told
    from platform_assets.operations.model_import import import_bundle

    actor = requester(context.obj)
    found = import_bundle(context.obj.services, bundle, context.obj.find_model, actor)
    version = found.version
    state = "registered as challenger" if found.is_new else "already imported; nothing was changed"
    say(f"{version.name} version {version.version}, digest {version.digest}: {state}")
    if found.request is None:
        say(f"{version.name} version {version.version} is the champion; no request was opened")
        return
    for line in told(found.request):
        say(line)


@commands.command()
def backup(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder, on another disk if possible.")],
) -> None:
    """Back up the databases, the lake, the models and the files in PLATFORM_HOME to a folder, and check the copies."""
    quiet_libraries()
    from platform_assets.operations.backup import make_backup

    made = make_backup(context.obj.services, folder, say)
    say(f"backup {folder} is complete: {len(made.files):,} files, {made.bytes / 1e6:,.1f} MB; contains personal data")


@commands.command()
def restore(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a backup.")],
) -> None:
    """Check a backup and restore it. PLATFORM_HOME, the lake and the databases must be empty."""
    quiet_libraries()
    from platform_assets.operations.restore import restore_backup

    settings: Settings = context.obj.settings
    made = restore_backup(settings, folder, say)
    say(f"restored the backup of {made.made_at} to {settings.home}; now run `platform-assets doctor` and `audit`")


@commands.command()
def erase(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help="Kind of person, as declared by a domain, e.g. client.")],
    subject: Annotated[str, typer.Argument(metavar="ID", help="The person's id.")],
) -> None:
    """Erase a person's data permanently, and list the models trained on it. Exit 1 if the id is still found."""
    quiet_libraries()
    from platform_assets.operations.erasure import erase as erase_person

    done = erase_person(context.obj.services, kind, subject)
    for place, rows in done.rows.items():
        say(f"{place}: {rows:,} erased")
    if not done.rows:
        say("no data about this person were found, so nothing was erased; check the id")
    for model in done.models:
        say(f"{model} was trained on this person's data, and cannot be reproduced any more; train a new version")
    for model in done.possible_models:
        say(
            f"{model} may have been trained on this person's data; this cannot be checked, because an earlier erasure "
            "removed the model's training data. Train a new version"
        )
    for backup_told in done.backups:
        say(f"backup {backup_told}")
    for place in done.remains:
        say(f"the id is still present in {place}")
    say(f"erasure {done.number} is recorded without personal data; this person's rows are left out of future loads")
    if done.remains:
        raise typer.Exit(1)


def _clean_scratch(settings: Settings) -> None:
    """Remove the scratch folders of processes that have ended."""
    from platform_assets.base.home_folder import make_home
    from platform_assets.base.scratch import clean_scratch

    make_home(settings.home)
    if removed := clean_scratch(settings.scratch):
        folders = "folder" if removed == 1 else "folders"
        out.print(f"removed {removed} scratch {folders} of processes that have ended", markup=False)


def _say(outcome: Outcome) -> None:
    rows = f" {outcome.rows:,} rows" if outcome.rows is not None else ""
    seconds = f" {outcome.seconds:.1f} s" if outcome.state in {"done", "failed"} else ""
    reason = f" {outcome.reason}" if outcome.reason else ""
    out.print(f"  {SIGNS[outcome.state]} {outcome.asset}{rows}{seconds}", end="")
    out.print(reason, markup=False)


def _sign(outcome: Outcome) -> str:
    """Return the status label of an outcome. A failed gate has its own label, because the model's step succeeds."""
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
        elif failed := [name for name in outcome.failed if name not in outcome.quarantined_by]:
            out.print(f"{outcome.asset}: failed checks: {', '.join(failed)}", markup=False)
        if outcome.quarantined:
            out.print(f"{outcome.asset}: {quarantine_summary(outcome)}", markup=False)
            out.print(f"{outcome.asset}: the bad rows, with line and reason, are in {outcome.asset}_quarantine")
        if outcome.waits:
            out.print(f"{outcome.asset}: {outcome.waits}", markup=False)
        if outcome.reason:
            out.print(f"{outcome.asset}: {outcome.reason}", markup=False)
    planted = [outcome for outcome in report.outcomes if outcome.demo and outcome.quarantined]
    if planted:
        checks, rows = (sum(len(one.failed) for one in planted), sum(one.quarantined or 0 for one in planted))
        out.print(
            "Expected, because the sample data contain errors on purpose to show the checks: "
            f"{', '.join(one.asset for one in planted)} (failed checks: {checks}, quarantined rows: {rows})",
            markup=False,
        )
    from platform_assets.base.logs import shown

    where = (
        "in memory, lost when this process ends; set PLATFORM_LAKE_URI to keep them"
        if settings.lake_is_memory
        else shown(settings.lake)
    )
    where = f"Tables: {where}. Run {report.run_id}; view it with `platform-assets up`."
    out.print(where, markup=False)


def quarantine_summary(outcome: Outcome) -> str:
    """Return a sentence with the number of quarantined rows, in total and by failed check.

    A row may fail several checks.
    """
    count = outcome.quarantined or 0
    rows = "1 row was" if count == 1 else f"{count:,} rows were"
    checks = ", ".join(f"{name} ({broken:,})" for name, broken in outcome.quarantined_by.items())
    planted = "; demo data contain bad rows on purpose" if outcome.demo else ""
    return f"{rows} quarantined, all other rows were published; failed checks: {checks}{planted}"


def _say_detail(line: str) -> None:
    say(f"      {line}")
