"""The environment variables of sensor maintenance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator

from platform_assets.landing.path_pattern import PathPattern
from platform_assets.settings import DomainSettings

if TYPE_CHECKING:
    from platform_assets.landing.path_pattern import Kind


FIELDS: dict[str, Kind] = {"device": "text", "recorded_at": "time"}
"""Fields that `sensor_path_pattern` can contain, with their types."""

RETIRED_HOURS = 30 * 24
"""A device that has sent no reading for this time counts as out of service, and no longer as silent."""


class SensorMaintenanceSettings(DomainSettings):
    """Locations of the labelled readings and of the files with new readings, and when a device is silent."""

    sensor_history_uri: Annotated[
        str,
        Field(description="Labelled readings, as CSV or parquet: a path or any fsspec URI. Default: sample data."),
    ] = ""
    sensor_landing_uri: Annotated[
        str,
        Field(
            description="Folder to load files with new readings from: a path, or any fsspec URI of a folder. Default: "
            "if `PLATFORM_SOURCES=demo`, the folder `landing/sensor_maintenance` in `PLATFORM_HOME`, which contains "
            "sample files; if `live`, no folder, so no readings are loaded."
        ),
    ] = ""
    sensor_path_pattern: Annotated[
        str,
        Field(
            description="Pattern of the file paths in `PLATFORM_SENSOR_LANDING_URI`, if they contain the device and "
            "the time, for example `{device}/{recorded_at}.txt`. The time is in ISO 8601, with or without colons "
            "(`20260228T093000Z`), and in UTC if it has no offset. The columns `device` and `recorded_at` of a file "
            "take precedence. Default: no pattern, and the name of the file is used as the device."
        ),
    ] = ""
    sensor_settle_seconds: Annotated[
        float,
        Field(
            ge=0, description="Seconds for which a file's size and modification time must not change before it is read."
        ),
    ] = 10.0
    sensor_silent_hours: Annotated[
        float,
        Field(
            gt=0,
            lt=RETIRED_HOURS,
            description="Hours after which a device that sends no readings, while other devices do, fails the check "
            "`devices_are_reporting`. Must be less than 720, because a device that is silent for 30 days counts as out "
            "of service.",
        ),
    ] = 48.0

    @field_validator("sensor_path_pattern")
    @classmethod
    def _pattern(cls, text: str) -> str:
        if text:
            PathPattern(text, FIELDS)
        return text
