"""`platform-assets serve` as a process: it answers the documented requests and loses no prediction when it stops."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from pydantic import SecretStr

from platform_assets.database.revisions import DOMAINS
from platform_assets.domains.credit_risk.model import MODEL as CREDIT
from platform_assets.domains.sensor_maintenance.model import MODEL as SENSORS
from platform_assets.domains.sentence_relevance.model import MODEL as SENTENCES
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.command_line import PROGRAM, platform_assets
from platform_assets_tests.domains.sensor_maintenance.plant import Plant
from platform_assets_tests.ports import reserve_port
from platform_assets_tests.postgres import wait_until
from platform_assets_tests.serving import credit, sentences

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
CURL = re.compile(r"^curl .*?(?<!\\)$", re.MULTILINE | re.DOTALL)
ADDRESS = "http://localhost:8000"
CLIENTS = 30


@dataclass(frozen=True)
class Served:
    """A running service."""

    process: subprocess.Popen[bytes]
    address: str
    out: Path
    err: Path

    def answers(self, path: str) -> bool:
        assert self.process.poll() is None, self.err.read_text()
        try:
            return requests.get(f"{self.address}{path}", timeout=60).ok
        except requests.ConnectionError:
            return False

    def text(self, path: str) -> str:
        return requests.get(f"{self.address}{path}", timeout=60).text

    def with_champion(self) -> set[str]:
        return {one["model"] for one in json.loads(self.text("/models")) if one["champion"]}

    def log(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.err.read_text().splitlines()]


@contextmanager
def serving(folder: Path, url: str, **variables: str) -> Iterator[Served]:
    """Run `platform-assets serve` on a free port; kill it at the end if it is still running."""
    port = reserve_port()
    environment = os.environ | {
        "PLATFORM_HOME": str(folder / "home"),
        "PLATFORM_DATABASE_URL": url,
        "PLATFORM_SERVICE_PORT": str(port),
        **variables,
    }
    out, err = folder / "out", folder / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [PROGRAM, "serve"], env=environment, stdout=stdout, stderr=stderr, start_new_session=True
        )
        try:
            served = Served(process, f"http://127.0.0.1:{port}", out, err)
            wait_until(lambda: served.answers("/health/live"), "the service answered")
            yield served
        finally:
            # Kill the process group, because workers end later than their supervisor.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def curls() -> list[str]:
    """Return the curl commands of all documentation pages."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *DOMAINS.glob("*/README.md")]
    return sorted({command for page in pages for command in CURL.findall(page.read_text())})


def asked(served: Served, command: str) -> tuple[int, str]:
    """Run a documented command against the service's port. Return the status and the body."""
    words = shlex.split(command.replace(ADDRESS, served.address).replace("\\\n", ""))
    done = subprocess.run([*words, "--write-out", "\n%{http_code}"], capture_output=True, text=True, check=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def crown_all(services: Services) -> None:
    """Promote a version of each model that the documented requests use."""
    credit.publish_features(services, CLIENTS)
    credit.crown(services, credit.fitted(services), 1)
    sentences.crown(services, sentences.fitted(), 1)
    Plant(services).promote(2.0)


@pytest.mark.requirement("SRV-1", "CRE-4", "OPS-4")
def test_the_service_answers_the_documented_requests_and_logs_all_predictions_before_it_stops(
    database_url: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    services = Services(Settings(home=home, database_url=SecretStr(database_url)))
    crown_all(services)
    with serving(tmp_path, database_url) as served:
        wait_until(lambda: served.answers("/health/ready"), "the service was ready")
        assert {CREDIT.name, SENTENCES.name, SENSORS.name} <= served.with_champion()
        assert "server" not in requests.get(f"{served.address}/health/live", timeout=60).headers
        page = requests.get(f"{served.address}/", headers={"Accept": "text/html"}, timeout=60)
        assert "<h1>Sign in</h1>" in page.text

        found = {command: asked(served, command) for command in curls()}
        # Commands with the placeholder `$KEY` get 401, because the test does not replace it with a key.
        wrong = {command: told for command, told in found.items() if told[0] != (401 if "$KEY" in command else 200)}
        assert wrong == {}
        documented = requests.get(f"{served.address}/openapi.json", timeout=60).json()["paths"]
        # A route also counts as documented if the README of a domain mentions it without a curl command.
        shown = " ".join([*found, *(page.read_text() for page in DOMAINS.glob("*/README.md"))])
        missing = [path for path in documented if "/approvals" not in path and path.split("{")[0] not in shown]
        assert missing == []

        def predict(number: int) -> int:
            asks = {"client_ids": [credit.FIRST_CLIENT + place for place in range(CLIENTS)]}
            headers = {"X-Request-ID": f"last-{number}"}
            try:
                answer = requests.post(
                    f"{served.address}/predictions/credit-risk", json=asks, headers=headers, timeout=60
                )
            except requests.ConnectionError:
                return 0
            assert answer.status_code == 200
            return len(answer.json()["predictions"])

        with ThreadPoolExecutor(4) as threads:
            answers = [threads.submit(predict, number) for number in range(40)]
            wait_until(lambda: sum(answer.done() for answer in answers) > 10, "some predictions were answered")
            served.process.send_signal(signal.SIGTERM)
            assert served.process.wait(60) == 0
        answered = sum(answer.result() for answer in answers)
        assert answered >= 10 * CLIENTS
    with services.database.connect("platform") as connection:
        logged = connection.execute("select count(*) from platform.predictions where request_id like 'last-%'")
        assert logged.fetchone() == (answered,)
    services.close()
    assert served.out.read_text() == f"platform-assets: serving on {served.address}\n"
    lines = served.log()
    assert [line["message"] for line in lines if line.get("request_id") == "last-0"] == [
        "POST /predictions/credit-risk 200"
    ]
    assert [line for line in lines if line["level"] in {"WARNING", "ERROR"}] == []
    assert database_url.split("@", maxsplit=1)[0].rsplit(":", maxsplit=1)[-1] not in served.err.read_text()


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "192.0.2.1", "2001:db8::1"])
def test_serve_refuses_an_occupied_port_and_an_address_of_another_machine(host: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        done = platform_assets("serve", "--host", host, PLATFORM_HOME=tmp_path / "home", PLATFORM_SERVICE_PORT=port)
    assert (done.code, done.out) == (1, "")
    told = f"PlatformError: the service cannot listen on port {port} of {host} ("
    assert told in done.err
    assert "; stop the program that uses the port, or set another port" in done.err
    assert not (tmp_path / "home").exists()
