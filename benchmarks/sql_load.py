"""Benchmark of the SQL loader: 200,000 rows into a PostgreSQL table with a primary key, compared with a raw COPY.

The loader and COPY load the rows of a demand forecast into an empty table. The loader is also measured on a full table,
once with changes in all rows and once with no change. The benchmark uses the embedded server.
"""

from __future__ import annotations

import io
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pyarrow as pa
import sqlalchemy as sa
from pyarrow import csv

from platform_assets.database.opening import open_owner
from platform_assets.lake.sql_loader import SqlLoader
from platform_assets.lake.sql_target import SqlTarget

if TYPE_CHECKING:
    from collections.abc import Callable

    from platform_assets.database.connections import Database

ROWS = 200_000
ROUNDS = 3
START = datetime(2000, 1, 1, tzinfo=UTC)
TABLE = "sql_load"
COLUMNS = sa.Table(
    TABLE,
    sa.MetaData(),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("datetime", sa.DateTime, primary_key=True),
    sa.Column("demand_forecast", sa.Double, nullable=False),
    sa.Column("update_timestamp", sa.DateTime, nullable=False),
)


def forecast(first_mw: float) -> pa.Table:
    """Return the rows of a forecast. `first_mw` determines the forecasts and update times, but not the keys."""
    times = pa.array([START.replace(tzinfo=None) + timedelta(hours=hour) for hour in range(ROWS)], pa.timestamp("us"))
    return pa.table(
        {
            "name": ["Previsión diaria de la demanda eléctrica peninsular"] * ROWS,
            "id": [460] * ROWS,
            "datetime": times,
            "demand_forecast": [first_mw + hour % 20_000 / 7 for hour in range(ROWS)],
            "update_timestamp": pa.array([START.replace(tzinfo=None) + timedelta(hours=first_mw)] * ROWS),
        }
    )


def run() -> None:
    """Measure all ways to load, alternately. Print their median times, and their rates relative to the raw COPY."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home,
        closing(open_owner("", Path(home))) as database,
    ):
        engine = database.engine
        old, new = forecast(18_000.0), forecast(20_000.0)
        loader = SqlLoader(SqlTarget(database.url("platform"), is_own=True), TABLE, ("id", "datetime"))
        ways: dict[str, Callable[[], object]] = {
            "raw COPY": lambda: raw_copy(database, new),
            "loader, empty table": lambda: loader.load(new.to_reader()),
            "loader, every row changes": lambda: loader.load(new.to_reader()),
            "loader, no row changes": lambda: loader.load(new.to_reader()),
            "SQLAlchemy insertmanyvalues": lambda: insert_many_values(engine, new),
            "pandas to_sql": lambda: to_sql(engine, new),
        }
        before = {"loader, every row changes": old, "loader, no row changes": new}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(ROUNDS + 1):
            for name, load in ways.items():
                prepare(database, before.get(name))
                start = time.perf_counter()
                load()
                # The first round is a warm-up and is not counted.
                seconds[name] += [time.perf_counter() - start] if turn else []
    base = median(seconds["raw COPY"])
    print(f"\n{ROWS:,} rows into a keyed table of PostgreSQL; medians of {ROUNDS} alternating runs after a warm-up")
    print(f"{'':32}{'seconds':>9}{'rows/s':>11}{'rate / COPY':>13}")
    for name, measured in seconds.items():
        middle = median(measured)
        print(f"{name:32}{middle:9.2f}{ROWS / middle:11,.0f}{base / middle:12.0%}")


def prepare(database: Database, rows: pa.Table | None) -> None:
    """Drop the table, create it again, and fill it with `rows`, or leave it empty."""
    COLUMNS.drop(database.engine, checkfirst=True)
    COLUMNS.create(database.engine)
    if rows is not None:
        raw_copy(database, rows)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"VACUUM ANALYZE {TABLE}")
        connection.exec_driver_sql("CHECKPOINT")


def raw_copy(database: Database, rows: pa.Table) -> None:
    """Write the rows as CSV in memory, and send them with one COPY."""
    with database.connect("platform") as connection, connection.cursor() as cursor:
        buffer = io.BytesIO()
        csv.write_csv(rows, buffer, csv.WriteOptions(include_header=False))
        with cursor.copy(f"COPY {TABLE} FROM STDIN (FORMAT csv)".encode()) as copy:
            copy.write(buffer.getbuffer())


def insert_many_values(engine: sa.Engine, rows: pa.Table) -> None:
    with engine.begin() as connection:
        connection.execute(COLUMNS.insert(), rows.to_pylist())


def to_sql(engine: sa.Engine, rows: pa.Table) -> None:
    with engine.begin() as connection:
        rows.to_pandas().to_sql(TABLE, connection, if_exists="append", index=False)


if __name__ == "__main__":
    run()
