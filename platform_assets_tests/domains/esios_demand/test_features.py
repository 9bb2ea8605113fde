"""The features match their definitions, follow the local clock, and use no hours after the cut-off."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from statistics import mean
from typing import TYPE_CHECKING, Any

import ibis
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from platform_assets.base.errors import TableError
from platform_assets.domains.esios_demand.features import demand_features
from platform_assets.domains.esios_demand.months import HOUR, MADRID, start_of
from platform_assets.domains.esios_demand.schemas import DEMAND_FEATURES, FEATURES, NAIVE_D1
from platform_assets_tests.domains.esios_demand.series_rows import SCHEMA, by_clock, morning_of, period, series

if TYPE_CHECKING:
    from collections.abc import Mapping

# Only a few examples, because each one runs a query that takes 0.4 s.
LAW = settings(max_examples=8, deadline=None, phases=set(Phase) - {Phase.explain})
DAY = timedelta(days=1)
KNOWN_BEFORE = [column.name for column in (*FEATURES, NAIVE_D1)]
FIRST, TODAY = date(2017, 3, 6), date(2017, 3, 29)


def features(values: Mapping[datetime, float], harvested_at: datetime) -> dict[datetime, dict[str, Any]]:
    """Return the features of each hour."""
    rows = demand_features(series(values, harvested_at)).to_pyarrow().to_pylist()
    return {row["datetime_utc"].replace(tzinfo=UTC): row for row in rows}


def at(day: date, hour: int) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=MADRID).astimezone(UTC)


@pytest.fixture(scope="module")
def march() -> dict[datetime, dict[str, Any]]:
    """Features of 6 to 30 March 2017, from a harvest on the morning of the 29th. Summer time began on the 26th."""
    return features(period(FIRST, TODAY + 7 * DAY), morning_of(TODAY))


@pytest.mark.requirement("ESI-7")
@pytest.mark.parametrize("hour", [0, 2, 9, 10, 23])
@pytest.mark.parametrize("day", [date(2017, 3, 22), date(2017, 3, 30)])
def test_lags_refer_to_the_same_hour_by_the_local_clock(
    march: dict[datetime, dict[str, Any]], day: date, hour: int
) -> None:
    row = march[at(day, hour)]
    newest = 1 if hour < 10 else 2
    # `day` is a Wednesday or a Thursday. The previous day is also a working day, but cannot be used as the last day of
    # the same type, because it is not over at the cut-off.
    same_type = [2, 5, 6] if day.day == 22 else [2, 3, 6]
    assert {name: row[name] for name in row if name.startswith(("lag_", "naive_"))} == {
        "lag_newest_mw": by_clock(at(day - newest * DAY, hour)),
        "lag_2d_mw": by_clock(at(day - 2 * DAY, hour)),
        "lag_7d_mw": by_clock(at(day - 7 * DAY, hour)),
        "lag_14d_mw": by_clock(at(day - 14 * DAY, hour)),
        "lag_day_type_mw": by_clock(at(day - same_type[0] * DAY, hour)),
        "lag_day_type_mean_3_mw": pytest.approx(mean(by_clock(at(day - back * DAY, hour)) for back in same_type)),
        # The values rise by 100 MW a day, so the correction for the weekday makes the naive forecast exact.
        "naive_d1_mw": by_clock(at(day, hour)),
    }
    assert row["newest_hour_mw"] == by_clock(at(day - DAY, 9))
    mornings = {1: "morning_1d_mw", 2: "morning_2d_mw", 8: "morning_8d_mw"}
    for back, name in mornings.items():
        assert row[name] == pytest.approx(by_clock(at(day - back * DAY, 0)) + 4.5)


@pytest.mark.requirement("ESI-7")
@pytest.mark.parametrize("day", [date(2017, 3, 22), date(2017, 3, 27), date(2017, 3, 30)])
def test_rolling_means_end_at_the_cut_off(march: dict[datetime, dict[str, Any]], day: date) -> None:
    row, cut_off = march[at(day, 0)], at(day - DAY, 10)

    def over(hours: int, end: datetime = cut_off) -> Any:
        return pytest.approx(mean(by_clock(end - number * HOUR) for number in range(1, hours + 1)))

    assert row["mean_24h_mw"] == over(24)
    assert row["mean_7d_mw"] == over(168)
    assert row["mean_24h_week_before_mw"] == over(24, at(day - 8 * DAY, 10))


@pytest.mark.requirement("ESI-7", "ESI-5")
def test_days_with_a_clock_change_have_23_or_25_rows_and_lags_follow_the_clock(
    march: dict[datetime, dict[str, Any]],
) -> None:
    short = [row["local_hour"] for row in march.values() if row["local_day"] == date(2017, 3, 26)]
    assert sorted(short) == [0, 1, *range(3, 24)]
    # The short day has no hour 2, so the lag is the mean of the neighbouring hours.
    assert march[at(date(2017, 3, 28), 2)]["lag_2d_mw"] == by_clock(at(date(2017, 3, 26), 1)) + 1
    assert {march[at(date(2017, 3, day), 12)]["is_summer_time"] for day in (24, 25)} == {0}
    assert {march[at(date(2017, 3, day), 12)]["is_summer_time"] for day in (26, 27)} == {1}

    long = date(2017, 10, 29)
    first, second = (start_of(long) + number * HOUR for number in (2, 3))
    values = period(long - 20 * DAY, long + 7 * DAY) | {second: 30_000.0}
    october = features(values, morning_of(long + DAY))
    doubled = [row for row in october.values() if row["local_day"] == long and row["local_hour"] == 2]
    assert [row["demand_mw"] for row in sorted(doubled, key=lambda row: row["datetime_utc"])] == [
        values[first],
        30_000.0,
    ]
    assert len([row for row in october.values() if row["local_day"] == long]) == 25
    assert october[at(long + 2 * DAY, 2)]["lag_2d_mw"] == (values[first] + 30_000.0) / 2


@pytest.mark.requirement("ESI-7")
def test_only_past_hours_have_a_label_and_rows_end_with_the_next_day(march: dict[datetime, dict[str, Any]]) -> None:
    newest = max(at for at, row in march.items() if row["demand_mw"] is not None)
    # The harvest was at 07:37 summer time (05:37 UTC), so the last complete hour began at 04:00 UTC.
    assert newest == datetime(2017, 3, 29, 4, tzinfo=UTC)
    assert max(row["local_day"] for row in march.values()) == TODAY + DAY
    assert all(row["demand_mw"] == by_clock(at) for at, row in march.items() if row["demand_mw"] is not None)
    assert list(next(iter(march.values()))) == [column.name for column in DEMAND_FEATURES.columns]


@pytest.mark.requirement("ESI-7")
@LAW
@given(
    day=st.dates(date(2017, 3, 22), TODAY + DAY),
    later=st.lists(st.none() | st.floats(15_000, 45_000), min_size=24, max_size=24),
)
def test_no_feature_depends_on_hours_after_the_cut_off(
    march: dict[datetime, dict[str, Any]], day: date, later: list[float | None]
) -> None:
    cut_off = at(day - DAY, 10)
    values: dict[datetime, float] = {}
    for number, (hour, value) in enumerate(period(FIRST, TODAY + 7 * DAY).items()):
        changed = value if hour < cut_off else later[number % len(later)]
        if changed is not None:
            values[hour] = changed
    found = features(values, morning_of(TODAY))
    for hour, row in march.items():
        if row["local_day"] <= day and hour in found:
            assert [found[hour][name] for name in KNOWN_BEFORE] == [row[name] for name in KNOWN_BEFORE]


@pytest.mark.requirement("ESI-7")
def test_only_features_computed_from_a_missing_hour_are_null() -> None:
    values = period(FIRST, TODAY + 7 * DAY)
    gap = at(TODAY - DAY, 15)
    del values[gap]
    found = features(values, morning_of(TODAY))
    assert found[gap]["demand_mw"] is None
    tomorrow = {hour: row for hour, row in found.items() if row["local_day"] == TODAY + DAY}
    assert len(tomorrow) == 24
    empty = {(row["local_hour"], name) for row in tomorrow.values() for name in KNOWN_BEFORE if row[name] is None}
    assert {name for _, name in empty} == {
        *("lag_newest_mw", "lag_2d_mw", "lag_day_type_mw", "lag_day_type_mean_3_mw", "naive_d1_mw"),
    }
    assert {hour for hour, _ in empty} == {15}


@pytest.mark.requirement("ESI-7")
def test_the_error_for_an_empty_series_names_the_command_to_run() -> None:
    with pytest.raises(TableError, match="platform-assets esios backfill"):
        demand_features(ibis.memtable(SCHEMA.empty_table()))
