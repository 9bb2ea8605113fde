"""Spanish calendar: public holidays, the share of the population that observes them, and bridge days."""

from __future__ import annotations

from calendar import SATURDAY
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POPULATION = {
    "AN": 8.4,
    "AR": 1.3,
    "AS": 1.0,
    "CB": 0.6,
    "CL": 2.4,
    "CM": 2.0,
    "CT": 7.5,
    "EX": 1.1,
    "GA": 2.7,
    "MC": 1.5,
    "MD": 6.5,
    "NC": 0.6,
    "PV": 2.2,
    "RI": 0.3,
    "VC": 4.9,
}
"""Inhabitants of the regions of the peninsula, in millions. The keys are the region codes of the library `holidays`.

Rounded from the municipal register of Spain's statistical office INE, 1 January 2017.
"""
DAY = timedelta(days=1)
MOSTLY = 0.5
"""Minimum share of the population that must be off for a day to count as a day off."""
SATURDAYS, SUNDAYS, WORKDAYS = "saturday", "sunday", "workday"


@dataclass(frozen=True)
class CalendarDay:
    """A local day.

    Attributes
    ----------
    local_day
        The date.
    day_type
        `workday`, `saturday` or `sunday`. A day on which most people have a public holiday is a `sunday`.
    weekday
        Day of the week, from 1 (Monday) to 7 (Sunday).
    is_holiday
        1 on a national holiday, else 0.
    is_bridge
        1 on a working day between two days off, else 0.
    holiday_share
        Share of the population with a public holiday.
    day_off_before, day_off_after, day_off_2d_before, day_off_7d_before
        Share of the population that has the day off one day earlier, one day later, or two or seven days earlier; 1 if
        that day is a Saturday or Sunday.
    """

    local_day: date
    day_type: str
    weekday: int
    is_holiday: int
    is_bridge: int
    holiday_share: float
    day_off_before: float
    day_off_after: float
    day_off_2d_before: float
    day_off_7d_before: float


def calendar(first: date, last: date) -> Iterator[CalendarDay]:
    """Yield the days of a period, both ends included."""
    import holidays

    years = range((first - 7 * DAY).year, (last + DAY).year + 1)
    national = holidays.country_holidays("ES", years=years)
    regional = {region: holidays.country_holidays("ES", subdiv=region, years=years) for region in POPULATION}
    total = sum(POPULATION.values())

    def share(day: date) -> float:
        return sum(people for region, people in POPULATION.items() if day in regional[region]) / total

    def off(day: date) -> float:
        return 1.0 if day.weekday() >= SATURDAY else share(day)

    for number in range((last - first).days + 1):
        day = first + number * DAY
        yield CalendarDay(
            local_day=day,
            day_type=_day_type(day, share(day)),
            weekday=day.isoweekday(),
            # If a holiday on a Sunday is moved to another day, the library omits the original date. `is_holiday` is
            # then 0 on that Sunday.
            is_holiday=int(day in national),
            is_bridge=_is_bridge(day, off),
            holiday_share=share(day),
            day_off_before=off(day - DAY),
            day_off_after=off(day + DAY),
            day_off_2d_before=off(day - 2 * DAY),
            day_off_7d_before=off(day - 7 * DAY),
        )


def _day_type(day: date, holiday_share: float) -> str:
    if day.weekday() > SATURDAY or holiday_share >= MOSTLY:
        return SUNDAYS
    return SATURDAYS if day.weekday() == SATURDAY else WORKDAYS


def _is_bridge(day: date, off: Callable[[date], float]) -> int:
    return int(off(day) < MOSTLY <= min(off(day - DAY), off(day + DAY)))
