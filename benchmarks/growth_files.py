"""Measure how the costs of a landing zone, and of stored predictions, grow.

`python -m benchmarks.growth_files zone HOME FILES` measures three operations on a landing zone with FILES files: the
scans until every file is found, one scan of the unchanged zone, and one run that lands a batch.

`python -m benchmarks.growth_files predictions HOME ROWS BATCH` measures three operations on predictions: making ROWS
predictions in batches, making one more batch, and reading one page. To make a batch, the rows are scored, stored and
copied to the lake.
"""

from __future__ import annotations

import hashlib
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
from pydantic import SecretStr

from benchmarks.live_platform import crown
from benchmarks.process_costs import measured
from platform_assets.domains.sensor_maintenance.demo import COLUMNS
from platform_assets.domains.sensor_maintenance.model import MODEL
from platform_assets.domains.sensor_maintenance.schemas import PREDICTIONS, READINGS_HISTORY, READINGS_INCOMING
from platform_assets.domains.sensor_maintenance.settings import SensorMaintenanceSettings
from platform_assets.domains.sensor_maintenance.sources import INCOMING, read_history
from platform_assets.engine.row_batch import RowBatch
from platform_assets.lake.landed_files import LandedFiles
from platform_assets.lake.publication import Publisher
from platform_assets.landing.landing_zone import MOST_FILES
from platform_assets.landing.sensors import DISCOVER_SECONDS
from platform_assets.services import Services
from platform_assets.serving.batch_predictions import BatchPredictions, plain_rows, predicted
from platform_assets.serving.stored_predictions import StoredPredictions, batch_number
from platform_assets.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from platform_assets.lake.schemas import TableSchema

READINGS, DEVICES = 42, 50
"""Number of readings per file, and number of devices."""
PAGE = 100
_DECLARED = BatchPredictions(MODEL.name, READINGS_INCOMING, PREDICTIONS, positive="needs_maintenance")


def zone(home: Path, files: int) -> None:
    """Measure the operations on a landing zone with `files` files."""
    folder = home / "zone"
    for number in range(files):
        _deliver(folder, number)
    with closing(_services(home, folder)) as services:
        servers, incoming = [postmaster(services)], services.zones.find(INCOMING)

        def find_all() -> None:
            while incoming.discover(DISCOVER_SECONDS).found < files:
                pass

        measured("find files", files, find_all, servers)
        measured("scan, nothing new", files, lambda: incoming.discover(DISCOVER_SECONDS), servers)
        _land(services)  # not measured, because the first batch imports the libraries
        measured("land a batch", MOST_FILES, lambda: _land(services), servers)


def predictions(home: Path, rows: int, batch: int) -> None:
    """Measure three operations: make and store `rows` predictions, make one more batch, and read a page."""
    with closing(_services(home, home / "zone")) as services:
        validated = services.validator.validate(READINGS_HISTORY, read_history(services.sources, services.engine))
        services.tables.publish(READINGS_HISTORY.name, validated.table, metadata={"demo": validated.demo})
        validated.discard()
        if crown(services, MODEL) is None:
            raise RuntimeError(f"{MODEL.name} failed its gate on sample data")
        servers, run = [postmaster(services)], _Predictions(services)
        run.predict(rows + batch, batch)  # a warm-up

        def predict_all() -> None:
            for first in range(0, rows, batch):
                run.predict(first, batch)

        measured("predict", rows, predict_all, servers)
        measured("predict a batch", batch, lambda: run.predict(rows, batch), servers)
        measured("read a page", PAGE, lambda: run.stored.page([_digest(rows // 2)], 0, PAGE), servers)


class _Predictions:
    """Makes predictions for random readings. Like a run, it scores and stores a batch, and copies it to the lake."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._live = services.current_champions.load(MODEL.name)
        self.stored = StoredPredictions(lambda: services.database, PREDICTIONS)

    def predict(self, first: int, rows: int) -> None:
        services = self._services
        scored = predicted(self._live, _readings(first, rows), _DECLARED)
        with services.database.pooled() as connection, connection.transaction():
            self.stored.add(connection, plain_rows(scored))
        new = self.stored.after(services.tables.last_batch(PREDICTIONS.name))
        _publish(services, PREDICTIONS, RowBatch(new, batch_number(new)))


def _readings(first: int, rows: int) -> pd.DataFrame:
    import pandas as pd

    numbers = np.arange(first, first + rows)
    readings = np.random.default_rng(first).normal(size=(rows, 2))
    return pd.DataFrame(
        {
            "file_digest": [_digest(int(number)) for number in numbers],
            "line": numbers % READINGS + 2,
            "file_name": [f"device_{number // READINGS % DEVICES}/{number // READINGS}.txt" for number in numbers],
            "device": [f"device_{number // READINGS % DEVICES}" for number in numbers],
            "recorded_at": pd.Timestamp("2026-01-01", tz="UTC"),
            COLUMNS[0]: readings[:, 0],
            COLUMNS[1]: readings[:, 1],
        }
    )


def _digest(row: int) -> str:
    """Return the digest of the file that contains the row with this number."""
    return hashlib.sha256(str(row // READINGS).encode()).hexdigest()


def _deliver(folder: Path, number: int) -> None:
    target = folder / f"device_{number % DEVICES}" / f"{number}.txt"
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{number + line / 1_000},{-line / 1_000}\n" for line in range(READINGS)]
    target.write_text(f"{','.join(COLUMNS[:2])}\n{''.join(lines)}")


def _services(home: Path, folder: Path) -> Services:
    settings = Settings(
        home=home / "home",
        lake_uri="",
        sources="demo",
        database_url=SecretStr(""),
        mlflow_tracking_uri=SecretStr(""),
    )
    sensor = SensorMaintenanceSettings(sensor_landing_uri=str(folder), sensor_settle_seconds=0)
    return Services(settings, (sensor,))


def postmaster(services: Services) -> int:
    """Return the process id of the embedded PostgreSQL server."""
    with services.database.pooled() as connection:
        [(backend,)] = connection.execute("select pg_backend_pid()").fetchall()
    parent = psutil.Process(backend).parent()
    assert parent
    return int(parent.pid)


def _land(services: Services) -> None:
    landed = LandedFiles(services.tables, READINGS_INCOMING)
    _publish(services, READINGS_INCOMING, services.zones.find(INCOMING).take(landed, services.engine, "benchmark"))


def _publish(services: Services, schema: TableSchema, batch: RowBatch) -> None:
    validated = services.validator.validate(schema, batch)
    publisher = Publisher(services.tables, services.engine, {}, lambda _: None)
    publisher.publish(schema.name, schema.quarantine if schema.source else "", validated)
    validated.discard()


if __name__ == "__main__":
    if sys.argv[1] == "zone":
        zone(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        predictions(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
