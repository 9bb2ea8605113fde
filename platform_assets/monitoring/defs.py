"""Alerts about failed runs, lineage events, and the evaluation on labels and drift of each declared model."""

from datetime import timedelta

import dagster as dg

from platform_assets.monitoring.alerts import Alert, Alerts
from platform_assets.monitoring.assets import evaluation_job, real_performance_check
from platform_assets.monitoring.drift.assets import drift_check
from platform_assets.monitoring.drift.sensors import drift_sensor
from platform_assets.monitoring.trace.sensors import lineage_sensor
from platform_assets.orchestration.declared import Declared
from platform_assets.settings import load_settings


def definitions(declared: Declared) -> dg.Definitions:
    """Return the sensors for failed runs and lineage, and each model's evaluation on labels, drift check and sensor."""
    settings = load_settings()
    action, cool_down = settings.drift_action, timedelta(hours=settings.drift_cool_down_hours)
    watched = [(spec, spec.incoming) for spec in declared.models if spec.incoming]
    on_drift = [drift_sensor(*each, action, cool_down) for each in watched] if action != "none" else []
    return dg.Definitions(
        asset_checks=[
            *(real_performance_check(spec) for spec in declared.models),
            *(drift_check(spec, incoming) for spec, incoming in watched),
        ],
        jobs=[evaluation_job(spec) for spec in declared.models],
        sensors=[run_failed_sensor(), *([lineage_sensor()] if settings.openlineage_url else []), *on_drift],
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
