"""Alerts sent to a real webhook and to the log; error messages leave out the webhook's address."""

from __future__ import annotations

import http.server
import json
import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from platform_assets.base.errors import PlatformError
from platform_assets.database.embedded.server import free_port
from platform_assets.monitoring import alerts
from platform_assets.monitoring.alerts import Alert, Alerts

if TYPE_CHECKING:
    from collections.abc import Iterator

ALERT = Alert("run_failed", "run-1", "The run run-1 failed: Łódź", "/runs/run-1")
SENT = {"event": "run_failed", "subject": "run-1", "text": "The run run-1 failed: Łódź", "link": "/runs/run-1"}
PATH = "/services/sesame"


class Webhook(http.server.BaseHTTPRequestHandler):
    """Stores each request, and answers with the given statuses in turn; the last one repeats. Status 0: no answer."""

    server: WebhookServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, self.headers["Content-Type"], json.loads(body)))
        status = self.server.statuses.pop(0) if len(self.server.statuses) > 1 else self.server.statuses[0]
        if status:
            self.send_response(status)
            self.end_headers()
        else:
            self.server.released.wait()

    def log_message(self, *_: Any) -> None:
        pass


class WebhookServer(http.server.ThreadingHTTPServer):
    def __init__(self, *statuses: int) -> None:
        super().__init__(("127.0.0.1", 0), Webhook)
        self.statuses = [*statuses]
        self.received: list[tuple[str, str, Any]] = []
        self.released = threading.Event()
        self.url = f"http://anna:sesame@127.0.0.1:{self.server_port}{PATH}"


@contextmanager
def webhook(*statuses: int) -> Iterator[WebhookServer]:
    server = WebhookServer(*statuses)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.requirement("PLT-2", "PLT-8")
def test_an_alert_is_posted_as_json_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with webhook(200) as server:
        Alerts(server.url).send(ALERT)
    assert server.received == [(PATH, "application/json", SENT)]
    [record] = [record for record in caplog.records if record.name == alerts.__name__]
    assert (record.levelno, record.getMessage()) == (logging.ERROR, ALERT.text)
    assert {name: vars(record)[name] for name in SENT} == SENT
    assert "sesame" not in caplog.text


def test_without_a_webhook_an_alert_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    Alerts("").send(ALERT)
    assert [record.getMessage() for record in caplog.records if record.name == alerts.__name__] == [ALERT.text]


def failure(url: str) -> str:
    with pytest.raises(PlatformError) as caught:
        Alerts(url, first_wait=0).send(ALERT)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    return str(caught.value)


@pytest.mark.requirement("PLT-8")
@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (429, 4), (500, 4)])
def test_the_error_for_a_webhook_that_answers_an_error_status_contains_no_address(
    status: int, attempts: int, caplog: pytest.LogCaptureFixture
) -> None:
    with webhook(status) as server:
        assert failure(server.url) == f"the alert webhook answered {status}"
    assert len(server.received) == attempts
    assert caplog.messages.count(ALERT.text) == 1


@pytest.mark.requirement("PLT-2")
@pytest.mark.parametrize("statuses", [(503, 200), (429, 500, 502, 200)])
def test_transient_failures_of_the_webhook_are_retried(statuses: tuple[int, ...]) -> None:
    with webhook(*statuses) as server:
        Alerts(server.url, first_wait=0).send(ALERT)
    assert [sent for _, _, sent in server.received] == [SENT] * len(statuses)


@pytest.mark.requirement("PLT-2")
def test_a_timeout_of_the_webhook_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "_SECONDS", 0.2)
    with webhook(0, 200) as server:
        Alerts(server.url, first_wait=0).send(ALERT)
    assert [sent for _, _, sent in server.received] == [SENT] * 2


@pytest.mark.requirement("PLT-8")
def test_the_error_for_a_webhook_that_does_not_answer_contains_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "_SECONDS", 0.2)
    with webhook(0) as server:
        assert failure(server.url) == "the alert webhook cannot be reached: ReadTimeout"


@pytest.mark.requirement("PLT-8")
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://anna:sesame@127.0.0.1:%d/services/sesame", "ConnectionError"),
        ("sesame", "MissingSchema"),
        ("http://[sesame", "InvalidURL"),
        ("http://sesame..example/", "LocationParseError"),
        ("gopher://sesame/x", "InvalidSchema"),
    ],
)
def test_the_error_for_an_unreachable_webhook_contains_no_address(url: str, reason: str) -> None:
    url = url % free_port() if "%d" in url else url
    assert failure(url) == f"the alert webhook cannot be reached: {reason}"
