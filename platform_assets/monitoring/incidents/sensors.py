"""Sensors that turn problems in Dagster's history into incidents."""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import dagster as dg

from platform_assets.approval.ledger import Ledger
from platform_assets.monitoring.incidents import kinds
from platform_assets.monitoring.incidents.delivery import Delivery
from platform_assets.monitoring.incidents.kinds import cause
from platform_assets.monitoring.incidents.problems import LOOKOUT, Findings, Problem, expired_requests, report
from platform_assets.monitoring.incidents.store import Incidents
from platform_assets.orchestration import history
from platform_assets.orchestration.failures import plain_failures
from platform_assets.orchestration.history import FailedRun

SENSOR_SECONDS = 30
LONGEST_GAP = timedelta(minutes=3)
"""If two evaluations are further apart than this, the daemon is assumed to have been interrupted between them."""


def run_failed_sensor() -> dg.SensorDefinition:
    """Return the sensor that opens an incident for each failed run and closes it after a successful later run."""

    @dg.sensor(
        name="run_failed",
        minimum_interval_seconds=SENSOR_SECONDS,
        description="Open an incident for each failed run, and close it when a later run of the same assets or job "
        "succeeds.",
    )
    def run_failed(
        context: dg.SensorEvaluationContext,
        incidents: dg.ResourceParam[Incidents],
        delivery: dg.ResourceParam[Delivery],
    ) -> dg.SkipReason:
        instance, repository = context.instance, _repository(context)
        after = position(context.cursor)
        if after is None:
            # At the first evaluation, start at the newest failure, so that older failures open no incidents.
            after = history.newest_failure(instance)
        failed = history.failed_runs(instance, repository, after)
        with plain_failures():
            for place, run in failed:
                report(Findings([problem_of_run(run)]), incidents)
                # Store the position after each run, so that the next evaluation does not report the run again.
                after = place
                context.update_cursor(str(after))
            report(_repaired_runs(instance, repository, incidents), incidents)
            sent = delivery.deliver()
        context.update_cursor(str(after))
        return dg.SkipReason(f"failed runs: {len(failed)}; messages sent: {sent}")

    return run_failed


def incidents_sensor(owners: Mapping[str, tuple[str, ...]]) -> dg.SensorDefinition:
    """Return the sensor for failed checks, failed or silent schedules and sensors, late data and expired requests.

    It opens an incident for each problem, and closes it when the problem has ended.

    Parameters
    ----------
    owners
        Owners of each registered model.
    """

    @dg.sensor(
        name="incidents",
        minimum_interval_seconds=SENSOR_SECONDS,
        description="Open incidents for failed checks, failed schedules and sensors, late data and expired requests. "
        "Close them when the problem has ended. Send the messages that are due.",
    )
    def incidents_seen(
        context: dg.SensorEvaluationContext,
        incidents: dg.ResourceParam[Incidents],
        delivery: dg.ResourceParam[Delivery],
        ledger: dg.ResourceParam[Ledger],
    ) -> dg.SkipReason:
        instance, repository = context.instance, _repository(context)
        with plain_failures():
            since = incidents.beat(LOOKOUT, LONGEST_GAP)
            now = datetime.now(UTC)
            all_findings = (
                failed_checks(history.check_states(instance, repository)),
                broken_automation(history.automation_states(instance, repository, now, since)),
                late_data(history.freshness(instance, repository)),
                expired_requests(ledger, owners),
            )
            for findings in all_findings:
                report(findings, incidents)
            sent = delivery.deliver()
        problems = sum(len(findings.problems) for findings in all_findings)
        return dg.SkipReason(f"problems: {problems}; messages sent: {sent}")

    return incidents_seen


def position(cursor: str | None) -> int | None:
    """Read the position in the event log from a cursor of the sensor `run_failed`; None if there is no cursor.

    The cursor is a number or, if an older release stored it, JSON in the format of a run status sensor.
    """
    if cursor and cursor.isdigit():
        return int(cursor)
    with suppress(ValueError, KeyError, TypeError):
        return int(json.loads(cursor or "")["record_id"])
    return None


def problem_of_run(run: FailedRun) -> Problem:
    """Describe a failed run as a problem. Runs of the same assets (or job) and partition share an incident."""
    work = ", ".join(run.assets) or run.job
    if run.partition:
        work = f"{work} [{run.partition}]"
    title = f"the run of {work} failed: {run.reason}"
    return Problem(cause(kinds.RUN_FAILED, work), title, "error", run.owners, f"/runs/{run.run_id}", run.run_id)


def failed_checks(states: list[history.CheckState]) -> Findings:
    """Find failed checks of severity ERROR."""
    found = Findings()
    for state in states:
        about = cause(kinds.CHECK_FAILED, f"{state.asset} {state.name}")
        why = f": {state.description}" if state.description else ""
        title = f"the check {state.name} of {state.asset} failed{why}"
        link = f"/runs/{state.run_id}" if state.run_id else f"/assets/{state.asset}?view=checks"
        problem = Problem(about, title, "error", state.owners, link, str(state.evaluation))
        found.add(about, problem if state.failed else None)
    return found


def broken_automation(states: list[history.AutomationState]) -> Findings:
    """Find schedules and sensors whose evaluations fail, or that were not evaluated when they were due."""
    found = Findings()
    for state in states:
        called = f"{state.kind} {state.name}"
        failed, silent = cause(kinds.AUTOMATION_FAILED, called), cause(kinds.AUTOMATION_SILENT, called)
        title = f"the {called} failed: {state.failure}"
        found.add(failed, Problem(failed, title, "error", (), state.page) if state.failure else None)
        title = (
            f"the {called} has not been evaluated since {state.silent_since:%Y-%m-%d %H:%M} UTC"
            if state.silent_since
            else ""
        )
        found.add(silent, Problem(silent, title, "error", (), state.page) if state.silent_since else None)
    return found


def late_data(assets: list[history.Freshness]) -> Findings:
    """Find assets that are older than their freshness policy allows."""
    found = Findings()
    for one in assets:
        about = cause(kinds.DATA_LATE, one.asset)
        title = f"{one.asset} is older than its freshness policy allows"
        found.add(about, Problem(about, title, "error", one.owners, f"/assets/{one.asset}") if one.is_late else None)
    return found


def _repaired_runs(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, incidents: Incidents) -> Findings:
    """Find failed runs whose incident can be closed: the run was deleted, or later runs have done its work."""
    found = Findings()
    for incident in incidents.list():
        if incident.kind == kinds.RUN_FAILED:
            run = history.failed_run(instance, repository, incident.occurrence)
            if run is None or history.is_repaired(instance, run):
                found.add(incident.cause, None)
    return found


def _repository(context: dg.SensorEvaluationContext) -> dg.RepositoryDefinition:
    repository = context.repository_def
    assert repository is not None  # noqa: S101 - Dagster evaluates sensors in a code location
    return repository
