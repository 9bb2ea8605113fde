"""The sensor that launches an evaluation or a training run after a drift alarm."""

from datetime import UTC, datetime, timedelta
from typing import Literal

import dagster as dg

from platform_assets.monitoring.drift.history import DriftHistory, Stream
from platform_assets.orchestration.failures import plain_failures
from platform_assets.training.model_spec import Incoming, ModelSpec

SENSOR_SECONDS = 60
ALARM_TAG = "platform/drift_alarm"
"""Tag of launched runs. The value is the id of the batch that raised the alarm."""


def drift_sensor(
    spec: ModelSpec, incoming: Incoming, action: Literal["evaluate", "train"], cool_down: timedelta
) -> dg.SensorDefinition:
    """Return the sensor that launches the job `<action>_<model>` after an alarm.

    Parameters
    ----------
    spec
        Declaration of the model.
    incoming
        The model's table of new rows.
    action
        `evaluate` or `train`: the job to launch.
    cool_down
        Minimum time between two launches.
    """
    name, job = f"{spec.name}_drift", f"{action}_{spec.name}"

    @dg.sensor(
        name=name,
        job_name=job,
        minimum_interval_seconds=SENSOR_SECONDS,
        description=f"Launch {job} after a drift alarm, once per alarm and at most once per {cool_down} (h:mm:ss).",
    )
    def sensor(
        context: dg.SensorEvaluationContext, drift_history: dg.ResourceParam[DriftHistory]
    ) -> dg.RunRequest | dg.SkipReason:
        with plain_failures():
            alarm = drift_history.newest_alarm(Stream(spec.name, incoming.table))
        if alarm is None:
            return dg.SkipReason(f"no drift alarm in {incoming.table}")
        last = last_launch(context.instance, job, name)
        if last and last[0] == alarm.batch:
            return dg.SkipReason(f"{job} was already launched for the newest alarm, {alarm.name}")
        if last and datetime.now(UTC) - last[1] < cool_down:
            return dg.SkipReason(f"{job} was launched at {last[1]:%Y-%m-%d %H:%M} UTC; the cool-down is {cool_down}")
        return dg.RunRequest(run_key=f"drift {alarm.batch}", tags={ALARM_TAG: alarm.batch})

    return sensor


def last_launch(instance: dg.DagsterInstance, job: str, sensor: str) -> tuple[str, datetime] | None:
    """Return the alarm and the launch time of the sensor's last run; None if the sensor launched no run."""
    # Read them from the stored runs, not from a cursor, so that the sensor launches the job again if a launch failed
    # before its run was stored.
    launched = dg.RunsFilter(job_name=job, tags={"dagster/sensor_name": sensor})
    for record in instance.get_run_records(launched, limit=1):
        return record.dagster_run.tags.get(ALARM_TAG, ""), record.create_timestamp.astimezone(UTC)
    return None
