"""The tables of stocks: columns, types, units, and the expectations that are checked before publishing."""

from __future__ import annotations

import datetime as dt

from platform_assets.lake.expectations import (
    has_rows,
    is_not_negative,
    is_one_of,
    is_positive,
    is_present,
    is_unique,
    is_within,
)
from platform_assets.lake.schemas import Column, TableSchema

FIRST_DAY, LAST_DAY = dt.date(1980, 1, 1), dt.date(2100, 12, 31)
HIGHEST_PRICE = 1e7

SYMBOL = Column("symbol", "string", "Symbol of the share at its exchange.")

PRICES = TableSchema(
    name="stocks/prices",
    columns=(
        SYMBOL,
        Column("day", "date", "Trading day."),
        Column("close_eur", "float64", "Price at the close.", "EUR"),
        Column("volume", "int64", "Number of shares traded on that day.", "shares"),
    ),
    key=("symbol", "day"),
    source=True,
    expectations=(
        has_rows(),
        *(is_present(column) for column in ("symbol", "day", "close_eur", "volume")),
        is_within("day", FIRST_DAY, LAST_DAY),
        is_positive("close_eur", at_most=HIGHEST_PRICE),
        is_not_negative("volume"),
    ),
)

FEATURES = (
    Column("return_1d", "float64", "Relative change of the price since the previous trading day."),
    Column("return_3d", "float64", "Relative change of the price over the last three trading days."),
    Column("volume_ratio", "float64", "Volume, divided by the mean volume of the previous three trading days."),
)

PRICE_FEATURES = TableSchema(
    name="stocks/price_features",
    columns=(
        SYMBOL,
        Column("day", "date", "Trading day. The features are as of its close."),
        *FEATURES,
        Column("rose_next_day", "int64", "The label: 1 if the next close was higher, else 0."),
    ),
    key=("symbol", "day"),
    expectations=(has_rows(), is_not_negative("volume_ratio"), is_one_of("rose_next_day", (0, 1))),
)

NEWEST_FEATURES = TableSchema(
    name="stocks/newest_features",
    columns=(SYMBOL, Column("as_of", "date", "The share's newest trading day."), *FEATURES),
    key=("symbol",),
    store="online",
    expectations=(has_rows(), is_unique("symbol"), is_present("as_of")),
)
