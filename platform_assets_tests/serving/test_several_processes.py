"""A service with several workers, and a second service with the same database, as it would run on another machine."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from platform_assets.domains.credit_risk.model import MODEL
from platform_assets.services import Services
from platform_assets.serving.live_models import SWAP_SECONDS
from platform_assets.settings import Settings
from platform_assets.web.api_keys import FRESH_SECONDS
from platform_assets_tests.postgres import wait_until
from platform_assets_tests.service import HTML, keys_of
from platform_assets_tests.serving import credit
from platform_assets_tests.serving.clients import Client
from platform_assets_tests.serving.test_serve import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from platform_assets_tests.serving.test_serve import Served

WORKERS = 2
LOST_SECONDS = 2.0
"""Maximum age of the predictions that are lost if a process that logs after responding is killed.

Predictions are usually stored after about 0.2 s. On a busy machine, this takes longer.
"""


def per_worker(served: Served, name: str, **labels: str) -> dict[str, float]:
    """Return, for each worker, the sum of the metric's samples with these labels."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(served.text("/metrics")):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                worker = sample.labels.get("worker", "")
                found[worker] = found.get(worker, 0.0) + sample.value
    return found


def clients_of_all_workers(served: Served, key: str, opened: ExitStack) -> list[Client]:
    """Open connections until each worker has a connection."""
    clients: list[Client] = []

    def all_are_reached() -> bool:
        clients.append(opened.enter_context(Client(served.address, f"client-{len(clients)}", key)))
        reached = per_worker(served, "platform_http_requests_total", route="/health/live", status="200")
        return len(clients) >= 2 * WORKERS and len(reached) == WORKERS

    wait_until(all_are_reached, "each worker had a connection")
    return clients


def page_of(served: Served, key: str) -> set[int]:
    """Sign in, and request a page over several connections, to reach several workers. Return the statuses."""
    session = requests.Session()
    token = session.get(f"{served.address}/sign-in", headers={"Accept": HTML}, timeout=60).text
    token = token.partition('name="csrf_token" value="')[2].partition('"')[0]
    session.post(f"{served.address}/sign-in", data={"csrf_token": token, "key": key}, timeout=60)
    headers = {"Accept": HTML, "Connection": "close"}
    return {session.get(f"{served.address}/monitoring", headers=headers, timeout=60).status_code for _ in range(6)}


@dataclass(frozen=True)
class Deployment:
    """Two services on one database, and their clients.

    `one` has several workers and logs predictions before it responds. `two` has one process and logs them afterwards.
    """

    services: Services
    one: Served
    two: Served
    of_one: list[Client]
    of_two: list[Client]
    keys: dict[str, str]

    @property
    def clients(self) -> list[Client]:
        return [*self.of_one, *self.of_two]

    def wait_for(self, status: int, version: int = 0) -> None:
        wait_until(
            lambda: all(client.got(status, version) for client in self.clients),
            lambda: f"all clients got {status} {version}; last: {[client.answers[-1:] for client in self.clients]}",
        )

    def messages(self, text: str) -> list[str]:
        """Return the messages in the workers' log that contain this text."""
        return [str(line["message"]) for line in self.one.log() if text in str(line["message"])]


@pytest.fixture
def deployed(database_url: str, tmp_path: Path) -> Iterator[Deployment]:
    lake = str(tmp_path / "lake")
    services = Services(Settings(home=tmp_path / "home", lake_uri=lake, database_url=SecretStr(database_url)))
    with closing(services), ExitStack() as opened:
        credit.publish_features(services, 5)
        credit.crown(services, credit.fitted(services), 1)
        scopes = {"first": "predict", "second": "predict", "rita": "read"}
        keys = {name: keys_of(services).add(name, name, {scope}) for name, scope in scopes.items()}
        machines = [tmp_path / "one", tmp_path / "two"]
        for machine in machines:
            machine.mkdir()
        variables = {"PLATFORM_LAKE_URI": lake}
        of_workers = {"PLATFORM_SERVE_WORKERS": str(WORKERS), "PLATFORM_PREDICTIONS_LOGGED": "before"}
        one = opened.enter_context(serving(machines[0], database_url, **variables, **of_workers))
        two = opened.enter_context(serving(machines[1], database_url, **variables))
        wait_until(
            lambda: list(per_worker(one, "platform_model_live", model=MODEL.name).values()) == [1.0] * WORKERS,
            "the champion was live in all workers",
        )
        wait_until(lambda: MODEL.name in two.with_champion(), "the champion was live on the other machine")
        of_one = clients_of_all_workers(one, keys["first"], opened)
        of_two = [opened.enter_context(Client(two.address, f"other-{number}", keys["first"])) for number in range(2)]
        for client in (*of_one, *of_two):
            client.start()
        yield Deployment(services, one, two, of_one, of_two, keys)


@pytest.mark.requirement("SRV-1", "SRV-3", "PRO-8", "PLT-9")
def test_all_processes_follow_promotions_and_revocations_and_log_all_predictions(deployed: Deployment) -> None:
    deployed.wait_for(200, 1)
    promote(deployed)
    revoke(deployed)
    read_metrics(deployed)
    assert page_of(deployed.one, deployed.keys["rita"]) == {200}
    for client in deployed.clients:
        client.key = deployed.keys["second"]
    deployed.wait_for(200, 2)
    kill_a_worker(deployed)
    killed_at = time.monotonic()
    deployed.two.process.kill()
    deployed.two.process.wait()
    for client in deployed.clients:
        client.stop()
    deployed.one.process.send_signal(signal.SIGTERM)
    assert deployed.one.process.wait(60) == 0
    with deployed.services.database.connect("platform") as connection:
        logged = {name for (name,) in connection.execute("select request_id from platform.predictions")}
    assert {name for client in deployed.of_one for name in client.answered()} <= logged
    lost = [at for client in deployed.of_two for name, at in client.answered().items() if name not in logged]
    assert all(at > killed_at - LOST_SECONDS for at in lost)
    assert [line["message"] for line in deployed.one.log() if line["level"] == "ERROR"] == deployed.messages("SIGKILL")


def promote(deployed: Deployment) -> None:
    """Promote a version under load; check that all processes switch to it in time, and that none switches back."""
    services = deployed.services
    credit.crown(services, credit.fitted(services), 2)
    promoted_at = time.monotonic()
    deployed.wait_for(200, 2)
    for client in deployed.clients:
        versions = [answer.version for answer in client.answers]
        assert versions == sorted(versions)
        assert {one.version for one in client.answers if one.asked_at > promoted_at + SWAP_SECONDS} <= {2}


def revoke(deployed: Deployment) -> None:
    """Revoke the clients' key, and check that all processes refuse it in time."""
    keys_of(deployed.services).revoke("first")
    revoked_at = time.monotonic()
    deployed.wait_for(401)
    for client in deployed.clients:
        assert {one.status for one in client.answers if one.asked_at > revoked_at + FRESH_SECONDS} <= {401}


def read_metrics(deployed: Deployment) -> None:
    """While no predictions are made, check that the metrics of all workers add up to the number of predictions."""
    answered = sum(len(client.answered()) for client in deployed.of_one)
    route = "/predictions/credit-risk"
    for name, labels in (
        ("platform_http_requests_total", {"route": route, "status": "200"}),
        ("platform_predictions_total", {}),
        ("platform_prediction_log_rows_total", {}),
    ):
        counted = per_worker(deployed.one, name, **labels)
        assert (set(counted), sum(counted.values())) == ({"1", "2"}, answered), name
        assert min(counted.values()) > 0
    assert per_worker(deployed.one, "platform_worker_up") == {"1": 1.0, "2": 1.0}
    assert per_worker(deployed.one, "platform_model_info", model=MODEL.name, version="2") == {"1": 1.0, "2": 1.0}


def kill_a_worker(deployed: Deployment) -> None:
    """Kill a worker, and wait until it is replaced and all clients receive predictions again."""
    accepts = "worker 1 of 2 accepts requests"
    [told] = deployed.messages(accepts)
    os.kill(int(told.rpartition(" ")[2].rstrip(")")), signal.SIGKILL)
    wait_until(lambda: len(deployed.messages(accepts)) == 2, "the killed worker was replaced")
    seen = {client.name: len(client.answers) for client in deployed.of_one}
    wait_until(
        lambda: all(len(client.answers) > seen[client.name] and client.got(200, 2) for client in deployed.of_one),
        "all clients were answered again",
    )
