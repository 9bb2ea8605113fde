"""Pure functions that compute the features as Ibis expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.domains.stocks.schemas import FEATURES

if TYPE_CHECKING:
    import ibis.expr.types as ir


def price_features(prices: ir.Table) -> ir.Table:
    """Compute the features of each share and day from that day and earlier days, and the label from the next day.

    Parameters
    ----------
    prices
        One row per share and trading day, with the columns of `schemas.PRICES`.

    Returns
    -------
    ir.Table
        One row per row of `prices`, in any order, with the columns of `schemas.PRICE_FEATURES`.
    """
    import ibis

    days = ibis.window(group_by=prices.symbol, order_by=prices.day)
    three_before = ibis.window(group_by=prices.symbol, order_by=prices.day, preceding=(3, 1))
    close = prices.close_eur
    return prices.select(
        "symbol",
        "day",
        return_1d=close / close.lag(1).over(days) - 1,
        return_3d=close / close.lag(3).over(days) - 1,
        volume_ratio=prices.volume / prices.volume.mean().over(three_before).nullif(0),
        rose_next_day=(close.lead(1).over(days) > close).cast("int64"),
    )


def newest_per_symbol(price_features: ir.Table) -> ir.Table:
    """Return the features of each share's newest day, with the columns of `schemas.NEWEST_FEATURES`."""
    import ibis

    newest_first = ibis.window(group_by=price_features.symbol, order_by=ibis.desc(price_features.day))
    newest = price_features.mutate(place=ibis.row_number().over(newest_first))
    return newest.filter(newest.place == 0).select(
        "symbol", newest.day.name("as_of"), *(feature.name for feature in FEATURES)
    )
