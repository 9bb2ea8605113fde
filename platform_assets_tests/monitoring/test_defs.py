"""The sensor `run_failed`, evaluated on a failed run, with a web server that receives the alert."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import dagster as dg
import pytest

from platform_assets.base.errors import PlatformError
from platform_assets.database.embedded.server import free_port
from platform_assets.monitoring.alerts import Alerts
from platform_assets.monitoring.defs import run_failed_sensor
from platform_assets_tests.instances import empty_instance

SECRET_PATH = "/services/hunter2"


@dataclass
class Webhook:
    """A web server, the bodies that it received, and the status that it answers."""

    url: str = ""
    answer: int = 204
    got: list[tuple[str, Any]] = field(default_factory=list)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    hook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.got.append((self.path, json.loads(body)))
            self.send_response(hook.answer)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        hook.url = f"http://127.0.0.1:{server.server_port}{SECRET_PATH}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield hook
        server.shutdown()
        thread.join()


@dg.asset
def broken() -> None:
    raise ValueError("no")


def evaluate(alerts: Alerts) -> dg.DagsterRun:
    """Run a failing asset, evaluate the sensor, and return the run."""
    sensor = run_failed_sensor()
    with empty_instance() as instance:
        result = dg.materialize([broken], instance=instance, raise_on_error=False)
        context = dg.build_run_status_sensor_context(
            sensor_name=sensor.name,
            dagster_event=result.get_run_failure_event(),
            dagster_instance=instance,
            dagster_run=result.dagster_run,
        )
        sensor(context.for_run_failure(), alerts=alerts)
        return result.dagster_run


@pytest.mark.requirement("PLT-2", "MON-3")
def test_a_failed_run_sends_one_alert_with_its_id_and_link(webhook: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    run = evaluate(Alerts(webhook.url))
    ((path, alert),) = webhook.got
    assert path == SECRET_PATH
    assert alert["text"].startswith(f"run {run.run_id} of {run.job_name} failed: ")
    assert {name: alert[name] for name in ("event", "subject", "link")} == {
        "event": "run_failed",
        "subject": run.run_id,
        "link": f"/runs/{run.run_id}",
    }
    assert alert["text"] in caplog.messages


@pytest.mark.requirement("PLT-2")
def test_without_a_webhook_the_alert_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    run = evaluate(Alerts(""))
    assert any(message.startswith(f"run {run.run_id}") for message in caplog.messages)


@pytest.mark.requirement("PLT-8")
def test_the_error_for_a_failing_webhook_has_no_address(webhook: Webhook) -> None:
    webhook.answer = 500
    with pytest.raises(PlatformError, match=r"^the alert webhook answered 500$"):
        evaluate(Alerts(webhook.url, first_wait=0))
    with pytest.raises(PlatformError, match=r"^the alert webhook cannot be reached: ConnectionError$"):
        evaluate(Alerts(f"http://127.0.0.1:{free_port()}{SECRET_PATH}", first_wait=0))
