"""The `upkeep` job, and the sensor `run_died`.

The job removes data that is past its retention period, and marks dead runs as failed. With automation on, a schedule
runs the job every night. `platform-assets upkeep` runs it at any time. The sensor marks dead runs within a minute.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from platform_assets import domains
from platform_assets.base.errors import TableError
from platform_assets.base.scratch import clean_scratch
from platform_assets.database.connections import Database
from platform_assets.lake.assets import tables_in_lake
from platform_assets.lake.delta_tables import TableStore
from platform_assets.landing.landing_zone import LandingZones
from platform_assets.models.artefact_store import ArtefactStore
from platform_assets.operations.backup_record import UPKEEP_LOCK
from platform_assets.orchestration.declared import Declared
from platform_assets.orchestration.failures import plain_failures

SCHEDULE = "30 3 * * *"
SENSOR_SECONDS = 60


def definitions(declared: Declared) -> dg.Definitions:
    """Return the job and its schedule."""
    upkeep = upkeep_job(tables_in_lake(declared.definitions))
    return dg.Definitions(jobs=[upkeep], schedules=[upkeep_schedule(upkeep)], sensors=[dead_run_sensor()])


@dg.op(description="Delete logged predictions that are older than their retention period.")
def forget_old_predictions(
    context: dg.OpExecutionContext, forget_predictions: dg.ResourceParam[Callable[[], int]]
) -> int:
    """Return the number of deleted predictions."""
    forgotten = forget_predictions()
    context.log.info("predictions deleted: %s", forgotten)
    return forgotten


@dg.op(description="Delete drift measurements that are older than the retention period of predictions.")
def forget_old_measurements(
    context: dg.OpExecutionContext, forget_measurements: dg.ResourceParam[Callable[[], int]]
) -> int:
    """Return the number of batches whose measurements were deleted."""
    forgotten = forget_measurements()
    context.log.info("measured batches deleted: %s", forgotten)
    return forgotten


@dg.op(description="Remove models and sentence encoders that no version and no approval request refers to.")
def remove_unnamed_models(
    context: dg.OpExecutionContext,
    artefacts: dg.ResourceParam[ArtefactStore],
    named_artefacts: dg.ResourceParam[Callable[[], set[str]]],
    retention: dg.ResourceParam[timedelta],
    database: dg.ResourceParam[Database],
) -> int:
    """Return the number of removed files."""
    with database.lock(UPKEEP_LOCK):
        removed = artefacts.remove_unnamed(named_artefacts(), datetime.now(UTC) - retention)
    context.log.info("model files removed: %s", removed)
    return removed


@dg.op(description="Remove processed files from landing zones after their retention period.")
def remove_landed_files(
    context: dg.OpExecutionContext,
    zones: dg.ResourceParam[LandingZones],
    landing_retention: dg.ResourceParam[timedelta | None],
) -> dict[str, int]:
    """Return the number of removed files by zone."""
    removed = {}
    if landing_retention is not None:
        for zone in filter(None, map(zones.given, domains.declared_zones())):
            removed[zone.name] = zone.remove_processed(landing_retention)
    context.log.info("landed files removed, by zone: %s", removed)
    return removed


@dg.op(
    description="Delete old runs from Dagster's history. For runs that made an asset, delete only log lines and old "
    "check results."
)
def forget_old_runs(
    context: dg.OpExecutionContext, database: dg.ResourceParam[Database], run_retention: dg.ResourceParam[timedelta]
) -> dict[str, int]:
    """Return the number of deleted runs, and the number of log lines and check results deleted from other runs."""
    from platform_assets.operations.run_history import forget_old_runs as forget

    runs, lines = forget(context.instance, database, run_retention)
    context.log.info("runs deleted: %s; log lines and check results of other runs deleted: %s", runs, lines)
    return {"runs": runs, "log lines": lines}


@dg.op(description="Mark runs as failed if their process has died.")
def fail_runs_of_dead_processes(context: dg.OpExecutionContext) -> list[str]:
    """Return the ids of the runs that were marked as failed."""
    from platform_assets.operations.dead_runs import fail_dead_runs

    marked = fail_dead_runs(context.instance)
    context.log.info("runs marked as failed: %s", marked)
    return marked


@dg.op(description="Remove scratch files of processes that have ended.")
def remove_leftovers(context: dg.OpExecutionContext, scratch: dg.ResourceParam[Path]) -> int:
    """Return the number of removed folders."""
    removed = clean_scratch(scratch)
    context.log.info("scratch folders removed: %s", removed)
    return removed


def upkeep_job(tables_kept: Sequence[str]) -> dg.JobDefinition:
    """Return the job for the given tables of the lake."""

    @dg.op(
        description="Remove data files that are needed only by table versions older than the retention period.",
        # Delete expired predictions first: a table version is kept as long as a logged prediction refers to it.
        ins={"after": dg.In(dg.Nothing)},
    )
    def vacuum_tables(
        context: dg.OpExecutionContext,
        tables: dg.ResourceParam[TableStore],
        retention: dg.ResourceParam[timedelta],
        pinned_tables: dg.ResourceParam[Callable[[], Mapping[str, set[int]]]],
        database: dg.ResourceParam[Database],
    ) -> dict[str, int]:
        removed, failures = {}, []
        with database.lock(UPKEEP_LOCK):
            pinned = pinned_tables()
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

    @dg.job(
        executor_def=dg.in_process_executor,
        description="Delete data past their retention period, and mark dead runs as failed.",
    )
    def upkeep() -> None:
        vacuum_tables(after=forget_old_predictions())
        forget_old_measurements()
        remove_unnamed_models()
        remove_landed_files()
        forget_old_runs()
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


def dead_run_sensor() -> dg.SensorDefinition:
    """Return the sensor that marks dead runs as failed. A dead run can block later runs until it is marked."""

    @dg.sensor(
        name="run_died",
        minimum_interval_seconds=SENSOR_SECONDS,
        description="Mark runs as failed if their process has died.",
    )
    def run_died(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        from platform_assets.operations.dead_runs import fail_dead_runs

        with plain_failures():
            marked = fail_dead_runs(context.instance)
        return dg.SkipReason(f"runs marked as failed: {', '.join(marked) or 'none'}")

    return run_died
