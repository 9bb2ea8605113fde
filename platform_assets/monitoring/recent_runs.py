"""Read the newest runs of jobs from Dagster's database tables, for processes that do not import Dagster."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import DatabaseError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import psycopg

LOG = logging.getLogger(__name__)
_RUNS = """
select run_id, pipeline_name, status, create_timestamp from runs
where %(every)s or pipeline_name = any(%(jobs)s) order by id desc limit %(most)s
"""


@dataclass(frozen=True)
class RecentRun:
    """A run, with its id, job, state and launch time."""

    run: str
    job: str
    state: str
    at: datetime


def recent_runs(
    connect: Callable[[], psycopg.Connection[Any]], jobs: Collection[str] | None = None, most: int = 8
) -> list[RecentRun]:
    """Return the newest runs; empty if Dagster's tables cannot be read.

    Parameters
    ----------
    connect
        Function that opens a connection to Dagster's database.
    jobs
        Names of the jobs; None for all jobs.
    most
        Maximum number of runs.
    """
    import psycopg

    values = {"every": jobs is None, "jobs": list(jobs or ()), "most": most}
    try:
        with closing(connect()) as connection:
            rows = connection.execute(_RUNS.encode(), values).fetchall()
    except (psycopg.Error, DatabaseError) as error:
        LOG.warning("the newest runs cannot be read: %s", first_line(error))
        return []
    return [RecentRun(run, job, state.lower(), at.replace(tzinfo=UTC)) for run, job, state, at in rows]
