"""Holidays, bridge days and day types."""

from __future__ import annotations

from datetime import date

import pytest

from platform_assets.domains.esios_demand.calendar import calendar


@pytest.mark.requirement("ESI-7")
@pytest.mark.parametrize(
    ("day", "day_type", "is_holiday", "is_bridge", "holiday_share"),
    [
        pytest.param(date(2017, 10, 11), "workday", 0, 0, 0.0, id="a Wednesday"),
        pytest.param(date(2017, 10, 12), "sunday", 1, 0, 1.0, id="a national holiday, on a Thursday"),
        pytest.param(date(2017, 10, 13), "workday", 0, 1, 0.0, id="the Friday after it"),
        pytest.param(date(2017, 10, 14), "saturday", 0, 0, 0.0, id="a Saturday"),
        pytest.param(date(2017, 12, 7), "workday", 0, 1, 0.0, id="between two holidays"),
        pytest.param(date(2017, 8, 14), "workday", 0, 1, 0.0, id="the Monday before a holiday"),
        pytest.param(date(2017, 4, 13), "sunday", 0, 0, 0.83, id="Maundy Thursday, a holiday in most regions"),
        pytest.param(date(2017, 5, 2), "workday", 0, 0, 0.15, id="a holiday of Madrid"),
        pytest.param(date(2018, 12, 8), "sunday", 1, 0, 1.0, id="a holiday on a Saturday"),
    ],
)
def test_each_day_has_the_expected_type_and_holiday_share(
    day: date, day_type: str, is_holiday: int, is_bridge: int, holiday_share: float
) -> None:
    [found] = calendar(day, day)
    assert (found.day_type, found.is_holiday, found.is_bridge) == (day_type, is_holiday, is_bridge)
    assert found.holiday_share == pytest.approx(holiday_share, abs=0.005)


@pytest.mark.requirement("ESI-7")
def test_day_off_columns_show_whether_nearby_days_are_weekends_or_holidays() -> None:
    wednesday, thursday, friday = calendar(date(2017, 10, 11), date(2017, 10, 13))
    assert (wednesday.day_off_before, wednesday.day_off_after) == (0.0, 1.0)
    assert (thursday.day_off_before, thursday.day_off_after) == (0.0, 0.0)
    assert (friday.day_off_before, friday.day_off_after, friday.weekday) == (1.0, 1.0, 5)
    [week_later] = calendar(date(2017, 10, 19), date(2017, 10, 19))
    assert (week_later.day_off_7d_before, week_later.day_off_2d_before) == (1.0, 0.0)
