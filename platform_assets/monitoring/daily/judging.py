"""Test the newest measurements of models and tables against earlier measurements."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.engine.query_engine import as_frame
from platform_assets.monitoring.daily.series import Point
from platform_assets.monitoring.daily.usual import GAP, WINDOW, judge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from platform_assets.base.frames import Frame
    from platform_assets.lake.delta_tables import TableStore
    from platform_assets.lake.schemas import TableSchema
    from platform_assets.monitoring.daily.series import Series

KEPT = timedelta(days=400)
"""Time for which measurements are kept."""
REPLAYED = 60
"""Number of most recent values from which the evidence is computed. Older values hardly affect the evidence."""
_COLUMNS = ("series", "column")
_FIELDS = ("subject", "day", *Point.__dataclass_fields__, "alarm")
_JUDGEMENT = ("evidence", "threshold", "alarm", "is_open")


def read_days(
    tables: TableStore, schema: TableSchema, subject: str | None = None, since: date | None = None
) -> Frame | None:
    """Return stored measurements, with `day` as dates; None if nothing was measured yet.

    Parameters
    ----------
    tables
        Store of the tables in the lake.
    schema
        Schema of the table that contains the measurements.
    subject
        Name of a model or table; None for all models or tables.
    since
        First day to return; None for all days.

    Raises
    ------
    TableError
        The table cannot be read.
    """
    if not tables.exists(schema.name):
        return None
    rows = tables.scan(schema.name)
    if subject is not None:
        rows = rows.filter(rows["subject"] == subject)
    if since is not None:
        rows = rows.filter(rows["day"] >= since)
    days = as_frame(rows)
    return days.assign(day=days["day"].dt.date.astype(object))


def as_rows(subject: str, day: date, points: Sequence[Point]) -> list[dict[str, Any]]:
    """Convert one day's measurements of a model or table to rows, without testing them against earlier days."""
    return [
        {"subject": subject, "day": day, **asdict(point), "alarm": point.is_open, "is_open": point.is_open}
        for point in points
    ]


def with_new(history: Frame | None, rows: Sequence[Mapping[str, Any]], today: date) -> Frame:
    """Add new rows to the history. A new row replaces the row of the same subject, day, series and column.

    Rows that are older than `KEPT` are dropped.
    """
    import pandas as pd

    parts = [] if history is None else [history[history["day"] >= today - KEPT]]
    both = pd.concat([*parts, pd.DataFrame(list(rows), columns=list(_FIELDS))], ignore_index=True)
    return both.drop_duplicates(["subject", "day", *_COLUMNS], keep="last", ignore_index=True)


def judged(days: Frame, known: Mapping[str, Series], per_check: float, since: date) -> Frame:
    """Test the measurements from the day `since` on, and return all measurements with the results.

    Parameters
    ----------
    days
        All measurements, with the columns of `schemas.py`.
    known
        The series by name.
    per_check
        Mean number of days between two false alarms of a check.
    since
        First day to test.
    """
    days = days.sort_values(["subject", "day", *_COLUMNS], ignore_index=True)
    to_judge = days[days["judged"].notna()]
    for _, found in to_judge.groupby("subject"):
        newest = sorted(found["day"].unique())[-(REPLAYED + GAP + WINDOW) :]
        if newest[-1] >= since:
            result = _judged_subject(found[found["day"] >= newest[0]], known, per_check)
            result = result[result["day"] >= since]
            days.loc[result.index, list(_JUDGEMENT)] = result[list(_JUDGEMENT)]
    return days


def _judged_subject(found: Frame, known: Mapping[str, Series], per_check: float) -> Frame:
    """Test the measurements of one model or table, and return them with the results."""
    import numpy as np

    values, noise = (found.pivot(index="day", columns=list(_COLUMNS), values=name) for name in ("judged", "noise"))
    columns = [(str(series), str(column)) for series, column in values.columns.to_frame().to_numpy()]
    checks = [known[series].check for series, _ in columns]
    thresholds = per_check * np.array([checks.count(check) for check in checks], dtype=float)
    weekdays = np.array([day.weekday() for day in values.index])
    result = judge(values.to_numpy(), noise.to_numpy(), weekdays, thresholds)
    of_day = {day: row for row, day in enumerate(values.index)}
    of_column = {column: place for place, column in enumerate(columns)}
    rows = [of_day[day] for day in found["day"]]
    places = [of_column[column] for column in zip(found["series"], found["column"], strict=True)]
    return found.assign(
        evidence=result.evidence[rows, places],
        threshold=thresholds[places],
        alarm=result.alarm[rows, places],
        is_open=result.is_open[rows, places],
    )
