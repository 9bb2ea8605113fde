"""The source of the prices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.domains.stocks import demo
from platform_assets.domains.stocks.settings import StocksSettings
from platform_assets.landing.declared_sources import DeclaredSource
from platform_assets.landing.landed_rows import Landed, land

if TYPE_CHECKING:
    from platform_assets.engine.query_engine import Engine
    from platform_assets.landing.declared_sources import Sources

PRICES = DeclaredSource(StocksSettings, "stocks_prices_uri", demo.PRICES)


def read_prices(sources: Sources, engine: Engine) -> Landed:
    """Return all lines of the source, including bad ones."""
    return land(sources.find(PRICES), engine)
