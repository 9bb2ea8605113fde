"""The environment variables of the optimisations."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from platform_assets.settings import DomainSettings


class OptimisationSettings(DomainSettings):
    """Sources of the two optimisations."""

    speed_data_uri: Annotated[
        str,
        Field(
            description="Table with the columns `latitude` and `longitude`, as CSV or parquet. Default: sample data."
        ),
    ] = ""
    speed_data_encoding: Annotated[
        str,
        Field(
            description="Text encoding of `PLATFORM_SPEED_DATA_URI` if it is CSV, for example `cp1250`. "
            "Default: detected."
        ),
    ] = ""
    memory_data_uri: Annotated[
        str,
        Field(description="Table of hotels to compress, as CSV in any encoding, or parquet. Default: sample data."),
    ] = ""
    memory_data_encoding: Annotated[
        str,
        Field(
            description="Text encoding of `PLATFORM_MEMORY_DATA_URI` if it is CSV, for example `cp1250`. "
            "Default: detected."
        ),
    ] = ""

    @field_validator("speed_data_encoding", "memory_data_encoding")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            "".encode(name or "utf-8")
        except LookupError:
            raise ValueError(
                "must be a text encoding that Python knows, for example utf-8, cp1250 or latin-1"
            ) from None
        return name
