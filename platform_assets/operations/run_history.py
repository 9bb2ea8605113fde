"""Remove old runs from Dagster's history.

Runs that made an asset are kept with their asset events, because Dagster derives the state of assets from these events,
and tables and models refer to these runs. The newest evaluation of each check is kept, because it is the state of the
check. Runs with a run key are kept too, because a sensor must not launch them again. If a run that
is kept is old, its log lines are removed.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

    from dagster import DagsterInstance

    from platform_assets.database.connections import Database

_OLD = b"""
select run_id from runs where status in ('SUCCESS', 'FAILURE', 'CANCELED')
and coalesce(end_time, extract(epoch from update_timestamp)) < extract(epoch from now() - %s)
"""
# Delete old evaluations, because they contain plots and would soon be the largest part of the history.
_EVALUATIONS = b"""
delete from asset_check_executions old where run_id = any(%s) and exists (
    select from asset_check_executions later
    where (later.asset_key, later.check_name) = (old.asset_key, old.check_name)
    and later.partition is not distinct from old.partition
    and later.id > old.id and later.execution_status <> 'PLANNED'
) returning evaluation_event_storage_id
"""
_EVENTS = b"delete from event_logs where id = any(%s)"
_KEPT = b"""
select run_id from runs r where run_id = any(%s) and (
    exists (select from event_logs e where e.run_id = r.run_id and e.asset_key is not null)
    or exists (select from asset_check_executions c where c.run_id = r.run_id)
    or exists (select from run_tags t where t.run_id = r.run_id and t.key = 'dagster/run_key')
)
"""
_LINES = b"""
delete from event_logs where run_id = any(%s) and asset_key is null and (
    dagster_event_type is null
    or dagster_event_type = 'ASSET_CHECK_EVALUATION_PLANNED'
    or dagster_event_type !~ '^(PIPELINE_(START|SUCCESS|FAILURE|CANCELED)|ASSET_.*|STEP_FAILURE|FRESHNESS_.*)$'
)
"""
RUNS_AT_ONCE = 1_000
"""Number of runs whose events are deleted in one transaction."""


def forget_old_runs(instance: DagsterInstance, database: Database, age: timedelta) -> tuple[int, int]:
    """Delete runs that ended longer ago than `age`. For runs that must be kept, delete log lines and old check results.

    Parameters
    ----------
    instance
        Dagster's instance, whose storage is in `database`.
    database
        The platform's databases.
    age
        Minimum time since the end of a run, by the database's clock.

    Returns
    -------
    The number of deleted runs, and the number of log lines and check results deleted from the runs that were kept.

    Raises
    ------
    DatabaseError
        The database does not respond.
    """
    with closing(database.connect("dagster")) as connection:
        old = [run for (run,) in connection.execute(_OLD, [age])]
        kept, lines = set(), 0
        for first in range(0, len(old), RUNS_AT_ONCE):
            runs = old[first : first + RUNS_AT_ONCE]
            with connection.transaction():
                events = [event for (event,) in connection.execute(_EVALUATIONS, [runs])]
                lines += connection.execute(_EVENTS, [events]).rowcount
                some = [run for (run,) in connection.execute(_KEPT, [runs])]
                lines += connection.execute(_LINES, [some]).rowcount
            kept.update(some)
    for run in old:
        instance.compute_log_manager.delete_logs(prefix=[run])
        shutil.rmtree(Path(instance.storage_directory()) / run, ignore_errors=True)
        if run not in kept:
            instance.delete_run(run)
    return len(old) - len(kept), lines
