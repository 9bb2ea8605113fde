"""`platform-assets serve`, as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import requests

from platform_assets.core.postgres_watcher import free_port
from platform_assets_tests.command_line import PROGRAM
from platform_assets_tests.postgres import wait_until

if TYPE_CHECKING:
    from pathlib import Path


def answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/health/live", timeout=5).ok
    except requests.ConnectionError:
        return False


def test_the_service_starts_logs_and_stops(database_url: str, tmp_path: Path) -> None:
    port = free_port()
    environment = os.environ | {
        "PLATFORM_HOME": str(tmp_path / "home"),
        "PLATFORM_DATABASE_URL": database_url,
        "PLATFORM_SERVICE_PORT": str(port),
    }
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        process = subprocess.Popen([PROGRAM, "serve"], env=environment, stdout=out, stderr=err, start_new_session=True)
        try:
            address = f"http://127.0.0.1:{port}"
            wait_until(lambda: answers(address) or process.poll() is not None, "the service answered")
            ready = requests.get(f"{address}/health/ready", headers={"X-Request-ID": "of-the-test"}, timeout=60)
            assert (ready.status_code, ready.json()) == (200, {"status": "ready"}), (tmp_path / "err").read_text()
            assert "server" not in ready.headers
            page = requests.get(f"{address}/", headers={"Accept": "text/html"}, timeout=60)
            assert "<h1>Sign in</h1>" in page.text
            process.send_signal(signal.SIGTERM)
            # uvicorn ends by the signal that it got, once it is done.
            assert process.wait(60) in {0, -signal.SIGTERM}
        finally:
            process.kill()
            process.wait()
    assert (tmp_path / "out").read_text() == f"platform-assets: serving on http://127.0.0.1:{port}\n"
    lines = [json.loads(line) for line in (tmp_path / "err").read_text().splitlines()]
    assert [line["message"] for line in lines if line.get("request_id") == "of-the-test"] == ["GET /health/ready 200"]
    assert database_url.split("@", maxsplit=1)[0].rsplit(":", maxsplit=1)[-1] not in (tmp_path / "err").read_text()
