"""Benchmark of the time from the arrival of files until predictions for them are stored, under `platform-assets up`.

A champion is promoted first. Then the benchmark measures two times: for many files that are in the zone before the
sensors start, and for single files that arrive later. Both times include the interval of the sensor, and the time for
which a file must be unchanged to count as complete.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from pydantic import SecretStr

from benchmarks.live_platform import crown
from benchmarks.servers import free_port, started
from platform_assets.domains.sensor_maintenance.model import MODEL
from platform_assets.domains.sensor_maintenance.schemas import PREDICTIONS, READINGS, READINGS_HISTORY
from platform_assets.domains.sensor_maintenance.simulator import SEED, Drop, drops, simulate
from platform_assets.domains.sensor_maintenance.sources import read_history
from platform_assets.services import Services, open_services
from platform_assets.serving.stored_predictions import StoredPredictions
from platform_assets.settings import PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

FILES = 2_000
WITHIN_SECONDS = 300.0
SINGLE_FILES = 3
SINGLE_WITHIN_SECONDS = 120.0
PATIENCE_SECONDS = 1_200.0
PROGRAM = Path(sys.executable).with_name("platform-assets")


def run() -> None:
    """Print the measured times, and whether they are within the limits."""
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as name:
        home = Path(name, "home")
        zone = Path(name, "zone")
        services = open_services(
            Settings(home=home, lake_uri="", database_url=SecretStr(""), mlflow_tracking_uri=SecretStr(""))
        )
        try:
            _crown(services)
            waiting, single = _measured(services, home, zone)
        finally:
            services.close()
    print(f"\ntime from the arrival of files until predictions are stored; load average {os.getloadavg()[0]:.1f}")
    print(f"{FILES:,} files at the start: {waiting:.0f} s (limit: {WITHIN_SECONDS:g} s), {FILES / waiting:.1f} files/s")
    print(f"a single file, median of {SINGLE_FILES}: {single:.0f} s (limit: {SINGLE_WITHIN_SECONDS:g} s)")
    print("within the limits" if waiting <= WITHIN_SECONDS and single <= SINGLE_WITHIN_SECONDS else "TOO SLOW")


def _crown(services: Services) -> None:
    validated = services.validator.validate(READINGS_HISTORY, read_history(services.sources, services.engine))
    services.tables.publish(READINGS_HISTORY.name, validated.table, metadata={"demo": validated.demo})
    validated.discard()
    if crown(services, MODEL) is None:
        raise RuntimeError(f"{MODEL.name} failed its gate on sample data")


def _measured(services: Services, home: Path, zone: Path) -> tuple[float, float]:
    """Return two durations in seconds: for the files present at the start, and the median of the later files."""
    files = drops(FILES + SINGLE_FILES, SEED)
    waiting = [next(files) for _ in range(FILES)]
    simulate(str(zone), iter(waiting), lambda: True, lambda _: None)
    port = free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment = inherited | {
        "PLATFORM_HOME": str(home),
        "PLATFORM_SENSOR_LANDING_URI": str(zone),
        "PLATFORM_SERVICE_PORT": str(port),
        "PLATFORM_DAGSTER_PORT": str(free_port()),
        "PLATFORM_MLFLOW_PORT": str(free_port()),
    }
    with started([PROGRAM, "up"], port, "/health/live", environment, home / "up.log"):
        seconds = _until_predicted(services, waiting)
        alone = [_until_predicted(services, _dropped(zone, drop)) for drop in files]
    return seconds, median(alone)


def _dropped(zone: Path, drop: Drop) -> list[Drop]:
    simulate(str(zone), iter([drop]), lambda: True, lambda _: None)
    return [drop]


def _until_predicted(services: Services, files: Sequence[Drop]) -> float:
    """Wait until predictions are stored for all valid readings of the files; return the waiting time in seconds.

    Raises
    ------
    RuntimeError
        The files took too long, or the number of predictions is wrong.
    """
    stored = StoredPredictions(lambda: services.database, PREDICTIONS)
    query = b"select digest from platform.landing_files where names && %s and state in ('processed', 'set_aside')"
    names = [drop.name for drop in files]
    contents = {drop.content for drop in files}
    began = time.monotonic()
    while len(found := services.database.reads.rows(query, [names])) < len(contents):
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise RuntimeError(f"only {len(found):,} of {len(contents):,} files were done in {PATIENCE_SECONDS:g} s")
        # Half a second is short compared with the limits, and polling this often uses little CPU time.
        time.sleep(0.5)
    seconds = time.monotonic() - began
    _, rows = stored.page([digest for (digest,) in found], 0, 1)
    expected = sum(_good_lines(content) for content in contents)
    if rows != expected:
        raise RuntimeError(f"{rows:,} predictions are stored; the files have {expected:,} readings")
    return seconds


def _good_lines(content: bytes) -> int:
    """Return the number of valid readings in a file: complete lines after the header that contain no error."""
    fields = b",".join((b"device,recorded_at", *(name.encode() for name in READINGS))).count(b",")
    if not content.startswith(b"device"):
        return 0
    return sum(line.count(b",") == fields and b"error" not in line for line in content.splitlines()[1:])
