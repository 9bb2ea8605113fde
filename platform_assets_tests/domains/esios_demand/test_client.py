"""The ESIOS client's requests to a server that imitates the API, and the client's error for each bad response."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from platform_assets.domains.esios_demand import demo
from platform_assets.domains.esios_demand.client import Series
from platform_assets.domains.esios_demand.months import HOUR, Month
from platform_assets.landing.demo_server import (
    DemoServer,
    dropped,
    interrupted,
    oversized,
    reply,
    silent,
    status,
    truncated,
)
from platform_assets.landing.http_client import UpstreamError
from platform_assets_tests.domains.esios_demand.conftest import NOW, QUICK, SERIES, quick_client

if TYPE_CHECKING:
    from platform_assets.domains.esios_demand.client import Esios
    from platform_assets.landing.demo_server import Fault, Reply

FEBRUARY, MARCH, LATER = (Month.with_key(key) for key in ("2018-02-01", "2018-03-01", "2018-06-01"))
TOKEN = "secret-token-of-a-person"


def values(body: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = body["indicator"]["values"]
    return found


def of_first(**fields: Any) -> Fault:
    """Return a fault that changes fields of the first value."""
    return demo.edited(lambda body: values(body)[0].update(fields))


def of_indicator(**fields: Any) -> Fault:
    """Return a fault that changes fields of the series."""
    return demo.edited(lambda body: body["indicator"].update(fields))


def without(name: str) -> Fault:
    """Return a fault that removes a field of the first value."""
    return demo.edited(lambda body: values(body)[0].pop(name))


def elsewhere(body: dict[str, Any]) -> None:
    for value in values(body):
        value.update(geo_id=8742, geo_name="Canarias")


def quarters(answer: Reply) -> Reply:
    """Fault: the server ignores `time_trunc` and returns quarter-hourly values."""
    del answer
    series = demo.DemoSeries(now=lambda: NOW)
    points = series.points(FEBRUARY.start, FEBRUARY.end - timedelta(seconds=1))
    return demo.as_json({"indicator": demo._indicator(points, series)})


@pytest.mark.requirement("ESI-1")
def test_a_request_covers_one_month_of_hourly_means(esios: Esios, server: DemoServer) -> None:
    answered = esios.hours(FEBRUARY)
    assert server.requests[0].path == "/indicators/460"
    assert server.requests[0].query == {
        "start_date": "2018-01-31T23:00:00Z",
        "end_date": "2018-02-28T22:59:59Z",
        "time_trunc": "hour",
        "time_agg": "average",
        "geo_ids[]": "8741",
        "locale": "es",
    }
    assert answered.hours == tuple((at, demo.megawatts(at)) for at in FEBRUARY.hours())
    assert answered.updated_at == datetime(2018, 3, 10, 6, 37, 31, tzinfo=UTC)
    assert (answered.state, answered.unknown_fields, answered.outside) == ("complete", frozenset(), 0)


@pytest.mark.requirement("ESI-5", "ESI-6")
@pytest.mark.parametrize("key", ["2017-03-01", "2017-10-01"])
def test_months_with_a_clock_change_are_complete(esios: Esios, key: str) -> None:
    month = Month.with_key(key)
    answered = esios.hours(month)
    assert answered.state == "complete"
    assert [at for at, _ in answered.hours] == month.hours()


@pytest.mark.requirement("ESI-6")
def test_a_month_with_missing_hours_is_partial_and_a_future_month_is_unpublished(
    esios: Esios, server: DemoServer, series: demo.DemoSeries
) -> None:
    assert esios.hours(MARCH).state == "partial"
    assert esios.hours(LATER).state == "not published yet"
    assert esios.hours(LATER).updated_at is None
    series.missing.add(FEBRUARY.start + 5 * HOUR)
    assert esios.hours(FEBRUARY).state == "partial"
    server.constant_fault = of_indicator(values=[], geos=[])
    assert esios.hours(FEBRUARY).state == "partial"


@pytest.mark.requirement("ESI-6")
def test_unknown_fields_are_reported(esios: Esios, server: DemoServer) -> None:
    def extend(body: dict[str, Any]) -> None:
        body["indicator"]["licence"] = "new"
        values(body)[3]["quality"] = {"flag": 1}

    server.constant_fault = demo.edited(extend)
    answered = esios.hours(FEBRUARY)
    assert answered.unknown_fields == {"indicator.licence", "indicator.values.quality"}
    assert answered.state == "complete"


def test_hours_outside_the_month_are_left_out_and_counted(esios: Esios, server: DemoServer) -> None:
    def shift(body: dict[str, Any]) -> None:
        at = "2018-03-01T00:00:00.000+01:00"
        values(body)[-1].update(datetime=at, datetime_utc="2018-02-28T23:00:00Z", tz_time="2018-02-28T23:00:00.000Z")

    server.constant_fault = demo.edited(shift)
    answered = esios.hours(FEBRUARY)
    assert (len(answered.hours), answered.outside) == (671, 1)


def test_values_of_other_geographies_are_left_out(esios: Esios, server: DemoServer) -> None:
    server.constant_fault = of_first(geo_id=8742, geo_name="Canarias")
    assert [at for at, _ in esios.hours(FEBRUARY).hours] == FEBRUARY.hours()[1:]


def test_both_values_of_a_repeated_hour_are_kept(esios: Esios, server: DemoServer) -> None:
    server.constant_fault = demo.edited(lambda body: values(body).append(values(body)[0]))
    assert len(esios.hours(FEBRUARY).hours) == 673


BAD_ANSWERS: list[tuple[str, Fault, int, int | None, str]] = [
    (
        "refused token",
        demo.refused_token,
        1,
        401,
        r"refused the token \(HTTP 401: HTTP Token: Access denied.\). Check PLATF",
    ),
    (
        "old header",
        status(403, b"Access denied: use x-api-key, please."),
        1,
        403,
        r"refused the token \(HTTP 403: Access denied",
    ),
    (
        "bot-protection page",
        demo.bot_page,
        1,
        403,
        "HTTP 403 with an HTML page, which comes from its bot protection",
    ),
    ("too many requests", status(429), 3, 429, r"ESIOS returned HTTP 429 \(Too Many Requests\)"),
    ("server error", status(500, b"<html>oops"), 3, 500, r"ESIOS returned HTTP 500 \(Internal Server Error\)"),
    ("lost connection", dropped, 3, None, "ESIOS cannot be reached: Server disconnected"),
    ("connection lost half-way", interrupted, 3, None, "ESIOS cannot be reached: peer closed connection"),
    ("half of the JSON", truncated, 3, 200, r'a response that is not JSON: \{"indicator"'),
    ("page of a proxy", lambda _: reply(b"<!DOCTYPE html><p>hi", demo.HTML), 3, 200, "an HTML page that is not JSON"),
    ("message", lambda _: demo.as_json({"message": "No values"}), 1, 200, "returned no data: No values"),
    ("not an object", lambda _: reply(b"[]", demo.JSON), 1, 200, "in an unexpected format: the body: Input"),
    ("redirect", status(302, Location="https://elsewhere.invalid"), 1, 302, "a redirect, which is not followed"),
    ("unknown address", status(404, b"nothing"), 1, 404, "ESIOS returned HTTP 404: nothing"),
    ("too large", oversized(2 << 20), 1, 200, "more than 1,048,576 bytes"),
    ("missing field", without("value"), 1, 200, r"indicator.values.0.value: Field required"),
    ("number as text", of_first(value="23616"), 1, 200, "indicator.values.0.value: Input should be a valid number"),
    ("no number", of_first(value=float("nan")), 1, 200, "indicator.values.0.value: Input should be a finite number"),
    ("null", of_first(value=None), 1, 200, "indicator.values.0.value: Input should be a valid number"),
    (
        "local time without offset",
        of_first(datetime="2018-02-01T00:00:00"),
        1,
        200,
        "values.0.datetime: .*timezone info",
    ),
    ("times that differ", of_first(tz_time="2018-02-01T00:00:00.000Z"), 1, 200, "a value whose three times differ"),
    ("quarters", quarters, 1, 200, "has a value at 2018-01-31T23:15:00.*although hourly values were requested"),
    (
        "other series",
        of_indicator(id=1293, name="Demanda real"),
        1,
        200,
        r"the series 1293 \('Demanda real'\), but 460",
    ),
    ("other place", demo.edited(elsewhere), 1, 200, r"no value for the geography 8741, only for 8742 \(Canarias\)"),
    ("year 0", of_indicator(values_updated_at="0001-01-01T00:00:00+14:00"), 1, 200, "the time is out of range"),
    ("no update time", of_indicator(values_updated_at=None), 1, 200, "has values, but values_updated_at is null"),
]


@pytest.mark.requirement("ESI-6")
@pytest.mark.parametrize(
    ("fault", "attempts", "upstream_status", "said"),
    [pytest.param(*row, id=name) for name, *row in BAD_ANSWERS],
)
def test_a_bad_response_raises_an_error_that_names_the_cause(
    esios: Esios, server: DemoServer, fault: Fault, attempts: int, upstream_status: int | None, said: str
) -> None:
    server.constant_fault = fault
    with pytest.raises(UpstreamError, match=said) as caught:
        esios.hours(FEBRUARY)
    assert caught.value.upstream_status == upstream_status
    assert len(server.requests) == attempts


@pytest.mark.requirement("ESI-6")
def test_a_request_without_a_response_fails_after_the_last_attempt(server: DemoServer) -> None:
    server.constant_fault = silent
    impatient = replace(QUICK, read_seconds=0.1)
    with quick_client(server, limits=impatient) as esios, pytest.raises(UpstreamError, match="within 0.1 s .last of 3"):
        esios.hours(FEBRUARY)


@pytest.mark.requirement("ESI-6")
@pytest.mark.parametrize("fault", [status(429), status(503), dropped, truncated])
def test_a_request_is_retried_after_a_temporary_fault(esios: Esios, server: DemoServer, fault: Fault) -> None:
    server.faults.append(fault)
    assert esios.hours(FEBRUARY).state == "complete"
    assert len(server.requests) == 2


@pytest.mark.requirement("ESI-1")
@pytest.mark.parametrize(
    "name",
    [
        demo.NAME,
        "PREVISION DIARIA DE LA DEMANDA  ELECTRICA PENINSULAR",
        "previsio\u0301n diaria de la demanda electrica peninsular",
    ],
)
def test_the_search_for_the_series_ignores_accents_and_case(server: DemoServer, name: str) -> None:
    with quick_client(server, Series(460, name, 8741)) as esios:
        esios.check_series()
        assert esios.hours(FEBRUARY).state == "complete"


def listed(answer: Reply) -> Reply:
    """Fault: the server has no route `/search`."""
    del answer
    return demo.as_json({"message": "not found"}, 404)


@pytest.mark.requirement("ESI-1")
def test_the_series_is_looked_up_in_the_full_list_if_the_server_has_no_search(esios: Esios, server: DemoServer) -> None:
    series = [{"id": number, "name": name, "short_name": "", "description": "<p>"} for number, name in demo.OTHERS]
    found = demo.as_json({"indicators": [*series, {"id": 460, "name": demo.NAME}]})
    server.faults.extend([listed, lambda _: found])
    esios.check_series()
    assert [request.path for request in server.requests] == ["/search", "/indicators"]


@pytest.mark.requirement("ESI-1")
@pytest.mark.parametrize(
    ("series", "said"),
    [
        (Series(461, demo.NAME, 8741), "as indicator 460, but PLATFORM_ESIOS_INDICATOR is 461. Set it to 460"),
        (
            Series(460, "Previsión semanal", 8741),
            "has no series 'Previsión semanal'; the search found 'Previsión diaria de",
        ),
        (Series(460, "nuclear", 8741), "has no series 'nuclear'; the search found nothing"),
    ],
)
def test_a_series_with_the_wrong_number_or_name_is_refused(server: DemoServer, series: Series, said: str) -> None:
    with quick_client(server, series) as esios, pytest.raises(UpstreamError, match=said):
        esios.check_series()


@pytest.mark.requirement("ESI-1")
def test_the_token_is_sent_only_as_a_header_and_masked_in_messages(caplog: pytest.LogCaptureFixture) -> None:
    def echo(request: Any) -> Reply:
        return reply(f"no access for {request.headers['x-api-key']}".encode(), "text/plain", 401)

    with (
        caplog.at_level(logging.DEBUG),
        DemoServer(echo) as server,
        quick_client(server, SERIES, TOKEN) as esios,
        pytest.raises(UpstreamError, match=r"no access for \*\*\*") as caught,
    ):
        esios.hours(FEBRUARY)
    assert server.requests[0].headers["x-api-key"] == TOKEN
    assert TOKEN not in str(server.requests[0].query) + server.requests[0].path
    assert TOKEN not in str(caught.value) + caplog.text


def test_control_characters_in_an_error_message_are_escaped(esios: Esios, server: DemoServer) -> None:
    server.constant_fault = status(400, b"bad\x1b[2J" + b"x" * 5_000)
    with pytest.raises(UpstreamError, match=r"bad\\x1b\[2Jx+\.\.$") as caught:
        esios.hours(FEBRUARY)
    assert len(str(caught.value)) < 300
