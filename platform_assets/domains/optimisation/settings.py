"""The environment variables of the optimisations."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from platform_assets.settings import DomainSettings


class OptimisationSettings(DomainSettings):
    """Where the data of the two optimisations come from."""

    speed_data_uri: Annotated[
        str, Field(description="Rows with latitude and longitude: CSV or parquet; empty: demo data.")
    ] = ""
    memory_data_uri: Annotated[
        str,
        Field(description="The hotels, a table to be kept small: CSV in any encoding, or parquet; empty: demo data."),
    ] = ""
