"""Sensors that send alerts about runs, and the evaluation of each declared model on labels."""

import dagster as dg

from platform_assets.monitoring.alerts import Alert, Alerts
from platform_assets.monitoring.assets import evaluation_job, real_performance_check
from platform_assets.orchestration.declared import Declared


def definitions(declared: Declared) -> dg.Definitions:
    """Return the sensors, and the check and the job of each declared model."""
    return dg.Definitions(
        asset_checks=[real_performance_check(spec) for spec in declared.models],
        jobs=[evaluation_job(spec) for spec in declared.models],
        sensors=[run_failed_sensor()],
    )


def run_failed_sensor() -> dg.SensorDefinition:
    """Return the sensor that sends an alert for each failed run, whether a person or a schedule launched it."""

    @dg.run_failure_sensor(name="run_failed", description="Send an alert for each failed run.")
    def run_failed(context: dg.RunFailureSensorContext, alerts: dg.ResourceParam[Alerts]) -> None:
        run = context.dagster_run
        alerts.send(
            Alert(
                event="run_failed",
                subject=run.run_id,
                text=f"run {run.run_id} of {run.job_name} failed: {context.failure_event.message}",
                link=f"/runs/{run.run_id}",
            )
        )

    return run_failed
