"""Sensor maintenance's assets and sensors."""

import dagster as dg

from platform_assets.base.frames import Expression
from platform_assets.base.printable_text import escaped
from platform_assets.domains.sensor_maintenance import features, schemas
from platform_assets.domains.sensor_maintenance.model import MODEL
from platform_assets.domains.sensor_maintenance.settings import SensorMaintenanceSettings
from platform_assets.domains.sensor_maintenance.sources import HISTORY, INCOMING, read_history
from platform_assets.engine.query_engine import Engine
from platform_assets.engine.row_batch import RowBatch
from platform_assets.lake.assets import online_check, table_asset
from platform_assets.lake.delta_tables import TableStore
from platform_assets.lake.landed_files import LandedFiles
from platform_assets.lake.online_tables import OnlineTables
from platform_assets.lake.validation import conform
from platform_assets.landing.declared_sources import Sources
from platform_assets.landing.landed_rows import Landed
from platform_assets.landing.landing_zone import LandingZones
from platform_assets.landing.sensors import files_landed_sensor, source_changed_sensor
from platform_assets.orchestration.failures import plain_failures
from platform_assets.serving.assets import predictions_asset, waits_for_champion
from platform_assets.serving.batch_predictions import BatchPredictions

OWNERS = ["team:maintenance"]
MOST_SHOWN = 20
"""Maximum number of silent devices in the metadata of the check."""
LONGEST_NAME = 100
"""Number of characters after which the check truncates the name of a device, which can be any text."""


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
    """New readings of devices, one row per line of a file. Files with the same content are loaded once."""
    landed = LandedFiles(tables, schemas.READINGS_INCOMING)
    return zones.find(INCOMING).take(landed, engine, context.run.run_id)


predictions = predictions_asset(
    BatchPredictions(MODEL.name, schemas.READINGS_INCOMING, schemas.PREDICTIONS, positive="needs_maintenance"),
    INCOMING,
    owners=OWNERS,
)


@table_asset(schemas.DEVICES, owners=OWNERS)
def devices(predictions: Expression) -> Expression:
    """The newest prediction for each device, for HTTP requests and work lists."""
    return features.newest_per_device(predictions)


devices_are_current = online_check(schemas.DEVICES, schemas.PREDICTIONS, features.newest_per_device)


@dg.asset_check(
    asset=devices,
    name="devices_are_reporting",
    description="No device has stopped sending readings while other devices continued. The limit is "
    "`PLATFORM_SENSOR_SILENT_HOURS`. A device that is silent for 30 days counts as out of service.",
)
def devices_are_reporting(
    sources: dg.ResourceParam[Sources], online: dg.ResourceParam[OnlineTables], engine: dg.ResourceParam[Engine]
) -> dg.AssetCheckResult:
    """Find the silent devices, and show those with the longest silence."""
    hours = sources.settings_of(SensorMaintenanceSettings).sensor_silent_hours
    with plain_failures():
        newest = conform(engine.as_expression(online.read(schemas.DEVICES.name)), schemas.DEVICES)
        silent = features.silent_devices(newest, hours).to_pyarrow().to_pylist()
    told = [
        f"{escaped(one['device'])[:LONGEST_NAME]}: no reading since {one['newest_reading']:%Y-%m-%d %H:%M} UTC"
        for one in silent[:MOST_SHOWN]
    ]
    return dg.AssetCheckResult(
        passed=not silent,
        description=f"silent devices: {len(silent):,}; {told[0]}" if silent else None,
        metadata={"silent_devices": len(silent), "longest_silence": dg.MetadataValue.json(told)},
    )


predict_sensor_maintenance = dg.define_asset_job(
    "predict_sensor_maintenance",
    selection=dg.AssetSelection.assets(readings_incoming, predictions, devices),
    description="Load up to 500 new files from the landing zone, and predict with the champion.",
)

sensor_maintenance_files_landed = files_landed_sensor(
    "sensor_maintenance_files_landed",
    INCOMING,
    predict_sensor_maintenance.name,
    waits_for=waits_for_champion(MODEL.name),
    resources={"ledger"},
)

sensor_history_changed = source_changed_sensor(
    "sensor_history_changed", HISTORY, readings_history, "train_sensor_maintenance_model"
)
