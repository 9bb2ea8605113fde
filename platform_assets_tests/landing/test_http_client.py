"""Test the HTTP client against a local server that simulates faults: retries, time-outs, limits and error messages."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

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
from platform_assets.landing.http_client import Answer, HttpClient, Limits, TemporaryError, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = b"all of it"
QUICK = Limits(read_seconds=0.3, body_bytes=1 << 20, attempts=3, first_wait_seconds=0.01, longest_wait_seconds=0.02)
PLENTY = 20.0


@pytest.fixture
def server() -> Iterator[DemoServer]:
    with DemoServer(lambda request: reply(BODY + request.query.get("a", "").encode(), "text/plain")) as server:
        yield server


@pytest.fixture
def client() -> Iterator[HttpClient]:
    with HttpClient("the source", {"User-Agent": "tests", "X-Secret": "s3cret"}, QUICK) as client:
        yield client


def whole(answer: Answer) -> bytes:
    """Return the body; raise a temporary error if it is incomplete."""
    if not answer.body.startswith(BODY):
        raise TemporaryError("the source returned only half of the body", answer.status)
    return answer.body


def test_values_and_headers_arrive_unchanged(server: DemoServer, client: HttpClient) -> None:
    value = 'a&b=c "d" ü +'
    assert client.get(f"{server.url}/path", {"a": value}, whole, PLENTY) == BODY + value.encode()
    assert server.requests[0].path == "/path"
    assert server.requests[0].headers["user-agent"] == "tests"


@pytest.mark.parametrize(
    ("fault", "said", "upstream_status"),
    [
        (status(429, b"Rate exceeded."), "the source returned HTTP 429 (Too Many Requests)", 429),
        (status(503), "the source returned HTTP 503 (Service Unavailable)", 503),
        (status(599), "the source returned HTTP 599", 599),
        (silent, "the source did not answer within 0.3 s", None),
        (dropped, "the source cannot be reached: Server disconnected", None),
        (interrupted, "the source cannot be reached: peer closed connection", None),
        (truncated, "the source returned only half of the body", 200),
    ],
)
class TestATemporaryFault:
    def test_a_temporary_fault_is_retried(
        self, server: DemoServer, client: HttpClient, fault: object, said: str, upstream_status: int | None
    ) -> None:
        del said, upstream_status
        server.faults.append(fault)  # type: ignore[arg-type]  # a fault of the table above
        assert client.get(server.url, {}, whole, PLENTY) == BODY
        assert len(server.requests) == 2

    def test_a_temporary_fault_is_reported_after_the_last_attempt(
        self, server: DemoServer, client: HttpClient, fault: object, said: str, upstream_status: int | None
    ) -> None:
        server.constant_fault = fault  # type: ignore[assignment]  # a fault of the table above
        with pytest.raises(UpstreamError) as caught:
            client.get(server.url, {}, whole, PLENTY)
        assert str(caught.value).startswith(said)
        assert str(caught.value).endswith("(last of 3 attempts)")
        assert caught.value.upstream_status == upstream_status
        assert len(server.requests) == 3


def test_the_status_of_the_last_response_is_kept_if_later_attempts_time_out(
    server: DemoServer, client: HttpClient
) -> None:
    server.faults.extend([status(429), silent, silent])
    with pytest.raises(UpstreamError, match="did not answer") as caught:
        client.get(server.url, {}, whole, PLENTY)
    assert caught.value.upstream_status == 429


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_of_two_gigabytes_is_not_read(server: DemoServer, client: HttpClient, declared: bool) -> None:
    server.constant_fault = oversized(2 << 30, declared=declared)
    with pytest.raises(UpstreamError, match="more than 1,048,576 bytes") as caught:
        client.get(server.url, {}, whole, PLENTY)
    assert caught.value.upstream_status == 200
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", [301, 401, 404])
def test_a_redirect_or_client_error_is_returned_without_a_retry(
    server: DemoServer, client: HttpClient, code: int
) -> None:
    server.constant_fault = status(code, Location="http://elsewhere.invalid/")
    assert client.get(server.url, {}, lambda answer: answer.status, PLENTY) == code
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("header", "least"), [("1", 1.0), ("Wed, 01 Jan 2020 00:00:00 GMT", 0.0), ("soon", 0.0), ("", 0.0)]
)
def test_retry_after_is_honoured(server: DemoServer, client: HttpClient, header: str, least: float) -> None:
    server.faults.append(status(503, Retry_After=header))
    began = time.monotonic()
    assert client.get(server.url, {}, whole, PLENTY) == BODY
    assert least <= time.monotonic() - began < least + PLENTY


def test_there_is_no_retry_if_retry_after_exceeds_the_time_limit(server: DemoServer, client: HttpClient) -> None:
    server.constant_fault = status(503, Retry_After="3600")
    began = time.monotonic()
    with pytest.raises(UpstreamError, match="503") as caught:
        client.get(server.url, {}, whole, PLENTY)
    assert caught.value.retry_after == 3600
    assert time.monotonic() - began < PLENTY
    assert len(server.requests) == 1


def test_every_attempt_enters_a_context_manager_that_is_given_the_remaining_seconds(server: DemoServer) -> None:
    turns: list[float] = []

    @contextmanager
    def turn(seconds: float) -> Iterator[None]:
        turns.append(seconds)
        if len(turns) == 1:
            raise TemporaryError("no turn yet")
        yield

    server.faults.append(status(503))
    with HttpClient("the source", {}, QUICK, turn) as client:
        assert client.get(server.url, {}, whole, PLENTY) == BODY
    assert len(turns) == 3
    assert PLENTY >= turns[0] > turns[1] > turns[2] > 0
    assert len(server.requests) == 2


def test_an_unreachable_server_or_unsupported_scheme_is_reported(client: HttpClient) -> None:
    with DemoServer(lambda _: reply(BODY, "text/plain")) as closed:
        url = closed.url
    with pytest.raises(UpstreamError, match="cannot be reached: .*refused") as caught:
        client.get(url, {}, whole, PLENTY)
    assert caught.value.upstream_status is None
    with pytest.raises(UpstreamError, match="'ftp://there', which is not http or https"):
        client.get("ftp://there", {}, whole, PLENTY)
