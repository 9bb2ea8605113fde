"""Sensor maintenance's assets and sensors."""

import dagster as dg

from platform_assets.domains.sensor_maintenance import schemas
from platform_assets.domains.sensor_maintenance.sources import HISTORY, INCOMING, read_history
from platform_assets.engine.query_engine import Engine
from platform_assets.engine.row_batch import RowBatch
from platform_assets.lake.assets import table_asset
from platform_assets.lake.delta_tables import TableStore
from platform_assets.lake.landed_files import LandedFiles
from platform_assets.landing.declared_sources import Sources
from platform_assets.landing.landed_rows import Landed
from platform_assets.landing.landing_zone import LandingZones
from platform_assets.landing.sensors import files_landed_sensor, source_changed_sensor

OWNERS = ["team:maintenance"]


@table_asset(schemas.READINGS_HISTORY, owners=OWNERS)
def readings_history(sources: dg.ResourceParam[Sources], engine: dg.ResourceParam[Engine]) -> Landed:
    """Labelled readings of the two sensors, as delivered. Invalid rows are in `readings_history_quarantine`."""
    return read_history(sources, engine)


@table_asset(schemas.READINGS_INCOMING, owners=OWNERS)
def readings_incoming(
    context: dg.AssetExecutionContext,
    zones: dg.ResourceParam[LandingZones],
    tables: dg.ResourceParam[TableStore],
    engine: dg.ResourceParam[Engine],
) -> RowBatch:
    """New readings of devices, one row per line of a file. Each file lands once, whatever its name."""
    landed = LandedFiles(tables, schemas.READINGS_INCOMING)
    return zones.find(INCOMING).take(landed, engine, context.run.run_id)


predict_sensor_maintenance = dg.define_asset_job(
    "predict_sensor_maintenance",
    selection=dg.AssetSelection.assets(readings_incoming),
    description="Take up to 500 files that wait in the landing zone.",
)

sensor_maintenance_files_landed = files_landed_sensor(
    "sensor_maintenance_files_landed", INCOMING, predict_sensor_maintenance.name
)

sensor_history_changed = source_changed_sensor(
    "sensor_history_changed", HISTORY, readings_history, "train_sensor_maintenance_model"
)
