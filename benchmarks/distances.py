"""Benchmark of the distance formula on 10 million rows, with the addition of two arrays as the lower bound.

Every implementation computes the same formula from the same float64 arrays, in its own process, and returns a new
array. The original row loop is slow, so it is measured on as many rows as the original table has.
"""

from __future__ import annotations

import math
import sys
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.measuring import Way, compare, take_turns
from platform_assets.domains.optimisation.distance import distance

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

FLOOR = "numpy, adding the two arrays"
OURS = "platform"
ROWS = 10_000_000
ROUNDS = 5
ROWS_OF_LOOP = 52_192
ROUNDS_OF_LOOP = 3
SQL = "SELECT sin(a / 2) ** 2 + cos(a) * cos(b) * sin(b / 2) ** 2 AS distance FROM angles"


def with_numpy(a: Array, b: Array) -> Callable[[], object]:
    return lambda: np.sin(a / 2) ** 2 + np.cos(a) * np.cos(b) * np.sin(b / 2) ** 2


def with_numexpr(a: Array, b: Array) -> Callable[[], object]:
    import numexpr

    names = {"a": a, "b": b}
    return lambda: numexpr.evaluate("sin(a / 2) ** 2 + cos(a) * cos(b) * sin(b / 2) ** 2", names)


def with_polars(a: Array, b: Array) -> Callable[[], object]:
    import polars as pl

    frame = pl.DataFrame({"a": a, "b": b})
    x, y = pl.col("a"), pl.col("b")
    formula = (x / 2).sin() ** 2 + x.cos() * y.cos() * (y / 2).sin() ** 2
    return lambda: frame.select(formula)


def with_duckdb(a: Array, b: Array) -> Callable[[], object]:
    import duckdb
    import pyarrow as pa

    connection = duckdb.connect()
    connection.register("angles", pa.table({"a": a, "b": b}))
    return lambda: connection.sql(SQL).to_arrow_table()


def with_pandas(a: Array, b: Array) -> Callable[[], object]:
    import pandas as pd

    x, y = pd.Series(a), pd.Series(b)
    return lambda: np.sin(x / 2) ** 2 + np.cos(x) * np.cos(y) * np.sin(y / 2) ** 2


def with_arrow(a: Array, b: Array) -> Callable[[], object]:
    import pyarrow as pa
    import pyarrow.compute as pc

    x, y = pa.array(a), pa.array(b)

    def work() -> object:
        north, east = pc.power(pc.sin(pc.divide(x, 2)), 2), pc.power(pc.sin(pc.divide(y, 2)), 2)
        return pc.add(north, pc.multiply(pc.multiply(pc.cos(x), pc.cos(y)), east))

    return work


def with_row_loop(a: Array, b: Array) -> Callable[[], object]:
    import pandas as pd

    frame = pd.DataFrame({"latitude": a, "longitude": b})

    def work() -> object:
        found = []
        for _, row in frame.iterrows():
            x, y = row["latitude"], row["longitude"]
            found.append(math.sin(x / 2) ** 2 + math.cos(x) * math.cos(y) * math.sin(y / 2) ** 2)
        return found

    return work


WAYS: dict[str, Callable[[Array, Array], Callable[[], object]]] = {
    FLOOR: lambda a, b: lambda: np.add(a, b),
    OURS: lambda a, b: lambda: distance(a, b),
    "numexpr": with_numexpr,
    "polars": with_polars,
    "DuckDB": with_duckdb,
    "Arrow": with_arrow,
    "pandas": with_pandas,
    "numpy": with_numpy,
    "pandas, row by row": with_row_loop,
}


def run() -> None:
    """Measure the fast implementations on many rows, and the row loop on few rows."""
    *fast, loop = WAYS
    _compare(fast, ROWS, ROUNDS)
    _compare([FLOOR, OURS, loop], ROWS_OF_LOOP, ROUNDS_OF_LOOP)


def _compare(names: list[str], rows: int, rounds: int) -> None:
    ways = [Way(name, ["benchmarks.distances", name, str(rows)]) for name in names]
    compare(f"distance formula on {rows:,} rows in memory", ways, rounds, reference=FLOOR)


def _prepared(name: str, rows: int) -> Callable[[], object]:
    random = np.random.default_rng(1)
    return WAYS[name](random.uniform(-90, 90, rows), random.uniform(-180, 180, rows))


if __name__ == "__main__":
    once = _prepared(sys.argv[1], int(sys.argv[2]))
    take_turns(partial(lambda work: work, once))
