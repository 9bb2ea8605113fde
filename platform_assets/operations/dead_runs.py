"""Runs that a killed process left behind: found by their free locks, and marked failed.

Dagster's default launcher does not notice; such a run would count as started for ever.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dagster import DagsterRunStatus, RunsFilter

from platform_assets.orchestration.storage import RUN_ENDS, PlatformEventLog

if TYPE_CHECKING:
    from dagster import DagsterInstance, DagsterRun, RunRecord

RUNNING = (DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING)
WAITING = (DagsterRunStatus.STARTING, DagsterRunStatus.NOT_STARTED)
LONGEST_START = timedelta(minutes=10)
# A run that goes on over the server's restart takes its lock again within seconds.
LOCKS_ARE_BACK = timedelta(seconds=30)


def fail_dead_runs(instance: DagsterInstance, *, locks_are_back: timedelta = LOCKS_ARE_BACK) -> list[str]:
    """Mark the runs failed whose process is gone, or did not come within ten minutes; never a live one.

    Parameters
    ----------
    instance
        Dagster's instance on the platform's storage.
    locks_are_back
        How long after a restart of an external server the runs that began before it are left alone.

    Returns
    -------
    The ids of the runs that were marked.

    Raises
    ------
    TypeError
        The instance keeps its events elsewhere, where no process holds the lock of its run.

    """
    event_log = instance.event_log_storage
    if not isinstance(event_log, PlatformEventLog):
        raise TypeError(f"dead runs are known by the locks of PlatformEventLog; this is {type(event_log).__name__}")
    records = instance.get_run_records(RunsFilter(statuses=[*RUNNING, *WAITING]))
    return [
        record.dagster_run.run_id
        for record in records
        if not _may_miss_its_lock(event_log, record, locks_are_back) and _failed(instance, event_log, record)
    ]


def _failed(instance: DagsterInstance, event_log: PlatformEventLog, record: RunRecord) -> bool:
    run_id = record.dagster_run.run_id
    if record.dagster_run.status in WAITING and _age(record) < LONGEST_START:
        return False
    if not event_log.run_locks.try_take(run_id):
        return False
    # From here on no process starts the run and no other one judges it; what was read before may be history.
    try:
        run = instance.get_run_by_id(run_id)
        if run is None or run.status not in (*RUNNING, *WAITING) or _ended(instance, run):
            return False
        instance.report_run_failed(run, _reason(run))
        return True
    finally:
        event_log.run_locks.release(run_id)


def _may_miss_its_lock(event_log: PlatformEventLog, record: RunRecord, locks_are_back: timedelta) -> bool:
    """Whether the server was restarted under the run just now.

    The embedded server is not: it starts when nobody runs anything.
    """
    if event_log.embedded or record.start_time is None:
        return False
    server_start = event_log.run_locks.server_start()
    run_start = datetime.fromtimestamp(record.start_time, tz=UTC)
    return run_start < server_start and datetime.now(UTC) - server_start < locks_are_back


def _ended(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Whether the run's last event is stored and only its status is behind; then write that."""
    entry = next(iter(instance.all_logs(run.run_id, of_type=set(RUN_ENDS))), None)
    if entry is None or entry.dagster_event is None:
        return False
    # The process may be about to do the same, which changes nothing.
    instance.run_storage.handle_run_event(
        run.run_id, entry.dagster_event, datetime.fromtimestamp(entry.timestamp, tz=UTC)
    )
    return True


def _reason(run: DagsterRun) -> str:
    if run.status in WAITING:
        minutes = LONGEST_START // timedelta(minutes=1)
        return f"the process of this run never came: it was to start more than {minutes} minutes ago; launch it again"
    return (
        "the process of this run is gone: it was killed, ran out of memory, or its machine stopped; "
        "what it wrote until then stands, launch it again"
    )


def _age(record: RunRecord) -> timedelta:
    last_sign = max(_utc(record.create_timestamp), _utc(record.update_timestamp))
    return datetime.now(UTC) - last_sign


def _utc(moment: datetime) -> datetime:
    # Dagster stores times without a zone, in UTC.
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
