"""Dagster definitions of stocks. The logic is in `sources.py` and `features.py`."""

import dagster as dg

from platform_assets.base.frames import Expression
from platform_assets.domains.stocks import features, schemas
from platform_assets.domains.stocks.sources import PRICES, read_prices
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.assets import online_check, table_asset
from platform_assets.landing.declared_sources import Sources
from platform_assets.landing.landed_rows import Landed
from platform_assets.landing.sensors import source_changed_sensor

OWNERS = ["team:stocks"]


@table_asset(schemas.PRICES, owners=OWNERS)
def prices(sources: dg.ResourceParam[Sources], engine: dg.ResourceParam[Engine]) -> Landed:
    """The prices of the source, one row per share and trading day."""
    return read_prices(sources, engine)


@table_asset(schemas.PRICE_FEATURES, owners=OWNERS, kinds={"duckdb"})
def price_features(prices: Expression) -> Expression:
    """Three features of each share and day, as known at that day's close, and the label."""
    return features.price_features(prices)


@table_asset(schemas.NEWEST_FEATURES, owners=OWNERS)
def newest_features(price_features: Expression) -> Expression:
    """The features of each share's newest day, for requests about single shares."""
    return features.newest_per_symbol(price_features)


newest_features_are_current = online_check(schemas.NEWEST_FEATURES, schemas.PRICE_FEATURES, features.newest_per_symbol)

stocks_prices_changed = source_changed_sensor("stocks_prices_changed", PRICES, prices, "train_stocks_model")
