"""State of runs, checks, schedules, sensors and freshness, read from Dagster's history into data classes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Literal

import dagster as dg
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorTick,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickStatus,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._utils.schedules import reverse_cron_string_iterator

from platform_assets.orchestration.failures import reason

PARTITION_TAGS = ("dagster/partition", "dagster/asset_partition_range_end")
FINISHED_TICKS = [TickStatus.SUCCESS, TickStatus.SKIPPED, TickStatus.FAILURE]
MOST_RUNS = 100
"""Maximum number of failed runs that one call returns."""
GRACE = timedelta(minutes=10)
"""Delay after which an overdue evaluation is reported as late."""
SHORTEST_FAILURE = timedelta(minutes=2)
"""Minimum time for which a schedule or sensor must fail before it is reported.

Shorter failures, for example of the network, often end without a fix.
"""
LAST_TICKS = 10
UNREACHABLE_CODE = "DagsterUserCodeUnreachableError"
MISSED_INTERVALS = 5
"""Number of intervals after which a sensor is late, if these intervals together are longer than `GRACE`."""


@dataclass(frozen=True)
class FailedRun:
    """A failed run.

    Attributes
    ----------
    run_id, job
        The run and its job.
    partition
        The partition, or the last partition of a range; None if the run has no partitions.
    assets
        The assets whose steps failed; empty if another step failed, or the process ended.
    owners
        Owners of these assets.
    reason
        Message of the first failed step, or of the run.
    ended_at
        Time of the failure, in seconds since 1970.
    """

    run_id: str
    job: str
    partition: str | None
    assets: tuple[str, ...]
    owners: tuple[str, ...]
    reason: str
    ended_at: float


@dataclass(frozen=True)
class CheckState:
    """The last finished evaluation of an asset check.

    Attributes
    ----------
    asset, name
        The checked asset and the check.
    failed
        Whether it failed with severity ERROR.
    evaluation
        Number of the evaluation.
    run_id
        The run that evaluated it.
    description
        Reason for the failure, as the check describes it; empty if there is no description.
    owners
        Owners of the asset.
    """

    asset: str
    name: str
    failed: bool
    evaluation: int
    run_id: str
    description: str
    owners: tuple[str, ...]


@dataclass(frozen=True)
class AutomationState:
    """A running schedule or sensor.

    Attributes
    ----------
    kind, name
        The kind, and the name of the schedule or sensor.
    page
        Path of its page in Dagster's UI.
    failure
        Reason if its evaluations have failed for at least `SHORTEST_FAILURE`; otherwise None.
    silent_since
        Start of the time without evaluations, if an evaluation is overdue; otherwise None.
    """

    kind: Literal["schedule", "sensor"]
    name: str
    page: str
    failure: str | None
    silent_since: datetime | None


@dataclass(frozen=True)
class Freshness:
    """The freshness of an asset with a policy, as Dagster's daemon last evaluated it."""

    asset: str
    is_late: bool
    owners: tuple[str, ...]


def newest_failure(instance: dg.DagsterInstance) -> int:
    """Return the position of the newest failed run in the event log; 0 if there is none."""
    found = instance.fetch_run_status_changes(dg.DagsterEventType.RUN_FAILURE, limit=1)
    return found.records[0].storage_id if found.records else 0


def failed_runs(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, after: int
) -> list[tuple[int, FailedRun]]:
    """Return the runs that failed after a position in the event log, with their positions, oldest first."""
    wanted = dg.RunStatusChangeRecordsFilter(event_type=dg.DagsterEventType.RUN_FAILURE, after_storage_id=after)
    records = instance.fetch_run_status_changes(wanted, limit=MOST_RUNS, ascending=True).records
    found = ((record.storage_id, failed_run(instance, repository, record.run_id)) for record in records)
    return [(position, run) for position, run in found if run]


def failed_run(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, run_id: str) -> FailedRun | None:
    """Return a failed run; None if it was deleted."""
    record = instance.get_run_record_by_id(run_id)
    if record is None:
        return None
    run = record.dagster_run
    steps = [log.dagster_event for log in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)]
    failures = [event for event in steps if event and event.step_key]
    ended = [log for log in instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE) if log.dagster_event]
    assets = _assets_of(repository, {str(event.step_key) for event in failures})
    if not failures and run.asset_selection:
        assets = sorted(run.asset_selection)
    why = [reason(event.step_failure_data.error) for event in failures]
    why += [str(log.dagster_event.message) for log in ended if log.dagster_event]
    return FailedRun(
        run_id,
        run.job_name,
        next((run.tags[tag] for tag in PARTITION_TAGS if tag in run.tags), None),
        tuple(key.to_user_string() for key in assets),
        owners_of(repository, assets),
        next(iter(why), "no reason was recorded"),
        ended[-1].timestamp if ended else record.update_timestamp.timestamp(),
    )


def is_repaired(instance: dg.DagsterInstance, failure: FailedRun) -> bool:
    """Return whether another run has since done the work of a failed run.

    All failed assets must have been materialised, for the same partition. If no asset failed, the job must have
    succeeded.
    """
    partition = failure.partition
    if failure.assets:
        return all(
            instance.fetch_materializations(
                dg.AssetRecordsFilter(
                    dg.AssetKey.from_user_string(asset),
                    asset_partitions=[partition] if partition else None,
                    after_timestamp=failure.ended_at,
                ),
                limit=1,
            ).records
            for asset in failure.assets
        )
    wanted = dg.RunsFilter(
        job_name=failure.job,
        statuses=[dg.DagsterRunStatus.SUCCESS],
        tags={PARTITION_TAGS[0]: partition} if partition else {},
    )
    return any((one.end_time or 0) > failure.ended_at for one in instance.get_run_records(wanted, limit=1))


def check_states(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition) -> list[CheckState]:
    """Return the state of each asset check that was evaluated and is not being evaluated now."""
    keys = sorted(repository.asset_graph.asset_check_keys)
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    found = []
    for key, record in records.items():
        event = record.event.dagster_event if record.event else None
        if event is None or record.status == AssetCheckExecutionRecordStatus.PLANNED:
            continue
        evaluation = event.asset_check_evaluation_data
        found.append(
            CheckState(
                key.asset_key.to_user_string(),
                key.name,
                not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR,
                record.id,
                record.run_id,
                evaluation.description or "",
                owners_of(repository, [key.asset_key]),
            )
        )
    return found


def automation_states(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, now: datetime, since: datetime
) -> list[AutomationState]:
    """Return the state of each running schedule and sensor of a code location.

    Parameters
    ----------
    instance
        Dagster's instance.
    repository
        The code location.
    now
        Current time, with time zone.
    since
        Time since which the daemon has been alive. Evaluations that were due earlier are not late.
    """
    schedules = {one.name: one for one in repository.schedule_defs}
    names = {*schedules, *(one.name for one in repository.sensor_defs)}
    states = (state for state in instance.all_instigator_state() if state.is_running and state.name in names)
    return [_automation_state(instance, state, schedules.get(state.name), now, since) for state in states]


def _automation_state(
    instance: dg.DagsterInstance,
    state: InstigatorState,
    schedule: dg.ScheduleDefinition | None,
    now: datetime,
    since: datetime,
) -> AutomationState:
    ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=LAST_TICKS, statuses=FINISHED_TICKS)
    last = ticks[0] if ticks else None
    kind: Literal["schedule", "sensor"] = "schedule" if schedule else "sensor"
    origin = state.origin.repository_origin
    location = origin.code_location_origin.location_name
    silent = _silent_schedule(state, schedule, last, now, since) if schedule else _silent_sensor(state, now, since)
    return AutomationState(
        kind,
        state.name,
        f"/locations/{origin.repository_name}@{location}/{kind}s/{state.name}",
        _failure(ticks, now),
        silent,
    )


def _failure(ticks: Sequence[InstigatorTick], now: datetime) -> str | None:
    """Return the reason why the newest evaluations failed, if they have failed for long enough.

    Failures caused by an unreachable code location are ignored. They affect all sensors at once, and the thread that
    watches the platform from outside Dagster detects them.
    """
    failed = takewhile(lambda tick: tick.status == TickStatus.FAILURE, ticks)
    own = [tick for tick in failed if tick.error and tick.error.cls_name != UNREACHABLE_CODE]
    if not own or now.timestamp() - own[-1].timestamp < SHORTEST_FAILURE.total_seconds():
        return None
    return reason(own[0].error)


def _silent_sensor(state: InstigatorState, now: datetime, since: datetime) -> datetime | None:
    data = state.instigator_data
    if not isinstance(data, SensorInstigatorData):
        return None
    times = [one for one in (data.last_tick_start_timestamp, data.last_sensor_start_timestamp) if one]
    if not times:
        return None
    last = max(since, datetime.fromtimestamp(max(times), UTC))
    patience = max(GRACE, timedelta(seconds=MISSED_INTERVALS * (data.min_interval or 0)))
    return last if now - last > patience else None


def _silent_schedule(
    state: InstigatorState,
    schedule: dg.ScheduleDefinition,
    last: InstigatorTick | None,
    now: datetime,
    since: datetime,
) -> datetime | None:
    data = state.instigator_data
    started = data.start_timestamp if isinstance(data, ScheduleInstigatorData) else None
    crons = [schedule.cron_schedule] if isinstance(schedule.cron_schedule, str) else schedule.cron_schedule
    overdue = (now - GRACE).timestamp()
    zone = schedule.execution_timezone or "UTC"
    due = max(next(reverse_cron_string_iterator(overdue, cron, zone)).timestamp() for cron in crons)
    # The timestamp of a tick is the time at which the tick was due.
    if due <= max(started or 0.0, since.timestamp()) or (last and last.timestamp >= due):
        return None
    return datetime.fromtimestamp(due, UTC)


def freshness(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition) -> list[Freshness]:
    """Return the freshness of each asset whose freshness policy was evaluated."""
    graph = repository.asset_graph
    keys = [key for key in graph.get_all_asset_keys() if graph.get(key).freshness_policy]
    if not keys:
        return []
    return [
        Freshness(key.to_user_string(), record.freshness_state == FreshnessState.FAIL, owners_of(repository, [key]))
        for key, record in instance.event_log_storage.get_freshness_state_records(sorted(keys)).items()
        if record.freshness_state in {FreshnessState.PASS, FreshnessState.WARN, FreshnessState.FAIL}
    ]


def owners_of(repository: dg.RepositoryDefinition, keys: Iterable[dg.AssetKey]) -> tuple[str, ...]:
    """Return the owners of the assets, without duplicates."""
    graph = repository.asset_graph
    return tuple(dict.fromkeys(owner for key in keys if graph.has(key) for owner in graph.get(key).owners))


def _assets_of(repository: dg.RepositoryDefinition, steps: set[str]) -> Sequence[dg.AssetKey]:
    """Return the assets that the steps make, or an empty list if at least one step makes no asset."""
    graph = repository.asset_graph
    made: dict[str, list[dg.AssetKey]] = {}
    for key in graph.materializable_asset_keys:
        made.setdefault(graph.assets_def_for_key(key).node_def.name, []).append(key)
    return sorted(key for step in steps for key in made[step]) if steps <= set(made) else []
