"""Measure and test all models and tables. The results are the rows of the tables in `schemas.py`."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from platform_assets.base.errors import PlatformError
from platform_assets.monitoring.daily.judging import as_rows, judged, with_new
from platform_assets.monitoring.daily.model_days import FIRST_LOOK, ModelSources, When, measure_model
from platform_assets.monitoring.daily.quality import Disagreements
from platform_assets.monitoring.daily.series import FAILED, MODEL_SERIES, TABLE_SERIES, Point
from platform_assets.monitoring.daily.table_days import COLUMNS, Before, measure_online, measure_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from platform_assets.base.frames import Frame
    from platform_assets.lake.delta_tables import TableStore
    from platform_assets.lake.online_tables import OnlineTables
    from platform_assets.monitoring.daily.series import Series
    from platform_assets.monitoring.daily.table_days import WatchedTable
    from platform_assets.training.model_spec import ModelSpec

_MEASURED = Point(FAILED, 0.0, told="measured")
_RECENT = timedelta(days=7)


def measure_models(
    sources: ModelSources, specs: Sequence[ModelSpec], history: Frame | None, per_check: float, now: datetime, run: str
) -> Frame:
    """Measure all models from their last measured day on, and return the history with the new measurements.

    Parameters
    ----------
    sources
        Sources of the measurements.
    specs
        Declarations of the models.
    history
        Earlier measurements; None if there are none.
    per_check
        Mean number of days between two false alarms of a check.
    now
        Current time, with time zone.
    run
        Id of the Dagster run.
    """
    today, rows, first = now.astimezone(UTC).date(), [], now.astimezone(UTC).date()
    for spec in specs:
        earlier = _of(history, spec.name)
        start = _next_day(earlier, today)
        first = min(first, start)
        when = When(start, now, run)
        try:
            found = measure_model(sources, spec, when, _disagreements(earlier, today), per_check)
            found[today].append(_MEASURED)
        except PlatformError as error:
            found = {today: [_failed(error)]}
        for day, points in found.items():
            rows += as_rows(spec.name, day, points)
    return judged(with_new(history, rows, today), MODEL_SERIES, per_check, first)


def measure_tables(
    tables: TableStore,
    online: OnlineTables,
    watched: Sequence[WatchedTable],
    history: Frame | None,
    per_check: float,
    now: datetime,
) -> Frame:
    """Measure all tables, and return the history with the new measurements; parameters as for `measure_models`."""
    today, rows = now.astimezone(UTC).date(), []
    in_database = {one.name: one for one in online.versions()}
    for table in watched:
        before = _before(_of(history, table.name), today)
        try:
            if table.store == "online":
                version = in_database.get(table.name)
                points = measure_online(version, before, now) if version else []
            else:
                current = tables.current(table.name)
                points = measure_table(tables, table, current, before, now) if current else []
            points += [_MEASURED] if points else []
        except PlatformError as error:
            points = [_failed(error)]
        rows += as_rows(table.name, today, points)
    return judged(with_new(history, rows, today), TABLE_SERIES, per_check, today)


def _failed(error: PlatformError) -> Point:
    return Point(FAILED, 1.0, is_open=True, told=f"not measured: {error}")


def _of(history: Frame | None, subject: str) -> Frame | None:
    found = None if history is None else history[history["subject"] == subject]
    return None if found is None or found.empty else found


def _next_day(earlier: Frame | None, today: date) -> date:
    """Return the first day to measure, at most 90 days ago.

    This is the last measured day, because that day was not over when it was measured.
    """
    measured = None if earlier is None else earlier.loc[earlier["series"] != FAILED, "day"]
    if measured is None or measured.empty:
        return today - FIRST_LOOK
    return max(measured.max(), today - FIRST_LOOK)  # type: ignore[no-any-return]  # a column of dates


def _disagreements(earlier: Frame | None, today: date) -> Mapping[date, Disagreements]:
    if earlier is None:
        return {}
    found = earlier[(earlier["series"] == "disagreeing") & (earlier["day"] < today)]
    return {
        day: Disagreements(int(rows), int(value))
        for day, rows, value in zip(found["day"], found["rows"], found["value"], strict=True)
    }


def _before(earlier: Frame | None, today: date) -> Before:
    """Return the measurements of the last measured day before today; if there is none, the measurements of today."""
    if earlier is None:
        return Before({})
    whole = earlier[earlier["series"].isin([COLUMNS, "rows"])]
    days = sorted(whole["day"].unique())
    before = [day for day in days if day < today]
    newest = before[-1] if before else days[-1] if days else None
    names = [field.name for field in fields(Point)]
    found = earlier.loc[earlier["day"] == newest, names].to_dict("records")
    points = [Point(**{str(name): value for name, value in row.items()}) for row in found]
    return Before({(point.series, point.column): point for point in points})


def newest(days: Frame, known: Mapping[str, Series]) -> Frame:
    """Return the newest tested measurement of each series and column, with the column `check`.

    Parameters
    ----------
    days
        Measurements, with the columns of `schemas.py`.
    known
        The series by name.
    """
    found = days[days["judged"].notna() | (days["told"] != "")]
    found = found.assign(check=found["series"].map({name: one.check for name, one in known.items()}))
    last = found.groupby(["subject", "series", "column"])["day"].transform("max")
    # Drop columns without a recent measurement, because they are no longer measured.
    recent = found.groupby(["subject", "series"])["day"].transform("max") - _RECENT
    return found[(found["day"] == last) & (found["day"] >= recent)]


def recent_days(days: Frame, count: int = 90) -> Frame:
    """Return the measurements of the last `count` days."""
    first: date = days["day"].max() - timedelta(days=count - 1)
    return days[days["day"] >= first]
