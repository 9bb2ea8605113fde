"""Measurements of a table: age, number of rows, columns with their types, and statistics of each column's values.

A table in the lake is measured when it has a new version; its age is measured every day. The checks test the age and
the share of quarantined rows directly. For the other statistics, they test the changes from one measured version to the
next, because most tables keep growing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.engine.query_engine import as_frame
from platform_assets.monitoring.daily.series import (
    SMALLEST_DISTINCT_RATIO,
    SMALLEST_RATIO,
    SMALLEST_SHIFT,
    Point,
    arcsine,
    count_noise,
    of_duration,
    of_share,
    share_noise,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    import ibis.expr.types as ir

    from platform_assets.lake.delta_tables import TableStore
    from platform_assets.lake.online_tables import OnlineVersion
    from platform_assets.lake.table_versions import TableVersion

MOST_CATEGORIES = 1_000
"""Maximum number of distinct values of a non-numeric column for which the most frequent value is measured."""
COLUMNS = "columns"


@dataclass(frozen=True)
class WatchedTable:
    """A table that is measured.

    Attributes
    ----------
    name
        Name of the table.
    store
        `lake` or `online`.
    key
        Columns that identify a row. The values of these columns are not measured.
    quarantine
        Name of the table with the quarantined rows; empty if there is none.
    accumulates
        Whether each run adds rows.
    """

    name: str
    store: str
    key: tuple[str, ...] = ()
    quarantine: str = ""
    accumulates: bool = False


@dataclass(frozen=True)
class Before:
    """The previous measurements of a table, by series and column."""

    points: Mapping[tuple[str, str], Point]

    def value(self, series: str, column: str = "") -> float:
        """Return the value of a series; NaN if it was not measured."""
        found = self.points.get((series, column))
        return math.nan if found is None else found.value

    @property
    def version(self) -> str:
        """The measured version of the table."""
        found = self.points.get((COLUMNS, ""))
        return found.told.split(":")[0] if found else ""


def measure_online(version: OnlineVersion, before: Before, now: datetime) -> list[Point]:
    """Measure the age and the number of rows of an online table. The values of online tables are not measured."""
    return [_age(version.updated_at, now), _rows(version.rows, before, accumulates=False)]


def measure_table(
    tables: TableStore, table: WatchedTable, version: TableVersion, before: Before, now: datetime
) -> list[Point]:
    """Measure a table in the lake. Measure only its age if the newest version was already measured.

    Parameters
    ----------
    tables
        Store of the tables in the lake.
    table, version
        The table and its newest version.
    before
        The previous measurements.
    now
        Current time, with time zone.

    Raises
    ------
    TableError
        The table cannot be read.
    """
    points = [_age(version.committed_at, now)]
    name = f"version {version.version}"
    if name == before.version:
        return points
    rows = tables.scan(table.name, version=version.version)
    points.append(_rows(version.rows, before, accumulates=table.accumulates))
    points.append(_columns(rows, name, before))
    if table.quarantine and (bad := tables.current(table.quarantine)):
        points.append(of_share("quarantined_share", bad.rows, bad.rows + version.rows))
    names = [column for column in rows.columns if column not in table.key]
    if version.rows and names:
        points += [_changed(point, before) for point in _of_columns(rows, names, version.rows)]
    return points


def _age(at: datetime, now: datetime) -> Point:
    return of_duration("age", max((now - at) / timedelta(hours=1), 0.0) + 1 / 60)


def _rows(rows: int, before: Before, *, accumulates: bool) -> Point:
    """Return the measurement of the number of rows.

    If each run adds rows to the table, the number of added rows is tested. Otherwise the ratio of the number of rows to
    the previous number is tested.
    """
    earlier = before.value("rows")
    if math.isnan(earlier):
        return Point("rows", rows, rows=rows)
    if accumulates:
        added = max(rows - earlier, 0.0)
        return Point("rows", rows, rows=rows, judged=math.log1p(added), noise=count_noise(added))
    ratio = math.log1p(rows) - math.log1p(earlier)
    return Point("rows", rows, rows=rows, judged=ratio, noise=SMALLEST_RATIO)


def _columns(rows: ir.Table, version: str, before: Before) -> Point:
    """Return the measurement of the number of columns. Its explanation lists the columns' names and types."""
    found = ", ".join(f"{name} {kind}" for name, kind in sorted(rows.schema().items()))
    earlier = before.points.get((COLUMNS, ""))
    is_new = earlier is not None and earlier.told.partition(": ")[2] != found
    return Point(COLUMNS, len(rows.columns), is_open=is_new, told=f"{version}: {found}")


def _of_columns(rows: ir.Table, names: list[str], count: int) -> Iterator[Point]:
    """Yield the measurements of each column. `_changed` then computes their changes for the test."""
    measures: dict[str, Any] = {}
    for place, name in enumerate(names):
        column = rows[name]
        measures[f"present_{place}"] = column.count()
        if column.type().is_nested():
            continue
        measures[f"distinct_{place}"] = column.nunique()
        if column.type().is_numeric():
            number = column.cast("float64")
            measures |= {f"{what}_{place}": getattr(number, what)() for what in ("min", "max", "mean", "std")}
    [found] = as_frame(rows.aggregate(**measures)).to_dict("records")
    for place, name in enumerate(names):
        present = int(found[f"present_{place}"])
        yield of_share("missing_share", count - present, count, name)
        distinct = found.get(f"distinct_{place}")
        if distinct is None or not present:
            continue
        yield Point("distinct", float(distinct), name, rows=present)
        if f"mean_{place}" in found:
            numbers = {what: float(found[f"{what}_{place}"] or 0) for what in ("min", "max", "mean", "std")}
            yield Point("smallest", numbers["min"], name, rows=present)
            yield Point("largest", numbers["max"], name, rows=present)
            yield Point("mean", numbers["mean"], name, rows=present)
            yield Point("spread", 0.0 if math.isnan(numbers["std"]) else numbers["std"], name, rows=present)
        elif distinct <= MOST_CATEGORIES:
            present_rows = rows.filter(rows[name].notnull())
            most = present_rows.group_by(name).aggregate(often=present_rows.count())
            yield of_share("most_frequent_share", int(most.often.max().to_pyarrow().as_py()), present, name)


def _changed(point: Point, before: Before) -> Point:
    """Return the measurement with `judged` set to the change since the previous one."""
    earlier = before.value(point.series, point.column)
    if math.isnan(earlier) or math.isnan(point.value):
        return replace(point, judged=math.nan, noise=math.nan)
    if point.series in {"missing_share", "most_frequent_share"}:
        return replace(point, judged=arcsine(point.value) - arcsine(earlier), noise=share_noise(point.rows))
    if point.series == "distinct":
        return replace(point, judged=math.log1p(point.value) - math.log1p(earlier), noise=SMALLEST_DISTINCT_RATIO)
    spread = before.value("spread", point.column)
    if point.series == "spread":
        # The spread of a constant column is 0. Replace 0 by a tiny number, so that the logarithm is finite.
        ratio = math.log(max(point.value, 1e-300)) - math.log(max(earlier, 1e-300))
        return replace(point, judged=ratio, noise=SMALLEST_RATIO)
    shift = point.value - earlier
    in_spreads = shift / spread if spread > 0 else math.copysign(math.inf, shift) if shift else 0.0
    return replace(point, judged=min(max(in_spreads, -1e6), 1e6), noise=SMALLEST_SHIFT)
