"""Sensors that open and close incidents, and the nightly audit of the approvals."""

import dagster as dg

from platform_assets.approval.promotion import Promoter
from platform_assets.monitoring.incidents.problems import audit as audit_findings
from platform_assets.monitoring.incidents.problems import report
from platform_assets.monitoring.incidents.sensors import incidents_sensor, run_failed_sensor
from platform_assets.monitoring.incidents.store import Incidents
from platform_assets.orchestration.declared import Declared
from platform_assets.orchestration.failures import plain_failures

AUDIT_SCHEDULE = "15 4 * * *"


def definitions(declared: Declared) -> dg.Definitions:
    """Return the sensors, and the job `audit` with its schedule."""
    job = audit_job()
    owners = {spec.name: spec.owners for spec in declared.models}
    nightly = dg.ScheduleDefinition(
        name="audit_nightly",
        job=job,
        cron_schedule=AUDIT_SCHEDULE,
        execution_timezone="UTC",
        description="Run `audit` every night.",
    )
    return dg.Definitions(jobs=[job], schedules=[nightly], sensors=[run_failed_sensor(), incidents_sensor(owners)])


def audit_job() -> dg.JobDefinition:
    """Return the job `audit`. It opens an incident if the audit finds a problem."""

    @dg.op(
        description="Check that decisions, keys, policies and artifacts are unaltered, as `platform-assets audit` does."
    )
    def audit_approvals(
        context: dg.OpExecutionContext, promoter: dg.ResourceParam[Promoter], incidents: dg.ResourceParam[Incidents]
    ) -> None:
        with plain_failures():
            lines = promoter.audit_everything()
            report(audit_findings(lines), incidents)
        for line in lines:
            context.log.error(line)

    @dg.job(
        executor_def=dg.in_process_executor,
        name="audit",
        description="Audit the approvals, and open an incident if something was altered.",
    )
    def audit() -> None:
        audit_approvals()

    return audit
