"""Sample values, and a local server that returns them in the format of the ESIOS API. Tests can inject faults.

The values are synthetic. Their daily, weekly and yearly profiles and their spread match the real series of 2017.
"""

from __future__ import annotations

import json
import math
import random
from calendar import SATURDAY
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from platform_assets.domains.esios_demand.months import HOUR, MADRID, start_of, today
from platform_assets.landing.demo_server import DemoServer, Reply, Request, reply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from platform_assets.landing.demo_server import Fault

TOKEN = "demo"  # noqa: S105 - the sample server accepts it
SEED = 460
INDICATOR, GEOGRAPHY = 460, 8741
NAME = "Previsión diaria de la demanda eléctrica peninsular"
OTHERS = ((1293, "Demanda real"), (1775, "Previsión diaria D+1 demanda"))
"""Series with similar names. A search for words of `NAME` finds them too."""
JSON, HTML = "application/json; charset=utf-8", "text/html"
QUARTER = timedelta(minutes=15)
DAYS_AHEAD = 7
"""Number of days after today for which the operator publishes values."""
PUBLISHED_AT = time(7, 37, 31)
"""Local time of the daily update."""
FIRST_DAY = date(2014, 1, 1)

_WEEKDAY = (
    *(26_600, 25_000, 23_900, 23_500, 23_300, 23_800, 25_800, 29_000, 31_100, 32_500, 33_200, 33_500),
    *(33_800, 33_800, 32_900, 32_200, 32_000, 32_100, 32_400, 32_900, 33_400, 33_300, 31_300, 28_800),
)
_SATURDAY = (
    *(27_000, 25_300, 24_000, 23_300, 23_000, 22_800, 23_200, 24_000, 25_400, 27_700, 29_300, 29_800),
    *(29_800, 30_000, 29_400, 28_300, 27_600, 27_400, 28_000, 28_700, 29_500, 30_000, 28_900, 27_100),
)
_SUNDAY = (
    *(25_300, 23_600, 22_300, 21_600, 21_200, 21_100, 21_300, 21_600, 22_200, 24_000, 25_600, 26_400),
    *(26_700, 27_100, 27_000, 26_000, 25_400, 25_300, 26_100, 27_200, 28_400, 29_300, 28_700, 26_800),
)
"""Mean demand by local hour, in MW."""
BY_MONTH = (1.075, 1.03, 0.98, 0.91, 0.94, 1.04, 1.045, 1.02, 0.975, 0.94, 1.005, 1.04)
"""Demand by month, relative to the mean."""
HOLIDAYS = frozenset({(1, 1), (1, 6), (5, 1), (8, 15), (10, 12), (11, 1), (12, 6), (12, 8), (12, 25)})
WEATHER_MEMORY, WEATHER_DAYS, WEATHER_SPREAD, WEATHER_LIMIT = 0.68, 8, 0.032, 0.09
"""Parameters of a day's random deviation from the usual demand.

The deviation is an exponentially weighted sum of random numbers, one for each of the last `WEATHER_DAYS` days including
the day itself. The weight falls by the factor `WEATHER_MEMORY` per day back. `WEATHER_SPREAD` scales the sum, and
`WEATHER_LIMIT` limits the deviation in both directions.
"""
NOISE = 0.004
LOW_MW, HIGH_MW, MARGIN_MW = 18_000, 41_000, 1_000


@dataclass
class DemoSeries:
    """The values that the server returns.

    Attributes
    ----------
    quarter_hourly
        True for a value every 15 minutes, as today; False for a value every hour, as in 2017.
    now
        Function that returns the current time. The values end seven days later.
    changed
        Values that replace the sample values, by start of the hour.
    missing
        Hours without a value.
    updated_at
        Time of the last update; None means this morning.
    """

    quarter_hourly: bool = True
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    changed: dict[datetime, float] = field(default_factory=dict)
    missing: set[datetime] = field(default_factory=set)
    updated_at: datetime | None = None

    @property
    def end(self) -> datetime:
        """The instant after the last published hour."""
        return start_of(today(self.now()) + timedelta(days=DAYS_AHEAD + 1))

    @property
    def updated(self) -> datetime:
        """Time of the last update."""
        return self.updated_at or datetime.combine(today(self.now()), PUBLISHED_AT, MADRID)

    def points(self, start: datetime, end: datetime) -> list[tuple[datetime, float]]:
        """Return the values from `start` to `end`, both included, at the resolution of the series."""
        steps = 4 if self.quarter_hourly else 1
        hour = max(start.replace(minute=0, second=0, microsecond=0), start_of(FIRST_DAY))
        found = []
        while hour <= min(end, self.end - HOUR):
            for step in range(steps):
                at = hour + step * QUARTER
                if start <= at <= end and hour not in self.missing:
                    found.append((at, self._value(hour, step if self.quarter_hourly else None)))
            hour += HOUR
        return found

    def _value(self, hour: datetime, step: int | None) -> float:
        value = self.changed.get(hour, megawatts(hour))
        if step is None:
            return value
        # The four values follow the slope between the neighbouring hours, and their mean is the value of the hour.
        slope = round((megawatts(hour + HOUR) - megawatts(hour - HOUR)) / 16)
        return value + (-3, -1, 1, 3)[step] * slope


@lru_cache(maxsize=1 << 17)
def megawatts(hour: datetime) -> int:
    """Return the sample value of an hour, which depends only on the hour."""
    local = hour.astimezone(MADRID)
    day = local.date()
    share = (local.hour + 0.5) / 24
    near = day + timedelta(days=1 if share > 0.5 else -1)  # noqa: PLR2004 - noon
    weight = abs(share - 0.5)
    deviation = (1 - weight) * _weather(day) + weight * _weather(near)
    noise = NOISE * random.Random(f"{SEED} {hour.isoformat()}").gauss()  # noqa: S311 - sample data
    value = _profile(day)[local.hour] * _season(day) * (1 + deviation + noise)
    return round(_bounded(value))


def _profile(day: date) -> tuple[int, ...]:
    if day.weekday() > SATURDAY or (day.month, day.day) in HOLIDAYS:
        return _SUNDAY
    return _SATURDAY if day.weekday() == SATURDAY else _WEEKDAY


def _season(day: date) -> float:
    """Return the demand relative to the mean of the year, interpolated from the values at the middle of each month."""
    place = day.month - 1 + (day.day - 15) / 30
    month = math.floor(place)
    return BY_MONTH[month % 12] + (place - month) * (BY_MONTH[(month + 1) % 12] - BY_MONTH[month % 12])


@lru_cache(maxsize=1 << 13)
def _weather(day: date) -> float:
    total = sum(
        WEATHER_MEMORY**back * random.Random(f"{SEED} {day - timedelta(days=back)}").gauss()  # noqa: S311 - sample data
        for back in range(WEATHER_DAYS)
    )
    return WEATHER_LIMIT * math.tanh(WEATHER_SPREAD * total / WEATHER_LIMIT)


def _bounded(value: float) -> float:
    """Compress values near the limits. If they were clipped, they would be equal and fail the check for flat lines."""
    low, high = LOW_MW + MARGIN_MW, HIGH_MW - MARGIN_MW
    if value < low:
        return LOW_MW + MARGIN_MW * math.exp((value - low) / MARGIN_MW)
    return HIGH_MW - MARGIN_MW * math.exp((high - value) / MARGIN_MW) if value > high else value


def server(series: DemoSeries | None = None) -> DemoServer:
    """Return a server that answers like the ESIOS API; by default with the quarter-hourly sample values."""
    known = series or DemoSeries()
    return DemoServer(lambda request: respond(request, known))


def respond(request: Request, series: DemoSeries) -> Reply:
    """Answer a request as the API does."""
    if request.headers.get("x-api-key") != TOKEN:
        return reply(b"HTTP Token: Access denied.", "text/plain", HTTPStatus.UNAUTHORIZED)
    if request.path == "/search":
        return _search(request.query.get("query", ""))
    if request.path != f"/indicators/{INDICATOR}":
        return as_json({"message": "not found"}, HTTPStatus.NOT_FOUND)
    try:
        start, end = (_instant(request.query[name]) for name in ("start_date", "end_date"))
    except (KeyError, ValueError):
        return as_json({"message": "start_date and end_date must be dates"}, HTTPStatus.BAD_REQUEST)
    points = series.points(start, end)
    if request.query.get("time_trunc") == "hour":
        points = _by_hour(points, is_mean=request.query.get("time_agg", "sum") in {"average", "avg"})
    return as_json({"indicator": _indicator(points, series)})


def _search(query: str) -> Reply:
    words = set(query.casefold().split())
    found = [
        {"id": number, "title": name, "type": "Data", "slug": str(number), "url": f"/analisis/{number}"}
        for number, name in ((INDICATOR, NAME), *OTHERS)
        if words & set(name.casefold().split())
    ]
    return as_json({"results": found, "meta": {"size": len(found)}})


def _by_hour(points: list[tuple[datetime, float]], *, is_mean: bool) -> list[tuple[datetime, float]]:
    """Return the sum of each hour's values, which is the API's default, or their mean."""
    hours: dict[datetime, list[float]] = {}
    for at, value in points:
        hours.setdefault(at.replace(minute=0), []).append(value)
    return [(at, sum(values) / (len(values) if is_mean else 1)) for at, values in hours.items()]


def _indicator(points: list[tuple[datetime, float]], series: DemoSeries) -> dict[str, Any]:
    place = {"geo_id": GEOGRAPHY, "geo_name": "Península"}
    step = ("Quince minutos", 218) if series.quarter_hourly else ("Hora", 4)
    return {
        "name": NAME,
        "short_name": "Previsión diaria",
        "id": INDICATOR,
        "composited": False,
        "step_type": "step",
        "disaggregated": False,
        "magnitud": [{"name": "Energía", "id": 13}],
        "tiempo": [{"name": step[0], "id": step[1]}],
        "geos": [place] if points else [],
        "values_updated_at": _local(series.updated) if points else None,
        "values": [
            {
                "value": float(value),
                "datetime": _local(at),
                "datetime_utc": f"{at:%Y-%m-%dT%H:%M:%SZ}",
                "tz_time": f"{at:%Y-%m-%dT%H:%M:%S}.000Z",
                **place,
            }
            for at, value in points
        ],
    }


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=MADRID)).astimezone(UTC)


def _local(at: datetime) -> str:
    return at.astimezone(MADRID).isoformat(timespec="milliseconds")


def as_json(body: Mapping[str, Any], status: int = HTTPStatus.OK) -> Reply:
    """Return a response with a JSON body."""
    return reply(json.dumps(body).encode(), JSON, status)


def edited(change: Callable[[dict[str, Any]], object]) -> Fault:
    """Return a fault that changes the content of a JSON response in place."""

    def fault(answer: Reply) -> Reply:
        body = json.loads(b"".join(answer.body))
        change(body)
        return as_json(body, answer.status)

    return fault


def bot_page(_: Reply) -> Reply:
    """Fault: the HTML page of a bot protection service."""
    return reply(b'<html style="height:100%"><head><META NAME="ROBOTS" CONTENT="NOINDEX, NOFOLLOW">', HTML, 403)


def refused_token(_: Reply) -> Reply:
    """Fault: the API refuses the token."""
    return reply(b"HTTP Token: Access denied.", "text/plain", HTTPStatus.UNAUTHORIZED)
