"""Checks of hourly values: missing hours, jumps and flat lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.domains.esios_demand.months import HOUR, Month, start_of, today

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

LARGEST_JUMP_MW = 6_000
FLAT_HOURS = 6
"""Number of equal consecutive hours that count as a flat line."""


@dataclass(frozen=True)
class Findings:
    """Problems found in the hourly values of the examined months.

    Attributes
    ----------
    expected
        Number of hours that each month should have by now.
    missing
        The hours that are missing, by month.
    jumps
        Hours that differ from the hour before by more than `LARGEST_JUMP_MW`, and the difference in MW.
    flat
        First hour and length of each flat line.
    """

    expected: Mapping[Month, int]
    missing: Mapping[Month, Sequence[datetime]]
    jumps: Sequence[tuple[datetime, float]]
    flat: Sequence[tuple[datetime, int]]


def examine(values: Mapping[datetime, float], months: Sequence[Month], now: datetime) -> Findings:
    """Find missing hours, jumps and flat lines in the given months.

    Every hour of a past month is expected. In the current month, the hours until the end of yesterday (local time) are
    expected. Later hours are allowed.

    Parameters
    ----------
    values
        Value by start of the hour in UTC, for the hours of the months and the last hours before each month.
    months
        The months to examine.
    now
        The current time.
    """
    until = start_of(today(now))
    expected = {month: month.hours(until) for month in months}
    examined = sorted(at for at in values if any(month.start <= at < month.end for month in months))
    return Findings(
        {month: len(hours) for month, hours in expected.items()},
        {month: [at for at in hours if at not in values] for month, hours in expected.items()},
        _jumps(values, examined),
        _flat_lines(values, examined),
    )


def _jumps(values: Mapping[datetime, float], examined: Sequence[datetime]) -> list[tuple[datetime, float]]:
    jumps = [(at, values[at] - values[at - HOUR]) for at in examined if at - HOUR in values]
    return [(at, jump) for at, jump in jumps if abs(jump) > LARGEST_JUMP_MW]


def _flat_lines(values: Mapping[datetime, float], examined: Sequence[datetime]) -> list[tuple[datetime, int]]:
    """Return the first hour and the length of each flat line that contains an examined hour."""
    found: dict[datetime, int] = {}
    for at in examined:
        first = at
        while values.get(first - HOUR) == values[at]:
            first -= HOUR
        found[first] = (at - first) // HOUR + 1
    return [(first, length) for first, length in found.items() if length >= FLAT_HOURS]
