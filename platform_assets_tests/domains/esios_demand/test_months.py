"""Months of local time and their hours, including months with a clock change."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import pairwise

import pytest

from platform_assets.domains.esios_demand.months import Month, months_around, start_of


@pytest.mark.requirement("ESI-5")
@pytest.mark.parametrize(
    ("key", "hours", "first", "last"),
    [
        ("2017-01-01", 744, "2016-12-31 23:00", "2017-01-31 22:00"),
        ("2017-02-01", 672, "2017-01-31 23:00", "2017-02-28 22:00"),
        ("2017-03-01", 743, "2017-02-28 23:00", "2017-03-31 21:00"),
        ("2017-04-01", 720, "2017-03-31 22:00", "2017-04-30 21:00"),
        ("2017-10-01", 745, "2017-09-30 22:00", "2017-10-31 22:00"),
        ("2020-02-01", 696, "2020-01-31 23:00", "2020-02-29 22:00"),
        ("2017-12-01", 744, "2017-11-30 23:00", "2017-12-31 22:00"),
    ],
)
def test_a_month_has_the_hours_of_its_local_days(key: str, hours: int, first: str, last: str) -> None:
    found = Month.with_key(key).hours()
    assert len(found) == len(set(found)) == hours
    assert [f"{at:%Y-%m-%d %H:%M}" for at in (found[0], found[-1])] == [first, last]


@pytest.mark.requirement("ESI-5")
@pytest.mark.parametrize(("day", "hours"), [(date(2017, 3, 26), 23), (date(2017, 10, 29), 25), (date(2017, 5, 1), 24)])
def test_days_with_a_clock_change_have_23_or_25_hours(day: date, hours: int) -> None:
    begin, end = start_of(day), start_of(date.fromordinal(day.toordinal() + 1))
    assert len([at for at in Month.of(day).hours() if begin <= at < end]) == hours


def test_the_months_of_two_years_contain_each_hour_once() -> None:
    months = [Month(date(year, month, 1)) for year in (2017, 2018) for month in range(1, 13)]
    hours = [at for month in months for at in month.hours()]
    assert len(hours) == len(set(hours)) == 2 * 365 * 24
    assert all((later - earlier).total_seconds() == 3600 for earlier, later in pairwise(hours))


def test_hours_can_be_limited_to_those_before_an_instant() -> None:
    month = Month.with_key("2018-03-01")
    assert len(month.hours(start_of(date(2018, 3, 3)))) == 48
    assert month.hours(month.start) == month.hours(datetime(2000, 1, 1, tzinfo=UTC)) == []


@pytest.mark.requirement("ESI-4")
@pytest.mark.parametrize(
    ("now", "keys"),
    [
        ("2018-03-15T12:00+00:00", ["2018-03-01"]),
        ("2018-03-05T12:00+00:00", ["2018-02-01", "2018-03-01"]),
        ("2018-03-27T12:00+00:00", ["2018-03-01", "2018-04-01"]),
        # In Madrid, this instant is on the first of April.
        ("2018-03-31T22:30+00:00", ["2018-03-01", "2018-04-01"]),
    ],
)
def test_months_around_covers_ten_days_before_and_seven_days_after_a_time(now: str, keys: list[str]) -> None:
    assert [month.key for month in months_around(datetime.fromisoformat(now), 10, 7)] == keys
