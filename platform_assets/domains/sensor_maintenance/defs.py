"""Sensor maintenance's assets and sensors."""

import dagster as dg

from platform_assets.domains.sensor_maintenance import schemas
from platform_assets.domains.sensor_maintenance.sources import HISTORY, read_history
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.assets import table_asset
from platform_assets.landing.declared_sources import Sources
from platform_assets.landing.landed_rows import Landed
from platform_assets.landing.sensors import source_changed_sensor

OWNERS = ["team:maintenance"]


@table_asset(schemas.READINGS_HISTORY, owners=OWNERS)
def readings_history(sources: dg.ResourceParam[Sources], engine: dg.ResourceParam[Engine]) -> Landed:
    """Labelled readings of the two sensors, as delivered. Invalid rows are in `readings_history_quarantine`."""
    return read_history(sources, engine)


sensor_history_changed = source_changed_sensor(
    "sensor_history_changed", HISTORY, readings_history, "train_sensor_maintenance_model"
)
