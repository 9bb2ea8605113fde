"""Mark runs as failed if their process has died. A running process holds a lock, so a free lock shows a dead run.

Dagster's default launcher does not detect dead runs, so their state would stay STARTED forever.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dagster import DagsterRunStatus, RunsFilter

from platform_assets.orchestration.run_locks import LOCKS_ARE_BACK
from platform_assets.orchestration.storage import RUN_ENDS, PlatformEventLog
from platform_assets.settings import load_settings

if TYPE_CHECKING:
    from dagster import DagsterInstance, DagsterRun, RunRecord

RUNNING = (DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING)
WAITING = (DagsterRunStatus.STARTING, DagsterRunStatus.NOT_STARTED)
LONGEST_START = {"local": timedelta(minutes=10), "celery": timedelta(days=1), "k8s": timedelta(days=1)}
"""Time in which a launched run must start its process, by launcher. Celery and Kubernetes may queue runs."""


def fail_dead_runs(instance: DagsterInstance, *, locks_are_back: timedelta = LOCKS_ARE_BACK) -> list[str]:
    """Fail runs whose process has died, on any machine, or that did not start in time.

    Only the process of the run is checked. The executor is responsible for the processes of the steps.

    Parameters
    ----------
    instance
        Dagster's instance on the platform's storage.
    locks_are_back
        Grace period after a restart of an external database, in which runs that began before the restart are skipped.

    Returns
    -------
    Ids of the runs that were marked as failed.

    Raises
    ------
    TypeError
        The instance does not use `PlatformEventLog`, so its runs hold no locks.

    """
    event_log = instance.event_log_storage
    if not isinstance(event_log, PlatformEventLog):
        raise TypeError(f"dead runs can only be found with a PlatformEventLog, not with {type(event_log).__name__}")
    longest_start = LONGEST_START[load_settings().run_launcher]
    records = instance.get_run_records(RunsFilter(statuses=[*RUNNING, *WAITING]))
    return [
        record.dagster_run.run_id
        for record in records
        if not _may_miss_its_lock(event_log, record, locks_are_back)
        and not (record.dagster_run.status in WAITING and _age(record) < longest_start)
        and _failed(instance, event_log, record, longest_start)
    ]


def _failed(
    instance: DagsterInstance, event_log: PlatformEventLog, record: RunRecord, longest_start: timedelta
) -> bool:
    run_id = record.dagster_run.run_id
    if not event_log.run_locks.try_take(run_id):
        return False
    # Read the run again, because it may have changed before the lock was taken. The lock prevents later changes.
    try:
        run = instance.get_run_by_id(run_id)
        if run is None or run.status not in (*RUNNING, *WAITING) or _ended(instance, run):
            return False
        instance.report_run_failed(run, _reason(run, longest_start))
        return True
    finally:
        event_log.run_locks.release(run_id)


def _may_miss_its_lock(event_log: PlatformEventLog, record: RunRecord, locks_are_back: timedelta) -> bool:
    """Return whether a live run may lack its lock, because the database was restarted recently.

    The embedded database only starts while no run is active, so its runs never lack their locks.
    """
    if event_log.embedded or record.start_time is None:
        return False
    run_start = datetime.fromtimestamp(record.start_time, tz=UTC)
    return run_start < event_log.run_locks.server_start() and event_log.run_locks.are_incomplete(locks_are_back)


def _ended(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Return whether the run has ended but its status was not stored. If so, store the status."""
    entry = next(iter(instance.all_logs(run.run_id, of_type=set(RUN_ENDS))), None)
    if entry is None or entry.dagster_event is None:
        return False
    # This is harmless if the run's process stores the status too.
    instance.run_storage.handle_run_event(
        run.run_id, entry.dagster_event, datetime.fromtimestamp(entry.timestamp, tz=UTC)
    )
    return True


def _reason(run: DagsterRun, longest_start: timedelta) -> str:
    if run.status in WAITING:
        minutes = longest_start // timedelta(minutes=1)
        return f"the process of this run did not start within {minutes} minutes; launch the run again"
    return (
        "the process of this run has died: it was killed, ran out of memory, or its machine stopped. "
        "Tables that it published are kept; launch the run again"
    )


def _age(record: RunRecord) -> timedelta:
    last_sign = max(_utc(record.create_timestamp), _utc(record.update_timestamp))
    return datetime.now(UTC) - last_sign


def _utc(moment: datetime) -> datetime:
    # Dagster stores UTC times without a time zone.
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
