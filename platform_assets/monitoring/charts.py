"""Line charts of daily values, as coordinates for the templates of the monitoring pages."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.web.number_formats import number

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

WIDTH, HEIGHT = 320, 110
_EDGE = 6
_MOST_IN_TABLE = 14


@dataclass(frozen=True)
class DayValue:
    """Value of a series on a day.

    Attributes
    ----------
    day
        Day of the value.
    value, low, high
        The value, and the lower and upper bound of its 95 % interval; NaN if unknown.
    alarm
        Whether an alarm was raised or open on this day.
    """

    day: date
    value: float
    low: float = math.nan
    high: float = math.nan
    alarm: bool = False


@dataclass(frozen=True)
class Chart:
    """A line chart, as the values that a template draws.

    Attributes
    ----------
    title
        Title of the series.
    summary
        Text alternative, for screen readers.
    newest
        The newest value as text.
    line
        SVG points of the line through the values.
    band
        SVG points of the polygon that the 95 % intervals cover; empty if there are no intervals.
    newest_at
        Coordinates of the newest value.
    alarms
        Coordinates of the days with an alarm.
    top, bottom
        Largest and smallest value as text.
    first, last
        First and last day.
    rows
        Day, value as text, and whether there was an alarm; newest day first, at most 14 days.
    """

    title: str
    summary: str
    newest: str
    line: str
    band: str
    newest_at: tuple[float, float]
    alarms: tuple[tuple[float, float], ...]
    top: str
    bottom: str
    first: date
    last: date
    rows: tuple[tuple[date, str, bool], ...]


def chart(title: str, unit: str, days: Sequence[DayValue]) -> Chart | None:
    """Return the chart of a series; None if no value is known.

    Parameters
    ----------
    title, unit
        Title and unit of the series.
    days
        Values, oldest first.
    """
    known = [one for one in days if math.isfinite(one.value)]
    if not known:
        return None
    values = [end for one in known for end in (one.value, one.low, one.high) if math.isfinite(end)]
    low, high = min(values), max(values)
    first, last = known[0].day, known[-1].day
    span, height = max((last - first).days, 1), high - low

    def x(one: DayValue) -> float:
        return round(_EDGE + (WIDTH - 2 * _EDGE) * (one.day - first).days / span, 1)

    def y(value: float) -> float:
        share = (value - low) / height if height else 0.5
        return round(HEIGHT - _EDGE - (HEIGHT - 2 * _EDGE) * share, 1)

    ends = [one for one in known if math.isfinite(one.low) and math.isfinite(one.high)]
    band = [(x(one), y(one.high)) for one in ends] + [(x(one), y(one.low)) for one in reversed(ends)]
    alarms = [one for one in known if one.alarm]
    newest = with_unit(known[-1].value, unit)
    return Chart(
        title=title,
        summary=(
            f"{title} from {first} to {last}: newest {newest}, lowest {with_unit(low, unit)}, highest "
            f"{with_unit(high, unit)}, {len(alarms)} {'day' if len(alarms) == 1 else 'days'} with an alarm"
        ),
        newest=newest,
        line=_points([(x(one), y(one.value)) for one in known]),
        band=_points(band),
        newest_at=(x(known[-1]), y(known[-1].value)),
        alarms=tuple((x(one), y(one.value)) for one in alarms),
        top=with_unit(high, unit),
        bottom=with_unit(low, unit).removesuffix(f" {unit}"),
        first=first,
        last=last,
        rows=tuple((one.day, with_unit(one.value, unit), one.alarm) for one in reversed(known[-_MOST_IN_TABLE:])),
    )


def with_unit(value: float, unit: str) -> str:
    """Format a value with its unit; a share in percent."""
    return f"{value:.1%}" if unit == "share" else f"{number(value)} {unit}".strip()


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)
