"""Harvest: read months from the API, and merge them with the stored hours.

An hour whose value did not change keeps its update time. A changed value replaces the stored one. A stored hour that
the API does not return any more is kept.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TableError
from platform_assets.base.logs import shown
from platform_assets.domains.esios_demand.months import Month, months_of
from platform_assets.domains.esios_demand.schemas import COLUMNS, DEMAND_FORECAST
from platform_assets.domains.esios_demand.sources import DEMO
from platform_assets.lake.validation import Rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from platform_assets.base.frames import Frame
    from platform_assets.domains.esios_demand.client import Answered, Esios, Series
    from platform_assets.lake.delta_tables import TableStore

LOG = logging.getLogger(__name__)
JOB = "load_esios_demand"
"""Name of the job that harvests, writes the CSV file and loads the target table."""
MOST_CORRECTIONS = 20
"""Maximum number of corrections in the metadata."""
NEW, CORRECTED, UNCHANGED = "new", "corrected", "unchanged"
NOT_RETURNED, OLDER = "not_returned_any_more", "older_than_stored"


@dataclass
class Merged:
    """The hours of the harvested months, merged with the stored hours, and the changes.

    Attributes
    ----------
    rows
        Start of the hour, value and update time of each row.
    counts
        Number of hours by month and kind of change.
    corrections
        Changed values: start of the hour, stored value, new value.
    """

    rows: list[tuple[datetime, float, datetime]] = field(default_factory=list)
    counts: dict[Month, Counter[str]] = field(default_factory=dict)
    corrections: list[tuple[datetime, float, float]] = field(default_factory=list)


def harvest(esios: Esios, tables: TableStore, keys: Sequence[str]) -> Rows:
    """Read months from the API, and return their rows merged with the stored rows.

    Parameters
    ----------
    esios
        Client of the API.
    tables
        The lake, with the stored hours.
    keys
        Partition keys of the months.

    Raises
    ------
    UpstreamError
        The API gave no usable response.
    TableError
        The table contains another series, or the harvest would mix sample data with real data.
    """
    months = [Month.with_key(key) for key in keys]
    stored = read_stored(tables, keys, esios.series, demo=esios.server == DEMO)
    esios.check_series()
    answered = [esios.hours(month) for month in months]
    merged = Merged()
    for one in answered:
        merge(one, stored, merged)
    if unknown := sorted(set().union(*(one.unknown_fields for one in answered))):
        LOG.warning("unknown fields in the response of ESIOS were ignored: %s", ", ".join(unknown))
    return Rows(
        as_frame(merged, esios.series),
        {**facts(answered, merged), "unknown_fields": unknown, "server": esios.server},
        demo=esios.server == DEMO,
    )


def read_stored(tables: TableStore, keys: Sequence[str], series: Series, *, demo: bool) -> dict[datetime, Any]:
    """Return the stored value and update time of each hour of the given months.

    Raise an error if the table contains another series, or data from the other kind of source.
    """
    name = DEMAND_FORECAST.name
    version = tables.current(name)
    if version is None or not version.rows:
        return {}
    place = f"Use another PLATFORM_HOME, or delete {shown(tables.uri(name))} first"
    if has_sample_data(tables) != demo:
        has, comes = ("sample data", "real data") if not demo else ("real data", "sample data")
        raise TableError(f"{name} contains {has}, which must not be mixed with {comes}. {place}")
    rows = tables.scan(name, partitions=keys).select("id", "datetime", "demand_forecast", "update_timestamp")
    columns = rows.to_pyarrow().to_pydict()
    if others := sorted(set(columns["id"]) - {series.indicator}):
        raise TableError(f"{name} contains the series {others[0]}, not {series.indicator}. {place}")
    times = [at.replace(tzinfo=UTC) for at in columns["datetime"]]
    updates = [at.replace(tzinfo=UTC) for at in columns["update_timestamp"]]
    return dict(zip(times, zip(columns["demand_forecast"], updates, strict=True), strict=True))


def has_sample_data(tables: TableStore) -> bool:
    """Whether the stored hours are sample data."""
    version = tables.current(DEMAND_FORECAST.name)
    return version is not None and bool(version.metadata.get("demo"))


def hours_of_months(tables: TableStore, months: Sequence[Month]) -> dict[datetime, float]:
    """Return the stored values by start of the hour, for the given months and the month before each of them."""
    days = {month.first - timedelta(days=1) for month in months}
    keys = [month.key for month in months_of([*days, *(month.first for month in months)])]
    rows = tables.scan(DEMAND_FORECAST.name, partitions=keys).select("datetime", "demand_forecast")
    columns = rows.to_pyarrow().to_pydict()
    times = (at.replace(tzinfo=UTC) for at in columns["datetime"])
    return dict(zip(times, columns["demand_forecast"], strict=True))


def merge(answered: Answered, stored: Mapping[datetime, tuple[float, datetime]], merged: Merged) -> None:
    """Merge a month's response with its stored hours.

    A response that is older than a stored value comes from a cache, so it does not replace that value. If the response
    has an hour twice, both rows are kept, so that the table's check for unique hours fails.
    """
    month = answered.month
    counts = merged.counts[month] = Counter()
    returned = set()
    for at, value in answered.hours:
        returned.add(at)
        assert answered.updated_at is not None  # noqa: S101 - the client refuses values without it
        before = stored.get(at)
        if before is None:
            kind, row = NEW, (value, answered.updated_at)
        elif before[0] == value:
            kind, row = UNCHANGED, before
        elif before[1] > answered.updated_at:
            kind, row = OLDER, before
        else:
            kind, row = CORRECTED, (value, answered.updated_at)
            merged.corrections.append((at, before[0], value))
        counts[kind] += 1
        merged.rows.append((at, *row))
    kept = [at for at in stored if month.start <= at < month.end and at not in returned]
    counts[NOT_RETURNED] += len(kept)
    merged.rows += [(at, *stored[at]) for at in kept]


def as_frame(merged: Merged, series: Series) -> Frame:
    """Return the rows with the columns of the table, ordered by time."""
    import pandas as pd

    rows = sorted(merged.rows)
    times, values, updates = zip(*rows, strict=True) if rows else ((), (), ())
    return pd.DataFrame(
        {
            "name": pd.Series([series.name] * len(rows), dtype="str"),
            "id": pd.Series([series.indicator] * len(rows), dtype="int64"),
            "datetime": _plain_times(times),
            "demand_forecast": pd.Series(values, dtype="float64"),
            "update_timestamp": _plain_times(updates),
        }
    )[[column.name for column in COLUMNS]]


def _plain_times(times: Sequence[datetime]) -> Any:
    import pandas as pd

    return pd.Series([at.replace(tzinfo=None) for at in times], dtype="datetime64[us]")


def facts(answered: Sequence[Answered], merged: Merged) -> dict[str, Any]:
    """Return the metadata of a harvest."""
    total: Counter[str] = sum(merged.counts.values(), Counter())
    return {
        "months": {
            one.month.key: {
                "state": one.state,
                "hours": len(one.hours),
                "values_updated_at": one.updated_at and f"{one.updated_at:%Y-%m-%d %H:%M:%S}",
                **merged.counts[one.month],
            }
            for one in answered
        },
        **{f"hours_{kind}": total[kind] for kind in (NEW, CORRECTED, UNCHANGED, NOT_RETURNED, OLDER)},
        "values_outside_month": sum(one.outside for one in answered),
        "corrections": [
            {"datetime": f"{at:%Y-%m-%d %H:%M:%S}", "before": before, "after": after}
            for at, before, after in merged.corrections[:MOST_CORRECTIONS]
        ],
    }
