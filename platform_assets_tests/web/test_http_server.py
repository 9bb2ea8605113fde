"""Limits of the HTTP server: size of heads and trailers, slow clients, open connections, time to shut down."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from platform_assets.web.bounded_protocol import Bounds
from platform_assets.web.http_server import SECONDS_TO_FINISH, server
from platform_assets_tests.postgres import wait_until
from platform_assets_tests.service import served

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = 2_000
PATIENCE = 20


class Echo:
    """Application that returns the body size and header names of a request, and counts disconnected clients."""

    def __init__(self) -> None:
        self.gone = 0
        self.hold = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        try:
            body = await Request(scope, receive).body()
        except ClientDisconnect:
            self.gone += 1
            return
        response = JSONResponse({"bytes": len(body), "headers": [name.decode() for name, _ in scope["headers"]]})
        await response(scope, receive, send)


@pytest.fixture(scope="module")
def echo() -> Echo:
    return Echo()


@pytest.fixture(scope="module")
def port(echo: Echo) -> Iterator[int]:
    """Start a server with low limits; yield its port."""
    with served(echo, Bounds(head_bytes=HEAD, head_seconds=0.5, body_seconds=0.5)) as address:
        yield int(address.rpartition(":")[2])


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        yield connection


def sent(connection: socket.socket, *parts: bytes) -> bytes:
    """Send parts of a request; return what the server sends until it closes the connection."""
    for part in parts:
        connection.sendall(part)
    return rest(connection)


def rest(connection: socket.socket) -> bytes:
    found = b""
    while received := connection.recv(1 << 16):
        found += received
    return found


def problem_of(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    found: dict[str, Any] = json.loads(body)
    assert head.startswith(b"HTTP/1.1 %d " % found["status"])
    return found


@pytest.mark.requirement("SRV-3")
@pytest.mark.parametrize(
    ("first", "more"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: ", b"x" * 500),
        (b"GET /", b"p" * 500),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", b"a: b\r\n" * 80),
        (b"", b"\r\n" * 250),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"t: t\r\n" * 80),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"e" * 500),
    ],
    ids=["a header", "the path", "many headers", "blank lines", "trailers", "a chunk extension"],
)
def test_an_endless_head_or_trailer_gets_431(port: int, first: bytes, more: bytes) -> None:
    with connected(port) as connection:
        # The server reads at most 256 KiB at once. Send more.
        found = problem_of(sent(connection, first, *[more * 50] * 30))
    assert (found["status"], found["type"]) == (431, "urn:platform-assets:head-too-large")
    assert "2,000 bytes" in found["detail"]


@pytest.mark.requirement("SRV-3")
@pytest.mark.parametrize(("size", "status"), [(HEAD - 200, 200), (HEAD, 431)])
def test_the_limit_also_applies_to_a_head_that_arrives_in_one_piece(port: int, size: int, status: int) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Long: " + b"x" * size + b"\r\n\r\n"
    with connected(port) as connection:
        assert sent(connection, head).startswith(b"HTTP/1.1 %d " % status)


def test_a_refused_client_that_keeps_sending_can_read_the_response(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX-Long: ")
        for _ in range(100):
            connection.sendall(b"x" * 10_000)
        assert problem_of(rest(connection))["status"] == 431


def test_trailers_do_not_become_headers(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connected(port) as connection:
        answer = sent(connection, head, b"3\r\nabc\r\n0\r\nauthorization: Bearer x\r\n\r\n")
    found = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert found == {"bytes": 3, "headers": ["host", "connection", "transfer-encoding"]}


@pytest.mark.requirement("SRV-3")
@pytest.mark.parametrize(
    "begun",
    [b"GET / HTTP/1.1\r\nHost: a\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"],
    ids=["head", "body"],
)
def test_a_request_that_does_not_arrive_in_time_gets_408(port: int, begun: bytes) -> None:
    with connected(port) as connection:
        assert problem_of(sent(connection, begun))["status"] == 408


def test_sending_single_bytes_does_not_extend_the_time_limit_of_a_head(port: int) -> None:
    with connected(port) as connection:
        connection.settimeout(0.05)
        began, answer = time.monotonic(), b""
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        while not answer and time.monotonic() < began + PATIENCE:
            connection.sendall(b"x")
            try:
                answer = connection.recv(1 << 16)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("asked", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"], ids=["new", "after an answer"])
def test_an_idle_connection_is_closed_without_an_error_response(port: int, asked: bytes) -> None:
    with connected(port) as connection:
        answer = sent(connection, asked)
    assert answer.count(b"HTTP/1.1") == bool(asked)


def test_a_request_that_is_not_http_gets_400(port: int) -> None:
    with connected(port) as connection:
        found = problem_of(sent(connection, b"SSH-2.0-x\r\n\r\n"))
    assert (found["status"], found["type"]) == (400, "urn:platform-assets:invalid-http")


def test_pipelined_requests_are_all_answered(port: int) -> None:
    # Together, the requests exceed the size limit of a head, but no single head does.
    requests = [b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 900 + b"\r\n\r\n"] * 5
    with connected(port) as connection:
        assert sent(connection, b"".join(requests)).count(b"HTTP/1.1 200 OK") == 5


def test_when_a_slow_client_is_disconnected_the_application_stops_waiting_for_the_body(port: int, echo: Echo) -> None:
    before = echo.gone
    with connected(port) as connection:
        sent(connection, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
    wait_until(lambda: echo.gone == before + 1, "the application stopped waiting for the body")


@pytest.mark.requirement("SRV-3")
def test_when_file_descriptors_run_out_the_oldest_idle_connection_is_closed_with_a_warning(
    echo: Echo, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "platform_assets.web.bounded_protocol")
    # With a limit of 0 descriptors, every connection exceeds the limit.
    with served(echo, Bounds(descriptors=0, head_seconds=PATIENCE)) as address:
        port = int(address.rpartition(":")[2])
        # The server accepts connections in order. For each new connection, it closes the oldest idle connection.
        with connected(port) as first, connected(port) as second, connected(port):
            assert rest(first) == b""
            assert rest(second) == b""
    [warned] = [one.getMessage() for one in caplog.records if "file descriptors are running out" in one.getMessage()]
    assert "ulimit -n" in warned


def test_an_incomplete_body_does_not_delay_the_shutdown(echo: Echo) -> None:
    with ExitStack() as kept:
        with served(echo) as address:
            connection = kept.enter_context(connected(int(address.rpartition(":")[2])))
            # Both requests are sent at once, so the response to the first shows that the server has also received the
            # second.
            connection.sendall(
                b"GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
            )
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
            began = time.monotonic()
        took = time.monotonic() - began
    assert took < SECONDS_TO_FINISH / 2


@pytest.mark.requirement("SRV-1")
def test_the_environment_variable_web_concurrency_does_not_change_the_number_of_workers(
    echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    assert server(echo).config.workers == 1
