"""Features of each hour for the forecast of the next day, as an Ibis expression.

The cut-off of a day is 10:00 local time on the day before. A lag or a mean uses only hours that end by the cut-off.
Lags follow the local clock. On a day with 25 hours, the repeated hour is averaged. On a day with 23 hours, the missing
hour is the mean of the hours around it.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from platform_assets.base.errors import TableError
from platform_assets.domains.esios_demand.calendar import calendar
from platform_assets.domains.esios_demand.months import HOUR, MADRID, start_of, today
from platform_assets.domains.esios_demand.schemas import CALENDAR, DEMAND_FEATURES, DEMAND_FORECAST

if TYPE_CHECKING:
    from datetime import date, datetime

    import ibis.expr.types as ir

CUT_OFF = 10
"""Local hour of the cut-off on the day before; see the docstring of this module."""
MEASURED_SHARE = 0.8
"""Minimum share of known hours for a mean. Below it, the mean is null."""
_EXACT = "decimal(38, 6)"
"""Type in which values are summed. A sum of decimals does not depend on the order of addition.

Therefore later hours cannot change the last bits of an earlier mean.
"""


def demand_features(demand_forecast: ir.Table) -> ir.Table:
    """Compute the features of each hour, up to the end of the day after the newest harvest.

    Parameters
    ----------
    demand_forecast
        One row per hour, with the columns of `schemas.DEMAND_FORECAST`.

    Returns
    -------
    ir.Table
        One row per hour with the columns of `schemas.DEMAND_FEATURES`, in no particular order. Hours that are not
        stored have a row too.

    Raises
    ------
    TableError
        The table is empty.
    """
    import ibis

    first, last, harvested_at = _bounds(demand_forecast)
    days = ibis.memtable(
        [asdict(day) for day in calendar(first, last)],
        schema=_types("local_day", "day_type", *(one.name for one in CALENDAR if one.name not in _OF_HOURS)),
    )
    hours = _hours(demand_forecast, first, last)
    profiles = _profiles(hours, days)
    found = (
        hours.inner_join(days, "local_day")
        .left_join(_lags(profiles), ["local_day", "local_hour"], rname="{name}_right")
        .left_join(_means(hours, profiles), "local_day", rname="{name}_mean")
    )
    is_over = found.datetime_utc <= ibis.literal(harvested_at - HOUR, "timestamp")
    found = found.mutate(
        naive_d1_mw=found.lag_newest_mw + (found.lag_7d_mw - found.lag_newest_week_before_mw),
        demand_mw=ibis.ifelse(is_over, found.mw, ibis.null("float64")),
        harvested_at=ibis.literal(harvested_at, "timestamp"),
    )
    return found.select(**{column.name: found[column.name].cast(column.type) for column in DEMAND_FEATURES.columns})


def _bounds(demand_forecast: ir.Table) -> tuple[date, date, datetime]:
    """Return (first stored day, day after the newest harvest, time of the newest harvest)."""
    [found] = (
        demand_forecast.aggregate(
            first=demand_forecast["datetime"].min(),
            last=demand_forecast["datetime"].max(),
            harvested_at=demand_forecast.update_timestamp.max(),
        )
        .to_pyarrow()
        .to_pylist()
    )
    if found["first"] is None:
        raise TableError(f"{DEMAND_FORECAST.name} has no rows; load months with `platform-assets esios backfill`")
    newest = min(found["last"], found["harvested_at"])
    return _local_day(found["first"]), _local_day(newest) + timedelta(days=1), found["harvested_at"]


def _local_day(at: datetime) -> date:
    return today(at.replace(tzinfo=UTC))


def _hours(demand_forecast: ir.Table, first: date, last: date) -> ir.Table:
    """Return every hour of the local days from `first` to `last`, with its published value `mw`, null if missing."""
    import ibis

    start, end = start_of(first), start_of(last + timedelta(days=1))
    local = [(start + number * HOUR).astimezone(MADRID) for number in range((end - start) // HOUR)]
    rows = {
        "datetime_utc": [at.astimezone(UTC).replace(tzinfo=None) for at in local],
        "local_day": [at.date() for at in local],
        "local_hour": [at.hour for at in local],
        "is_summer_time": [int(bool(at.dst())) for at in local],
    }
    hours = ibis.memtable(rows, schema=_types(*rows))
    published = demand_forecast.select(datetime_utc="datetime", mw="demand_forecast", updated_at="update_timestamp")
    return hours.left_join(published, "datetime_utc").drop("datetime_utc_right")


def _profiles(hours: ir.Table, days: ir.Table) -> ir.Table:
    """Return 24 values of each local day, in MW, with the day's type."""
    import ibis

    known = hours.group_by("local_day", "local_hour").aggregate(mw=_mean(hours.mw, 1))
    clock = ibis.memtable({"local_hour": range(24)}, schema=_types("local_hour"))
    grid = days.select("local_day", "day_type").cross_join(clock)
    on_clock = ["local_day", "local_hour"]
    grid = grid.left_join(known.mutate(occurs=True), on_clock).drop(*(f"{name}_right" for name in on_clock))
    in_time = ibis.window(order_by=[grid.local_day, grid.local_hour])
    around = (grid.mw.lag(1).over(in_time) + grid.mw.lead(1).over(in_time)) / 2
    return grid.mutate(mw=ibis.ifelse(grid.occurs.isnull(), around, grid.mw)).drop("occurs")


def _lags(profiles: ir.Table) -> ir.Table:
    """Return the lags of each local day and hour."""
    import ibis

    by_day = ibis.window(group_by=profiles.local_hour, order_by=profiles.local_day)
    by_type = ibis.window(group_by=[profiles.day_type, profiles.local_hour], order_by=profiles.local_day)
    is_early = profiles.local_hour < CUT_OFF
    # The day before is not over at the cut-off. Skip it if it has the same type as the day itself.
    has_type_before = profiles.day_type == profiles.day_type.lag(1).over(by_day)
    older = [profiles.mw.lag(number).over(by_type) for number in (1, 2, 3, 4)]
    same = [ibis.ifelse(has_type_before, *pair) for pair in zip(older[1:], older[:-1], strict=True)]

    def days_before(number: int) -> ir.FloatingValue:
        return profiles.mw.lag(number).over(by_day)

    return profiles.select(
        "local_day",
        "local_hour",
        lag_newest_mw=ibis.ifelse(is_early, days_before(1), days_before(2)),
        lag_newest_week_before_mw=ibis.ifelse(is_early, days_before(8), days_before(9)),
        lag_2d_mw=days_before(2),
        lag_7d_mw=days_before(7),
        lag_14d_mw=days_before(14),
        lag_day_type_mw=same[0],
        lag_day_type_mean_3_mw=(same[0] + same[1] + same[2]) / 3,
    )


def _means(hours: ir.Table, profiles: ir.Table) -> ir.Table:
    """Return the means of each local day that are known at its cut-off."""
    import ibis

    def before(number: int) -> ir.WindowBuilder:
        return ibis.window(order_by=hours.datetime_utc, preceding=number - 1, following=0)

    rolling = hours.mutate(mean_24h_mw=_mean(hours.mw, 24, before(24)), mean_7d_mw=_mean(hours.mw, 168, before(168)))
    # The last hour before the cut-off. It occurs once on every day.
    newest = rolling.filter(rolling.local_hour == CUT_OFF - 1)
    early = profiles.filter(profiles.local_hour < CUT_OFF)
    mornings = early.group_by("local_day").aggregate(morning_mw=_mean(early.mw, CUT_OFF))
    found = newest.inner_join(mornings, "local_day")
    by_day = ibis.window(order_by=found.local_day)

    def days_before(number: int, column: str) -> ir.Value:
        return found[column].lag(number).over(by_day)

    return found.select(
        "local_day",
        newest_hour_mw=days_before(1, "mw"),
        mean_24h_mw=days_before(1, "mean_24h_mw"),
        mean_24h_week_before_mw=days_before(8, "mean_24h_mw"),
        mean_7d_mw=days_before(1, "mean_7d_mw"),
        morning_1d_mw=days_before(1, "morning_mw"),
        morning_2d_mw=days_before(2, "morning_mw"),
        morning_8d_mw=days_before(8, "morning_mw"),
    )


def _mean(values: ir.FloatingColumn, hours: int, window: ir.WindowBuilder | None = None) -> ir.FloatingValue:
    """Return the mean of the known values, null if fewer than `MEASURED_SHARE` of the hours are known."""
    import ibis

    total, known = values.cast(_EXACT).sum(), values.count()
    if window is not None:
        total, known = total.over(window), known.over(window)
    return ibis.ifelse(known >= MEASURED_SHARE * hours, total.cast("float64") / known, ibis.null("float64"))


_OF_HOURS = ("local_hour", "is_summer_time")
"""Calendar columns whose values can differ between the hours of a day."""


def _types(*names: str) -> dict[str, str]:
    return {column.name: column.type for column in DEMAND_FEATURES.columns if column.name in names}
