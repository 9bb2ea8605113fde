"""Test setup: a trained model, and a table in which new rows arrive in batches."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from platform_assets.monitoring.drift.history import DriftHistory, Stream
from platform_assets.monitoring.drift.monitor import DriftMonitor, Measurement
from platform_assets.training.model_spec import Incoming
from platform_assets_tests.training.breakage_model import ONE_CANDIDATE

if TYPE_CHECKING:
    from platform_assets.database.connections import Database
    from platform_assets_tests.training.bench import Bench

INCOMING = Incoming("somewhere/readings_incoming")
SPEC = replace(ONE_CANDIDATE, incoming=INCOMING)
STREAM = Stream(SPEC.name, INCOMING.table)
START = datetime(2026, 1, 1, 8, tzinfo=UTC)
FALSE_ALARM_DAYS = 1_000.0
FARTHEST = 2.2


def batch(name: str, rows: int = 100, *, shift: float = 0.0, days: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Return new rows in the training range, distributed like the training rows, except that `heat` is shifted."""
    random = np.random.default_rng([seed, *name.encode()])
    heat = np.clip(random.normal(size=rows), -FARTHEST, FARTHEST) + shift
    return pd.DataFrame(
        {
            "file_digest": f"digest of {name}",
            "file_name": name,
            "landed_at": pd.Timestamp(START.replace(tzinfo=None) + timedelta(days=days)),
            "heat": np.where(random.random(rows) < 0.05, np.nan, heat),
            "noise": np.clip(random.normal(size=rows), -FARTHEST, FARTHEST),
        }
    )


class Station:
    """The drift monitor of the model that `bench` trained. Its history is stored in PostgreSQL."""

    def __init__(self, bench: Bench, database: Database) -> None:
        self.bench = bench
        self.database = database
        self.history = DriftHistory(database.pooled)
        stores = bench.tables, bench.artefacts, bench.registry
        self.monitor = DriftMonitor(stores, self.history, database.lock, FALSE_ALARM_DAYS)
        self._arrived: list[pd.DataFrame] = []

    def arrive(self, *batches: pd.DataFrame) -> None:
        """Add batches to the table of new rows."""
        self._arrived += batches
        # Add the time zone here, because pyarrow converts pandas' time zones with a deprecated function.
        rows = pa.Table.from_pandas(pd.concat(self._arrived, ignore_index=True), preserve_index=False)
        utc = rows["landed_at"].cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
        rows = rows.set_column(rows.schema.get_field_index("landed_at"), "landed_at", utc)
        with self.bench.engine.stage(rows) as staged:
            self.bench.tables.publish(INCOMING.table, staged, metadata={})

    def measure(self) -> Measurement:
        """Measure the batches that have not been measured yet."""
        return self.monitor.measure(SPEC, "a run")

    def rows(self, query: str) -> list[Any]:
        """Return the rows of a query."""
        with self.database.pooled() as connection:
            return connection.execute(query.encode()).fetchall()


def forget(database: Database) -> None:
    """Delete all measurements."""
    with database.pooled() as connection, connection.transaction():
        for table in ("drift_batches", "drift", "estimated_performance", "drift_evidence"):
            connection.execute(f"delete from platform.{table}".encode())
