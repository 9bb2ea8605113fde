"""Dead runs: find runs whose process was killed, by their free locks, and mark them as failed.

Dagster's default launcher does not detect them. Such a run would count as started forever.
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
"""Time that a launched run has to start its process."""
LOCKS_ARE_BACK = timedelta(seconds=30)
"""Time after a restart of the database in which running runs take their locks again. They need a few seconds."""


def fail_dead_runs(instance: DagsterInstance, *, locks_are_back: timedelta = LOCKS_ARE_BACK) -> list[str]:
    """Fail runs whose process has died, or that did not start within ten minutes.

    Parameters
    ----------
    instance
        Dagster's instance on the platform's storage.
    locks_are_back
        Time after a restart of an external database in which runs that began before it are skipped.

    Returns
    -------
    Ids of the runs that were marked as failed.

    Raises
    ------
    TypeError
        The instance has another event log, whose runs hold no locks.

    """
    event_log = instance.event_log_storage
    if not isinstance(event_log, PlatformEventLog):
        raise TypeError(f"dead runs are found by the locks of PlatformEventLog; this is {type(event_log).__name__}")
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
    # While the lock is held, no process can start or mark the run. It may have changed before, so read it again.
    try:
        run = instance.get_run_by_id(run_id)
        if run is None or run.status not in (*RUNNING, *WAITING) or _ended(instance, run):
            return False
        instance.report_run_failed(run, _reason(run))
        return True
    finally:
        event_log.run_locks.release(run_id)


def _may_miss_its_lock(event_log: PlatformEventLog, record: RunRecord, locks_are_back: timedelta) -> bool:
    """Whether the database was restarted during the run a moment ago.

    This cannot happen with the embedded database, which only starts while no run is active.
    """
    if event_log.embedded or record.start_time is None:
        return False
    server_start = event_log.run_locks.server_start()
    run_start = datetime.fromtimestamp(record.start_time, tz=UTC)
    return run_start < server_start and datetime.now(UTC) - server_start < locks_are_back


def _ended(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Whether the run's final event is stored although its status is not; if so, store the status."""
    entry = next(iter(instance.all_logs(run.run_id, of_type=set(RUN_ENDS))), None)
    if entry is None or entry.dagster_event is None:
        return False
    # If the run's process stores the status too, nothing changes.
    instance.run_storage.handle_run_event(
        run.run_id, entry.dagster_event, datetime.fromtimestamp(entry.timestamp, tz=UTC)
    )
    return True


def _reason(run: DagsterRun) -> str:
    if run.status in WAITING:
        minutes = LONGEST_START // timedelta(minutes=1)
        return f"the process of this run did not start within {minutes} minutes; launch the run again"
    return (
        "the process of this run is gone: it was killed, ran out of memory, or its machine stopped. "
        "Tables that it published stay; launch the run again"
    )


def _age(record: RunRecord) -> timedelta:
    last_sign = max(_utc(record.create_timestamp), _utc(record.update_timestamp))
    return datetime.now(UTC) - last_sign


def _utc(moment: datetime) -> datetime:
    # Dagster stores UTC times without a time zone.
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
