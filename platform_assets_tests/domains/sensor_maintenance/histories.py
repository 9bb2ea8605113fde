"""Labelled readings for tests, from sample data or the real history, with the column types of the lake table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from platform_assets.domains.sensor_maintenance.demo import generate
from platform_assets.domains.sensor_maintenance.model import MODEL
from platform_assets.engine.query_engine import as_frame

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.engine.query_engine import Engine

HISTORY = "sensor/historical_sensor_data.csv"
"""Path of the real history, relative to the folder with the real data."""


def history_of(file: Path) -> pd.DataFrame:
    """Return the valid rows of a file, with the columns of the table `readings_history`."""
    lines = pd.read_csv(file, on_bad_lines="skip", dtype=str)
    numbers = lines.apply(pd.to_numeric, errors="coerce").dropna()
    good = numbers[numbers["label"].isin([0, 1]) & (numbers["sensor_1"].abs() < 1_000)]
    found: pd.DataFrame = good.assign(row=good.index + 2, label=good["label"].astype("int64"))
    return found


def demo_history(folder: Path, rows: int = 1_500) -> pd.DataFrame:
    """Return the valid rows of a sample history."""
    return history_of(generate(folder / "history.csv", rows))


def examples_of(engine: Engine, history: pd.DataFrame) -> pd.DataFrame:
    """Return the model's examples of a history, sorted by id."""
    found: pd.DataFrame = as_frame(MODEL.examples(engine.as_expression(history)).order_by(MODEL.id))
    return found
