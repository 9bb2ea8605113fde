"""Source of the labelled readings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.domains.sensor_maintenance import demo
from platform_assets.domains.sensor_maintenance.settings import SensorMaintenanceSettings
from platform_assets.landing.declared_sources import DeclaredSource
from platform_assets.landing.landed_rows import Landed, land

if TYPE_CHECKING:
    from platform_assets.engine.query_engine import Engine
    from platform_assets.landing.declared_sources import Sources

HISTORY = DeclaredSource(SensorMaintenanceSettings, "sensor_history_uri", demo.HISTORY)


def read_history(sources: Sources, engine: Engine) -> Landed:
    """Return the labelled readings as delivered, including bad lines, with the number of each row.

    Raises
    ------
    SourceError
        The source is not set, is missing, cannot be reached, or is not a table.
    """
    return land(sources.find(HISTORY), engine).numbered("row")
