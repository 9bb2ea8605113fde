"""The `upkeep` job: remove old table versions, old predictions, dead runs and scratch files.

With automation on, a schedule runs it every night. `dg launch --job upkeep` runs it at any time.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import dagster as dg

from platform_assets.base.errors import TableError
from platform_assets.base.scratch import clean_scratch
from platform_assets.lake.assets import tables_in_lake
from platform_assets.lake.delta_tables import TableStore
from platform_assets.orchestration.declared import Declared

SCHEDULE = "30 3 * * *"


def definitions(declared: Declared) -> dg.Definitions:
    """Return the job and its schedule."""
    upkeep = upkeep_job(tables_in_lake(declared.definitions))
    return dg.Definitions(jobs=[upkeep], schedules=[upkeep_schedule(upkeep)])


def upkeep_job(tables_kept: Sequence[str]) -> dg.JobDefinition:
    """Return the job for the given tables of the lake."""

    @dg.op(description="Remove data files that only table versions older than the retention need.")
    def vacuum_tables(
        context: dg.OpExecutionContext,
        tables: dg.ResourceParam[TableStore],
        retention: dg.ResourceParam[timedelta],
        pinned_tables: dg.ResourceParam[Callable[[], Mapping[str, set[int]]]],
    ) -> dict[str, int]:
        pinned = pinned_tables()
        removed, failures = {}, []
        for name in tables_kept:
            try:
                if tables.exists(name):
                    removed[name] = tables.vacuum(name, retention, pinned.get(name, set()))
            except TableError as error:
                failures.append(str(error))
        context.log.info("files removed, by table: %s", removed)
        if failures:
            raise dg.Failure("; ".join(failures), allow_retries=False)
        return removed

    @dg.op(description="Mark runs as failed whose process has died.")
    def fail_runs_of_dead_processes(context: dg.OpExecutionContext) -> list[str]:
        from platform_assets.operations.dead_runs import fail_dead_runs

        marked = fail_dead_runs(context.instance)
        context.log.info("runs marked as failed: %s", marked)
        return marked

    @dg.op(description="Remove scratch files of processes that have ended.")
    def remove_leftovers(context: dg.OpExecutionContext, scratch: dg.ResourceParam[Path]) -> int:
        removed = clean_scratch(scratch)
        context.log.info("scratch folders removed: %s", removed)
        return removed

    @dg.op(description="Delete logged predictions that are older than their retention.")
    def forget_old_predictions(
        context: dg.OpExecutionContext, forget_predictions: dg.ResourceParam[Callable[[], int]]
    ) -> int:
        forgotten = forget_predictions()
        context.log.info("predictions deleted: %s", forgotten)
        return forgotten

    @dg.job(description="Remove old table versions, old predictions and scratch files; mark dead runs as failed.")
    def upkeep() -> None:
        vacuum_tables()
        forget_old_predictions()
        fail_runs_of_dead_processes()
        remove_leftovers()

    return upkeep


def upkeep_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Return the nightly schedule."""
    return dg.ScheduleDefinition(
        name="upkeep_nightly",
        job=job,
        cron_schedule=SCHEDULE,
        execution_timezone="UTC",
        description="Run `upkeep` every night.",
    )
