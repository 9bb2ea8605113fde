"""The sensor that sends lineage events for new materialisations."""

from datetime import UTC, datetime

import dagster as dg

from platform_assets.monitoring.trace.open_lineage import LineageReceiver, Materialised, events_of
from platform_assets.orchestration.failures import plain_failures

SENSOR_SECONDS = 30
"""Minimum interval between two evaluations."""
AT_ONCE = 50
"""Maximum number of materialisations per evaluation."""


def lineage_sensor() -> dg.SensorDefinition:
    """Return the sensor that sends lineage events.

    The sensor moves its cursor past a materialisation only after the server has received the events. Each
    materialisation is therefore sent at least once.
    """

    @dg.sensor(
        name="lineage_events",
        minimum_interval_seconds=SENSOR_SECONDS,
        description="Send an OpenLineage event for each new version of a table or model to PLATFORM_OPENLINEAGE_URL.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, lineage_receiver: dg.ResourceParam[LineageReceiver]
    ) -> dg.SkipReason:
        wanted = dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION, after_cursor=int(context.cursor or 0))
        records = context.instance.event_log_storage.get_event_records(wanted, limit=AT_ONCE, ascending=True)
        for record in records:
            with plain_failures():
                lineage_receiver.send(events_of(_materialised(context.instance, record)))
            context.update_cursor(str(record.storage_id))
        return dg.SkipReason(f"materialisations sent: {len(records)}")

    return sensor


def _materialised(instance: dg.DagsterInstance, record: dg.EventLogRecord) -> Materialised:
    entry = record.event_log_entry
    made = entry.asset_materialization
    assert made is not None  # noqa: S101 - the filter returns only such events
    run = instance.get_run_record_by_id(entry.run_id)
    at = datetime.fromtimestamp(entry.timestamp, UTC)
    return Materialised(
        asset="/".join(made.asset_key.path),
        run=entry.run_id,
        job=entry.job_name or "unknown",
        started_at=datetime.fromtimestamp(run.start_time, UTC) if run and run.start_time else at,
        at=at,
        facts={name: getattr(value, "value", None) for name, value in made.metadata.items()},
    )
