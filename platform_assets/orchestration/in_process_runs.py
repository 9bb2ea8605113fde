"""Runs of a job in this process, and backfills that consist of them. Dagster records each run in its history."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from platform_assets.base.errors import PlatformError
from platform_assets.orchestration.failures import reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
BACKFILL = "platform/backfill"
"""Tag of a backfill's runs. Its value contains the first and the last partition of the backfill."""
ATTEMPT = "platform/backfill_attempt"
"""Tag that the runs of a backfill share, including its runs after an interruption."""
CONTINUED_FOR = timedelta(days=1)
"""Time within which an interrupted backfill can be resumed. Later, it starts again with all its partitions."""


@dataclass(frozen=True)
class PartRun:
    """One run of a backfill.

    Attributes
    ----------
    first, last
        First and last partition of the run.
    run_id
        Id of the run; empty if the partitions were materialised before the backfill was interrupted.
    seconds
        Duration of the run.
    failure
        Reason for the failure; None if the run succeeded.
    tables
        Number of rows of each table after the run, by asset.
    warnings
        Names and descriptions of failed checks.
    """

    first: str
    last: str
    run_id: str = ""
    seconds: float = 0.0
    failure: str | None = None
    tables: tuple[tuple[str, int], ...] = ()
    warnings: tuple[str, ...] = ()


def partition_tags(first: str, last: str) -> dict[str, str]:
    """Return the tags of a run that materialises a range of partitions, both ends included."""
    return {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}


def partitions_of_run(run: dg.DagsterRun, partitions: dg.PartitionsDefinition[str]) -> Sequence[str]:
    """Return the partition keys of a run; empty for a run without partitions."""
    key = run.tags.get(PARTITION_NAME_TAG)
    first, last = run.tags.get(ASSET_PARTITION_RANGE_START_TAG, key), run.tags.get(ASSET_PARTITION_RANGE_END_TAG, key)
    if first is None or last is None:
        return ()
    return partitions.get_partition_keys_in_range(dg.PartitionKeyRange(first, last))


def run_in_process(job: dg.JobDefinition, instance: dg.DagsterInstance, **options: Any) -> dg.ExecuteInProcessResult:
    """Execute a job in this process without output on the console. A failed step raises no error.

    Raises
    ------
    PlatformError
        Dagster stopped because it could no longer store events.
    """
    try:
        return job.execute_in_process(instance=instance, raise_on_error=False, run_config=QUIET, **options)
    except _database_errors() as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise PlatformError(
            f"PostgreSQL, which stores the run history, became unreachable ({cause}). Tables that were already "
            "published are kept. Find the problem with `platform-assets doctor`, fix it, and run again"
        ) from error


def backfill(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    first: str,
    last: str,
    progress: Callable[[PartRun], None] = lambda _: None,
) -> bool:
    """Materialise a range of partitions, run by run, and stop after a failed run. Return whether all succeeded.

    A backfill of the same partitions that was interrupted less than a day ago is continued: the partitions of its
    successful runs are not materialised again.

    Parameters
    ----------
    job
        A job with partitioned assets. The backfill policies of these assets limit the partitions of one run.
    instance
        Dagster's instance.
    first, last
        Keys of the first and the last partition.
    progress
        Function that is called after each run.

    Raises
    ------
    PlatformError
        The job does not have these partitions.
    """
    parts = list(_parts(job, first, last))
    name = f"{first}..{last}"
    attempt, done = _interrupted(job, instance, name)
    if done >= set(parts):
        attempt, done = uuid.uuid4().hex, set()
    for part in parts:
        if part in done:
            progress(PartRun(*part))
            continue
        began = time.monotonic()
        tags = {BACKFILL: name, ATTEMPT: attempt, **partition_tags(*part)}
        result = run_in_process(job, instance, tags=tags)
        progress(_described(part, result, time.monotonic() - began))
        if not result.success:
            return False
    return True


def _parts(job: dg.JobDefinition, first: str, last: str) -> Iterator[tuple[str, str]]:
    """Yield the first and the last partition of each run."""
    partitions = job.partitions_def
    keys: Sequence[str] = partitions.get_partition_keys() if partitions else ()
    unknown = [key for key in (first, last) if key not in keys]
    if unknown or first > last:
        has = f"its partitions are {keys[0]} to {keys[-1]}" if keys else "it is not partitioned"
        raise PlatformError(f"{job.name} has no partitions {first} to {last}; {has}")
    wanted = keys[keys.index(first) : keys.index(last) + 1]
    graph = job.asset_layer.asset_graph
    nodes = [graph.get(key) for key in graph.materializable_asset_keys if graph.get(key).is_partitioned]
    policies = [node.backfill_policy for node in nodes]
    size = min(1 if policy is None else policy.max_partitions_per_run or len(wanted) for policy in policies)
    for start in range(0, len(wanted), size):
        part = wanted[start : start + size]
        yield part[0], part[-1]


def _interrupted(job: dg.JobDefinition, instance: dg.DagsterInstance, name: str) -> tuple[str, set[tuple[str, str]]]:
    """Return the id of the newest attempt of a backfill, and the partitions of its successful runs."""
    since = datetime.now(UTC) - CONTINUED_FOR
    runs = instance.get_runs(dg.RunsFilter(job_name=job.name, tags={BACKFILL: name}, created_after=since))
    attempt = runs[0].tags[ATTEMPT] if runs else uuid.uuid4().hex
    done = {
        (run.tags[ASSET_PARTITION_RANGE_START_TAG], run.tags[ASSET_PARTITION_RANGE_END_TAG])
        for run in runs
        if run.tags[ATTEMPT] == attempt and run.status == dg.DagsterRunStatus.SUCCESS
    }
    return attempt, done


def _described(part: tuple[str, str], result: dg.ExecuteInProcessResult, seconds: float) -> PartRun:
    tables: dict[str, int] = {}
    warnings, failures = [], []
    for event in result.all_events:
        if event.is_step_materialization and event.asset_key:
            count: Any = event.step_materialization_data.materialization.metadata.get("dagster/row_count")
            tables |= {event.asset_key.to_user_string(): int(count.value)} if count else {}
        elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            warnings += [] if check.passed else [f"{check.check_name}: {check.description or 'failed'}"]
        elif event.is_step_failure:
            failures.append(reason(event.step_failure_data.error))
    failure = None if result.success else "; ".join(failures) or "no reason was recorded"
    return PartRun(*part, result.run_id, seconds, failure, tuple(tables.items()), tuple(warnings))


def _database_errors() -> tuple[type[Exception], ...]:
    from dagster_postgres.utils import DagsterPostgresException
    from sqlalchemy.exc import InterfaceError, OperationalError

    return DagsterPostgresException, InterfaceError, OperationalError
