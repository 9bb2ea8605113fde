"""Settings that limit loaded data, and how long the platform keeps data."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from platform_assets.settings.groups import LONGEST_DAYS, SettingsGroup


class DataSettings(SettingsGroup):
    """Limits on loaded data, and how long the platform keeps data."""

    max_bad_rows: Annotated[
        float,
        Field(
            ge=0, le=1, description="Maximum share of bad rows in a load, from 0 to 1. Above it, the load is refused."
        ),
    ] = 0.05
    demo_rows: Annotated[int, Field(ge=100, description="Number of rows in each sample data set.")] = 20_000
    archive_max_bytes: Annotated[
        int, Field(ge=1, description="Maximum size of an unpacked tar archive, and of the file in it, in bytes.")
    ] = 1 << 28
    unpacked_max_bytes: Annotated[
        int, Field(ge=1, description="Maximum unpacked size of any other compressed source file, in bytes.")
    ] = 10 << 30
    retention_days: Annotated[
        int, Field(ge=1, le=LONGEST_DAYS, description="Days for which old versions of a table stay readable.")
    ] = 30
    predictions_days: Annotated[
        int, Field(ge=1, le=LONGEST_DAYS, description="Days for which predictions stay in the prediction log.")
    ] = 365
    runs_days: Annotated[
        int,
        Field(
            ge=1,
            le=LONGEST_DAYS,
            description="Days for which runs stay in Dagster's history. Runs that made a table or a model are kept, "
            "and only their log lines and old check results are deleted.",
        ),
    ] = 90
    landing_days: Annotated[
        int | None,
        Field(
            ge=1,
            le=LONGEST_DAYS,
            description="Days for which processed files stay in landing zones. Default: they are never removed.",
        ),
    ] = None
    backup_days: Annotated[
        int,
        Field(
            ge=1,
            le=LONGEST_DAYS,
            description="Days after which `doctor` and `readiness` report the newest backup as too old.",
        ),
    ] = 7
