"""The environment variables of sensor maintenance."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from platform_assets.settings import DomainSettings


class SensorMaintenanceSettings(DomainSettings):
    """Location of the labelled readings."""

    sensor_history_uri: Annotated[
        str,
        Field(description="Labelled readings, as CSV or parquet: a path or any fsspec URI. Default: sample data."),
    ] = ""
