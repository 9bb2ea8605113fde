"""The sample values, and the server that returns them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from statistics import mean, stdev
from typing import Any

from platform_assets.domains.esios_demand import demo
from platform_assets.domains.esios_demand.months import HOUR, Month
from platform_assets.domains.esios_demand.quality import examine
from platform_assets.landing.demo_server import Request

NOW = datetime(2018, 12, 31, 12, tzinfo=UTC)
YEAR = [at for month in range(1, 13) for at in Month.with_key(f"2017-{month:02}-01").hours()]


def answer(path: str = "/indicators/460", token: str = demo.TOKEN, **query: str) -> tuple[int, Any]:
    found = demo.respond(Request(path, query, {"x-api-key": token}), demo.DemoSeries(now=lambda: NOW))
    body = b"".join(found.body)
    return found.status, json.loads(body) if found.content_type == demo.JSON else body


def values(**query: str) -> list[float]:
    status, body = answer(start_date="2017-05-03T10:00:00Z", end_date="2017-05-03T11:59:59Z", **query)
    assert status == 200
    return [value["value"] for value in body["indicator"]["values"]]


def test_the_values_resemble_the_real_series() -> None:
    hours = {at: float(demo.megawatts(at)) for at in YEAR}
    assert 28_000 < mean(hours.values()) < 30_000
    assert 4_000 < stdev(hours.values()) < 5_200
    assert demo.LOW_MW < min(hours.values()) < 20_000
    assert 38_000 < max(hours.values()) < demo.HIGH_MW
    week = timedelta(days=7)
    week_before = [abs(value - hours[at - week]) / value for at, value in hours.items() if at - week in hours]
    assert 0.035 < mean(week_before) < 0.065
    found = examine(hours, [Month.with_key(f"2017-{month:02}-01") for month in range(1, 13)], NOW)
    assert (found.jumps, found.flat) == ([], [])


def test_the_mean_of_four_quarter_hours_is_the_hourly_value() -> None:
    at = datetime(2017, 5, 3, 10, tzinfo=UTC)
    expected = [demo.megawatts(at), demo.megawatts(at + HOUR)]
    quarters = values()
    assert [mean(quarters[:4]), mean(quarters[4:])] == expected
    assert len(set(quarters)) == 8
    assert values(time_trunc="hour", time_agg="average") == expected
    assert values(time_trunc="hour") == [4 * value for value in expected]


def test_an_hourly_series_has_one_value_per_hour() -> None:
    hourly = demo.DemoSeries(quarter_hourly=False)
    start = datetime(2017, 5, 3, 10, tzinfo=UTC)
    assert hourly.points(start, start + HOUR) == [(at, demo.megawatts(at)) for at in (start, start + HOUR)]


def test_the_values_end_seven_days_after_the_current_day() -> None:
    _, body = answer(start_date="2019-01-01T00:00:00Z", end_date="2019-01-31T00:00:00Z")
    assert body["indicator"]["values"][-1]["datetime"] == "2019-01-07T23:45:00.000+01:00"
    _, body = answer(start_date="2019-02-01T00:00:00Z", end_date="2019-02-03T00:00:00Z")
    assert (body["indicator"]["values"], body["indicator"]["values_updated_at"]) == ([], None)


def test_invalid_requests_get_the_same_errors_as_from_the_real_api() -> None:
    assert answer(token="other") == (401, b"HTTP Token: Access denied.")
    assert answer("/indicators/1")[0] == 404
    assert answer(start_date="soon", end_date="later")[0] == 400
    assert [one["id"] for one in answer("/search", query="Previsión diaria")[1]["results"]] == [460, 1775]
