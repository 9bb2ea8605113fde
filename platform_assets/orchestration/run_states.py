"""Groups of Dagster's run statuses."""

from __future__ import annotations

from dagster import DagsterRunStatus

UNFINISHED = [
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
]
"""Statuses of a run that is queued, starting or running, but not being cancelled."""
