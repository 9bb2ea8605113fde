"""The environment variables of stocks."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from platform_assets.settings import DomainSettings


class StocksSettings(DomainSettings):
    """Where the prices come from."""

    stocks_prices_uri: Annotated[
        str, Field(description="The daily prices: CSV or parquet, a path or any fsspec URI; empty: demo data.")
    ] = ""
