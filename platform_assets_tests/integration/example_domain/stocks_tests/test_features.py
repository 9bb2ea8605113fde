from __future__ import annotations

import datetime as dt

import ibis
import pyarrow as pa
import pytest

from platform_assets.domains.stocks.features import newest_per_symbol, price_features

ROWS = [("AAA", 10.0, 100), ("AAA", 11.0, 200), ("AAA", 11.0, 300), ("AAA", 22.0, 400), ("BBB", 5.0, 0)]


@pytest.fixture
def prices() -> ibis.Table:
    days = [dt.date(2026, 1, day) for day in (2, 5, 6, 7, 2)]
    rows = [
        {"symbol": symbol, "day": day, "close_eur": close, "volume": volume}
        for (symbol, close, volume), day in zip(ROWS, days, strict=True)
    ]
    return ibis.memtable(pa.Table.from_pylist(rows))


def test_features_use_earlier_days_and_the_label_uses_the_next_day(prices: ibis.Table) -> None:
    found = price_features(prices).order_by("symbol", "day").to_pyarrow().to_pydict()
    assert found["return_1d"] == [None, pytest.approx(0.1), 0.0, 1.0, None]
    assert found["return_3d"] == [None, None, None, pytest.approx(1.2), None]
    assert found["volume_ratio"] == [None, 2.0, 2.0, 2.0, None]
    assert found["rose_next_day"] == [1, 0, 1, None, None]


def test_newest_per_symbol_returns_the_newest_day_of_each_share(prices: ibis.Table) -> None:
    found = newest_per_symbol(price_features(prices)).order_by("symbol").to_pyarrow().to_pydict()
    assert (found["symbol"], found["as_of"]) == (["AAA", "BBB"], [dt.date(2026, 1, 7), dt.date(2026, 1, 2)])
