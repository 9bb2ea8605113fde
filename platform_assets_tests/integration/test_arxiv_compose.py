"""The arXiv service and its PostgreSQL in real containers, as `docker/compose.arxiv.yaml` starts them."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import requests
import yaml

from platform_assets_tests.containers import ROOT, compose_command
from platform_assets_tests.ports import reserve_port
from platform_assets_tests.postgres import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = ROOT / "docker" / "compose.arxiv.yaml"
START_SECONDS = 600


@dataclass(frozen=True)
class Service:
    """The running service, with the headers that authenticate requests to it."""

    address: str
    headers: dict[str, str]

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        return requests.request(method, self.address + path, headers=self.headers, timeout=60, **options)


@contextmanager
def started(project: str) -> Iterator[Service]:
    """Start the containers, and remove them and their volumes at the end."""
    port = reserve_port()
    command = [*compose_command(), "--project-name", project, "--file", str(FILE)]

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [*command, *arguments],
            check=False,
            env=os.environ | {"ARXIV_PORT": str(port)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return requests.get(f"{address}/health/live", timeout=10).ok
        except requests.RequestException:
            return False

    try:
        run("up", "--build", "--detach")
        try:
            wait_until(answers, "the service answered", START_SECONDS)
        except pytest.fail.Exception as error:
            pytest.fail(f"{error}\n{run('logs', '--tail', '60')}")
        printed = run("exec", "-T", "service", "platform-assets", "keys", "add", "test", "--scope", "read")
        yield Service(address, {"Authorization": f"Bearer {printed.split()[-1]}"})
    finally:
        run("down", "--volumes", "--timeout", "30")


@pytest.mark.requirement("ARX-6")
def test_the_compose_file_contains_only_the_service_and_postgresql() -> None:
    declared = yaml.safe_load(FILE.read_text())
    assert set(declared["services"]) == {"service", "database"}
    assert declared["services"]["database"]["image"].startswith("postgres:")
    assert "ports" not in declared["services"]["database"]
    assert (ROOT / "docker" / declared["services"]["service"]["build"]["dockerfile"].removeprefix("docker/")).is_file()


@pytest.mark.release
@pytest.mark.slow
@pytest.mark.timeout(2_400)
@pytest.mark.requirement("ARX-6")
def test_the_containers_serve_all_endpoints() -> None:
    with started(f"arxiv-test-{os.getpid()}") as service:
        found = service.ask("POST", "/arxiv", json={"author": "Maestro", "max_query_results": 3})
        assert found.status_code == 201, found.text
        assert len(found.json()["results"]) == 3
        period = {"query_timestamp_start": "2020-01-01T00:00:00"}
        file = service.ask("GET", "/queries", params=period)
        assert file.headers["content-disposition"] == 'attachment; filename="arxiv_queries.csv"'
        assert len(file.text.splitlines()) == 2
        [listed] = service.ask("POST", "/queries", json=period).json()
        assert listed == {name: found.json()[name] for name in ("query", "timestamp", "status", "num_results")}
        assert service.ask("GET", "/results").json() == found.json()["results"]
        assert requests.get(f"{service.address}/results", timeout=60).status_code == 401
