"""Recorded API responses: the client parses each one completely, or raises an error that names the cause."""

from __future__ import annotations

import csv
import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from platform_assets.domains.esios_demand.answers import IndicatorAnswer, SearchAnswer, parse, unknown_fields
from platform_assets.domains.esios_demand.client import Esios
from platform_assets.domains.esios_demand.months import Month
from platform_assets.landing.demo_server import DemoServer, reply
from platform_assets.landing.http_client import Answer, HttpClient, UpstreamError
from platform_assets_tests.domains.esios_demand.conftest import QUICK, SERIES

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.domains.esios_demand.answers import _Object
    from platform_assets.landing.demo_server import Reply, Request

RECORDED = {
    "indicator_460_2017.json.gz": 8_759,
    "indicator_460_recorded_first1000.json": 1_000,
    "PRICES_ESIOS_1001_2021_10_31.json": 125,
    "PRICES_ESIOS_10211_2021_10_30.json": 24,
    "PRICES_ESIOS_10211_2021_10_31.json": 25,
    "PRICES_ESIOS_2108_2024_03_09.json": 120,
}


def content(file: Path) -> bytes:
    raw = file.read_bytes()
    return gzip.decompress(raw) if file.suffix == ".gz" else raw


def as_text(at: Any) -> str:
    return str(at.isoformat(timespec="milliseconds"))


def same(parsed: _Object, body: dict[str, Any]) -> None:
    """Assert that each field of a body was parsed, and that its value is unchanged."""
    for name, expected in body.items():
        found = getattr(parsed, name)
        if isinstance(expected, list):
            assert len(found) == len(expected)
            for one, other in zip(found, expected, strict=True):
                same(one, other)
        elif isinstance(expected, dict):
            same(found, expected)
        elif hasattr(found, "isoformat"):
            assert as_text(found).replace("+00:00", "Z") in {expected, expected.replace("Z", ".000Z")}
        else:
            assert found == expected


@pytest.mark.requirement("ESI-1", "ESI-6")
@pytest.mark.parametrize(("name", "count"), RECORDED.items())
def test_a_recorded_response_is_parsed_completely(real_data: Path, name: str, count: int) -> None:
    body = content(real_data / "esios" / name)
    parsed = parse(Answer(200, {}, body), IndicatorAnswer)
    assert len(parsed.indicator.values) == count
    same(parsed, json.loads(body))
    assert unknown_fields(parsed) == set()


def test_the_recorded_search_response_is_parsed_completely(real_data: Path) -> None:
    body = content(real_data / "esios" / "search_460_response.json")
    parsed = parse(Answer(200, {}, body), SearchAnswer)
    same(parsed, json.loads(body))
    assert (parsed.results[0].id, unknown_fields(parsed)) == (460, set())


@pytest.mark.requirement("ESI-6")
@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("bad or missing token", r"refused the token \(HTTP 401: HTTP Token: Access denied.\)"),
        ("archive without values", "returned no data: No values for specified archive"),
        ("bot wall", "bot protection, not from the token check"),
        ("old Authorization", r"refused the token \(HTTP 403: x{36}\)"),
    ],
)
def test_a_recorded_error_response_raises_an_error_that_names_the_cause(real_data: Path, case: str, said: str) -> None:
    cases = json.loads(content(real_data / "esios" / "error_responses.json"))
    [found] = [one for one in cases if one["case"].startswith(case)]
    # For two cases, only the beginning or the length of the body was recorded.
    body = found.get("body", found.get("body_prefix", "x" * found.get("body_length", 0)))
    text = body if isinstance(body, str) else json.dumps(body)
    with pytest.raises(UpstreamError, match=said):
        parse(Answer(found["status"], {}, text.encode()), IndicatorAnswer)


def test_the_recorded_empty_response_has_no_values(real_data: Path) -> None:
    cases = json.loads(content(real_data / "esios" / "error_responses.json"))
    [found] = [one for one in cases if one["case"].startswith("no values yet")]
    parsed = parse(Answer(200, {}, json.dumps(found["body"]).encode()), IndicatorAnswer)
    same(parsed, found["body"])
    assert (parsed.indicator.values, parsed.indicator.values_updated_at) == ([], None)


@pytest.mark.requirement("ESI-1", "ESI-5")
def test_the_client_reads_the_published_hourly_values_of_2017(real_data: Path) -> None:
    body = content(real_data / "esios" / "indicator_460_2017.json.gz")

    def respond(request: Request) -> Reply:
        del request
        return reply(body, "application/json")

    with DemoServer(respond) as server, HttpClient("ESIOS", {}, QUICK.__class__()) as http:
        esios = Esios(http, server.url, SERIES, "test", "none")
        answered = [esios.hours(Month.with_key(f"2017-{month:02}-01")) for month in range(1, 13)]
    found = {f"{at:%Y-%m-%d %H:%M:%S}": value for one in answered for at, value in one.hours}
    with (real_data / "esios" / "esios_460_hourly_2017.csv").open(encoding="utf-8") as file:
        expected = {row["datetime"]: float(row["demand forecast"]) for row in csv.DictReader(file)}
    assert found == expected
    assert {one.state for one in answered[1:]} == {"complete"}
    # January is partial, because the recording begins at midnight UTC, an hour after the start of the local year.
    assert answered[0].state == "partial"
