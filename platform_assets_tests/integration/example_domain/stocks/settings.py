"""The environment variables of stocks."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from platform_assets.settings import DomainSettings


class StocksSettings(DomainSettings):
    """Settings for the source of the prices."""

    stocks_prices_uri: Annotated[
        str, Field(description="Path or fsspec URI of the daily prices, as CSV or parquet. Empty for demo data.")
    ] = ""
