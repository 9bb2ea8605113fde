"""Sample rows of the table `demand_forecast`, for tests of the features and the forecasts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import ibis
import pyarrow as pa

from platform_assets.domains.esios_demand.months import HOUR, MADRID, start_of
from platform_assets.domains.esios_demand.schemas import DEMAND_FORECAST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date

    import ibis.expr.types as ir

SCHEMA = ibis.schema({column.name: column.type for column in DEMAND_FORECAST.columns}).to_pyarrow()


def hours_of(first: date, last: date) -> list[datetime]:
    """Return the hours of the local days from `first` to `last`, in UTC."""
    start, end = start_of(first), start_of(last + timedelta(days=1))
    return [start + number * HOUR for number in range((end - start) // HOUR)]


def by_clock(at: datetime) -> float:
    """Return a value that identifies the local day and hour: 20,000 + 100 * day of the year + hour."""
    local = at.astimezone(MADRID)
    return 20_000.0 + 100 * local.timetuple().tm_yday + local.hour


def series(values: Mapping[datetime, float], harvested_at: datetime) -> ir.Table:
    """Return a table with these values, all from one harvest."""
    rows: list[dict[str, Any]] = [
        {
            "name": "demand",
            "id": 460,
            "datetime": at.replace(tzinfo=None),
            "demand_forecast": value,
            "update_timestamp": harvested_at.replace(tzinfo=None),
        }
        for at, value in values.items()
    ]
    return ibis.memtable(pa.Table.from_pylist(rows, schema=SCHEMA))


def period(first: date, last: date, value: Callable[[datetime], float] = by_clock) -> dict[datetime, float]:
    """Return a value for each hour of a period."""
    return {at: value(at) for at in hours_of(first, last)}


def morning_of(day: date) -> datetime:
    """Return the time of the daily harvest, 07:37 local time, in UTC."""
    return datetime(day.year, day.month, day.day, 7, 37, 31, tzinfo=MADRID).astimezone(UTC)
