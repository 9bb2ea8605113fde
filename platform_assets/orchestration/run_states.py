"""Run states: groups of Dagster's run statuses that rooms above ask about."""

from __future__ import annotations

from dagster import DagsterRunStatus

UNFINISHED = [
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
]
"""Statuses of a run that is waiting or at work. One that is being cancelled is not among them."""
