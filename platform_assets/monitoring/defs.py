"""Alerts about failed runs, and for each declared model its evaluation on labels and its drift check and sensor."""

from datetime import timedelta

import dagster as dg

from platform_assets.monitoring.alerts import Alert, Alerts
from platform_assets.monitoring.assets import evaluation_job, real_performance_check
from platform_assets.monitoring.daily.assets import daily_definitions
from platform_assets.monitoring.drift.assets import drift_check
from platform_assets.monitoring.drift.sensors import drift_sensor
from platform_assets.orchestration.declared import Declared
from platform_assets.settings import load_settings


def definitions(declared: Declared) -> dg.Definitions:
    """Return the sensor for failed runs, and for each model its evaluation on labels and its drift check and sensor."""
    settings = load_settings()
    action, cool_down = settings.drift_action, timedelta(hours=settings.drift_cool_down_hours)
    watched = [(spec, spec.incoming) for spec in declared.models if spec.incoming]
    on_drift = [drift_sensor(*each, action, cool_down) for each in watched] if action != "none" else []
    own = dg.Definitions(
        asset_checks=[
            *(real_performance_check(spec) for spec in declared.models),
            *(drift_check(spec, incoming) for spec, incoming in watched),
        ],
        jobs=[evaluation_job(spec) for spec in declared.models],
        sensors=[run_failed_sensor(), *on_drift],
    )
    return dg.Definitions.merge(own, daily_definitions(declared, settings))


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
