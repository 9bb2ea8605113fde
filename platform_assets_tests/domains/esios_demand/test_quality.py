"""Missing hours, jumps and flat lines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from platform_assets.domains.esios_demand.months import HOUR, Month
from platform_assets.domains.esios_demand.quality import examine

NOW = datetime(2018, 3, 10, 12, tzinfo=UTC)
FEBRUARY, MARCH, APRIL = (Month.with_key(f"2018-0{month}-01") for month in (2, 3, 4))


def alternating(*months: Month, until: datetime | None = None) -> dict[datetime, float]:
    """Values without a jump or a flat line."""
    hours = [at for month in months for at in month.hours(until)]
    return {at: 30_000.0 + number % 2 for number, at in enumerate(hours)}


@pytest.mark.requirement("ESI-5")
def test_every_hour_before_today_must_have_a_value() -> None:
    until = datetime(2018, 3, 9, 23, tzinfo=UTC)
    values = alternating(FEBRUARY, MARCH, until=until)
    found = examine(values, [FEBRUARY, MARCH, APRIL], NOW)
    assert found.expected == {FEBRUARY: 672, MARCH: 216, APRIL: 0}
    assert found.missing == {FEBRUARY: [], MARCH: [], APRIL: []}
    gone = [FEBRUARY.start, MARCH.start, until - HOUR]
    for at in gone:
        del values[at]
    assert examine(values, [FEBRUARY, MARCH], NOW).missing == {FEBRUARY: gone[:1], MARCH: gone[1:]}


@pytest.mark.requirement("ESI-5")
def test_values_for_future_hours_are_allowed() -> None:
    found = examine(alternating(MARCH, until=NOW + timedelta(days=7)), [MARCH], NOW)
    assert found.missing == {MARCH: []}


@pytest.mark.requirement("ESI-5")
@pytest.mark.parametrize(("change", "jumps"), [(6_000, []), (6_001, [6_001, -6_001]), (-6_002, [-6_002, 6_002])])
def test_a_jump_of_more_than_6000_mw_is_found(change: float, jumps: list[float]) -> None:
    values = dict.fromkeys(FEBRUARY.hours(), 30_000.0)
    at = FEBRUARY.start + timedelta(hours=30)
    values[at] += change
    found = examine(values, [FEBRUARY], NOW).jumps
    assert found == list(zip([at, at + HOUR], jumps, strict=False))


def test_the_first_hour_of_a_month_is_compared_with_the_previous_month() -> None:
    values = alternating(FEBRUARY, MARCH)
    values |= {at: value + 9_000 for at, value in values.items() if at >= MARCH.start}
    assert [at for at, _ in examine(values, [MARCH], NOW).jumps] == [MARCH.start]
    assert examine(values, [FEBRUARY], NOW).jumps == []


def test_hours_next_to_a_missing_hour_are_not_compared() -> None:
    values = alternating(FEBRUARY)
    values |= {at: value + 9_000 for at, value in values.items() if at > FEBRUARY.start + 5 * HOUR}
    del values[FEBRUARY.start + 5 * HOUR]
    assert examine(values, [FEBRUARY], NOW).jumps == []


@pytest.mark.requirement("ESI-5")
@pytest.mark.parametrize(("length", "lines"), [(5, []), (6, [6]), (30, [30])])
def test_six_equal_hours_are_a_flat_line(length: int, lines: list[int]) -> None:
    values = alternating(FEBRUARY)
    first = FEBRUARY.start + 10 * HOUR
    values |= {first + number * HOUR: 25_000.0 for number in range(length)}
    assert examine(values, [FEBRUARY], NOW).flat == [(first, length) for length in lines]


def test_a_flat_line_across_two_months_is_found() -> None:
    values = alternating(FEBRUARY, MARCH)
    first = MARCH.start - 4 * HOUR
    values |= {first + number * HOUR: 25_000.0 for number in range(6)}
    assert examine(values, [MARCH], NOW).flat == [(first, 6)]
