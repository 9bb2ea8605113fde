"""Files that are dropped while `platform-assets up` runs get predictions automatically."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import requests

from platform_assets.domains.sensor_maintenance.simulator import Drop, drops, simulate
from platform_assets_tests.command_line import PROGRAM
from platform_assets_tests.domains.sensor_maintenance.plant import Plant, open_plant
from platform_assets_tests.ports import reserve_port
from platform_assets_tests.postgres import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILES = 16
PATH = "/predictions/sensor-maintenance"


@contextmanager
def running(home: Path, url: str) -> Iterator[str]:
    """Run `platform-assets up` with automation on; yield the address of the service."""
    port = reserve_port()
    variables = {
        "PLATFORM_HOME": str(home),
        "PLATFORM_DATABASE_URL": url,
        "PLATFORM_MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow.db'}",
        "PLATFORM_SERVICE_PORT": str(port),
        "PLATFORM_DAGSTER_PORT": str(reserve_port()),
        "PLATFORM_SENSOR_LANDING_URI": str(home / "zone"),
        "PLATFORM_SENSOR_SETTLE_SECONDS": "2",
    }
    log = home / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [PROGRAM, "up"], env=os.environ | variables, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_until(
            lambda: "all servers are ready" in log.read_text() or process.poll() is not None,
            lambda: f"the servers were ready: {log.read_text()}",
        )
        assert process.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def answer(address: str, drop: Drop) -> requests.Response:
    return requests.get(address + PATH, params={"file": drop.name, "items_per_page": "1000"}, timeout=30)


def is_done(address: str, drop: Drop) -> bool:
    """Return for a damaged file whether it was refused, and for any other file whether it has predictions."""
    response = answer(address, drop)
    return "has no predictions:" in response.text if drop.kind == "damaged" else response.ok


def pause() -> bool:
    # Pause between files, so that the sensor scans the landing zone while further files arrive.
    time.sleep(0.2)
    return True


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.requirement("SEN-1", "SEN-6", "PLT-2")
def test_dropped_files_get_predictions_automatically(tmp_path: Path, database_url: str) -> None:
    services = open_plant(tmp_path, database_url)
    approval = Plant(services).promote(2.0)
    services.close()
    found = [*drops(FILES, seed=1)]
    with running(tmp_path, database_url) as address:
        simulate(str(tmp_path / "zone"), iter(found), pause, lambda _: None)

        def waiting() -> list[str]:
            return [drop.name for drop in found if not is_done(address, drop)]

        wait_until(lambda: not waiting(), lambda: f"{waiting()} had predictions")
        rows: list[dict[str, Any]] = [
            row for drop in found if drop.kind == "late" for row in answer(address, drop).json()
        ]
    assert {(row["model_version"], row["approval_id"]) for row in rows} == {("1", approval)}
    expected = sum(drop.content.count(b"\n") - 1 for drop in found if drop.kind == "late")
    assert len(rows) == expected
