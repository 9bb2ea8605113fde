"""The command `esios backfill`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from platform_assets.base.command_line import err, out, say
from platform_assets.base.errors import PlatformError
from platform_assets.base.logs import quiet_libraries
from platform_assets.domains.esios_demand.harvest import JOB
from platform_assets.domains.esios_demand.months import Month

if TYPE_CHECKING:
    from platform_assets.orchestration.in_process_runs import PartRun

INTERRUPTED = 130
"""Exit code after Ctrl-C, by the convention of shells."""
DAY = ["%Y-%m-%d"]
commands = typer.Typer()
esios = typer.Typer(help="Forecast of the Spanish power demand, from ESIOS.", no_args_is_help=True)
commands.add_typer(esios, name="esios")


@esios.callback()
def _group() -> None:
    # Without a callback, Typer omits the name of a group's only command.
    pass


@esios.command()
def backfill(
    context: typer.Context,
    start: Annotated[datetime, typer.Argument(formats=DAY, help="First day; its whole month is loaded.")],
    end: Annotated[datetime, typer.Argument(formats=DAY, help="Last day; its whole month is loaded.")],
) -> None:
    """Load the months of a period, up to twelve per run.

    If the command is interrupted, run it again within a day to continue. After a finished backfill, the same command
    loads all months again.
    """
    if start > end:
        raise PlatformError(f"START {start:%Y-%m-%d} is after END {end:%Y-%m-%d}; swap them")
    quiet_libraries()
    from platform_assets.orchestration.in_process_runs import backfill as backfill_job

    job = context.obj.find_definitions().resolve_job_def(JOB)
    first, last = Month.of(start.date()), Month.of(end.date())
    with context.obj.services.history() as instance:
        try:
            succeeded = backfill_job(job, instance, first.key, last.key, _say)
        except KeyboardInterrupt:
            err.print("interrupted; run the same command again to continue")
            raise typer.Exit(INTERRUPTED) from None
    if not succeeded:
        raise typer.Exit(1)


def _say(run: PartRun) -> None:
    months = f"{run.first[:7]} to {run.last[:7]}"
    if not run.run_id:
        say(f"{months}: loaded before the interruption")
        return
    tables = ", ".join(f"{name} {rows:,} rows" for name, rows in run.tables)
    sign = "[green]ok[/]" if run.failure is None else "[red]FAILED[/]"
    out.print(f"{months}: {sign} {run.seconds:.1f} s", end=" ")
    say(run.failure or tables)
    for warning in run.warnings:
        out.print("  [yellow]warning[/]", end=" ")
        say(warning)
