"""The environment variables of the optimisations."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from platform_assets.settings import DomainSettings


class OptimisationSettings(DomainSettings):
    """Sources of the two optimisations."""

    speed_data_uri: Annotated[
        str, Field(description="Rows with latitude and longitude: CSV or parquet; empty: demo data.")
    ] = ""
    speed_data_encoding: Annotated[
        str, Field(description="Text encoding of that CSV file, for example `cp1250`; empty: detected.")
    ] = ""
    memory_data_uri: Annotated[
        str,
        Field(description="Hotels, the table to compress: CSV in any encoding, or parquet; empty: demo data."),
    ] = ""
    memory_data_encoding: Annotated[
        str, Field(description="Text encoding of that CSV file, for example `cp1250`; empty: detected.")
    ] = ""

    @field_validator("speed_data_encoding", "memory_data_encoding")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            "".encode(name or "utf-8")
        except LookupError:
            raise ValueError("a text encoding that Python knows, for example utf-8, cp1250 or latin-1") from None
        return name
