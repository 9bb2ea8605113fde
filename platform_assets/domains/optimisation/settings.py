"""The environment variables of the optimisations."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from platform_assets.settings import DomainSettings


class OptimisationSettings(DomainSettings):
    """Sources of the two optimisations."""

    speed_data_uri: Annotated[
        str, Field(description="Rows with latitude and longitude: CSV or parquet; empty: demo data.")
    ] = ""
    memory_data_uri: Annotated[
        str,
        Field(description="Hotels, the table to compress: CSV in any encoding, or parquet; empty: demo data."),
    ] = ""
