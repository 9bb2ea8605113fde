"""Sources of the labelled readings, and of the files with new readings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.domains.sensor_maintenance import demo
from platform_assets.domains.sensor_maintenance.schemas import READINGS
from platform_assets.domains.sensor_maintenance.settings import FIELDS, SensorMaintenanceSettings
from platform_assets.landing.declared_sources import DeclaredSource
from platform_assets.landing.landed_rows import Landed, land
from platform_assets.landing.landing_zone import DeclaredZone

if TYPE_CHECKING:
    from platform_assets.engine.query_engine import Engine
    from platform_assets.landing.declared_sources import Sources

INCOMING = DeclaredZone(
    name="sensor_maintenance",
    settings=SensorMaintenanceSettings,
    uri="sensor_landing_uri",
    settle_seconds="sensor_settle_seconds",
    columns=READINGS,
    fields=FIELDS,
    pattern="sensor_path_pattern",
    demo=demo.write_incoming,
)
HISTORY = DeclaredSource(SensorMaintenanceSettings, "sensor_history_uri", demo.HISTORY)


def read_history(sources: Sources, engine: Engine) -> Landed:
    """Return the labelled readings as delivered, including bad lines, with the number of each row.

    Raises
    ------
    SourceError
        The source is not set, is missing, cannot be reached, or is not a table.
    """
    return land(sources.find(HISTORY), engine).numbered("row")
