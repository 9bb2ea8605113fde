"""Benchmark of a landing zone with 10,000 files: the first scan, later scans, and runs of 500 files.

A scan is the work of one sensor tick, measured without Dagster's daemon. A run is the work of the asset, measured
without Dagster.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from platform_assets.domains.sensor_maintenance.demo import COLUMNS
from platform_assets.domains.sensor_maintenance.schemas import READINGS_INCOMING
from platform_assets.domains.sensor_maintenance.settings import SensorMaintenanceSettings
from platform_assets.domains.sensor_maintenance.sources import INCOMING
from platform_assets.lake.landed_files import LandedFiles
from platform_assets.lake.publication import Publisher
from platform_assets.landing.sensors import DISCOVER_SECONDS
from platform_assets.services import Services
from platform_assets.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

FILES, READINGS, DEVICES = 10_000, 42, 50
LIMIT_SECONDS = 2
ROUNDS = 5


def run() -> None:
    """Print the times."""
    # Ignore errors on removal, because the embedded server may still be stopping and using its folder.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        zone = Path(folder) / "zone"
        _deliver(zone, range(FILES))
        settings = Settings(home=Path(folder) / "home")
        sensor = SensorMaintenanceSettings(sensor_landing_uri=str(zone), sensor_settle_seconds=0)
        with closing(Services(settings, (sensor,))) as services:
            _measure(services, zone)


def _deliver(zone: Path, numbers: range) -> None:
    for number in numbers:
        folder = zone / f"device_{number % DEVICES}"
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"{number + line / 1_000},{-line / 1_000}\n" for line in range(READINGS)]
        (folder / f"{number}.txt").write_text(f"{','.join(COLUMNS[:2])}\n{''.join(lines)}")


def _measure(services: Services, zone: Path) -> None:
    incoming = services.zones.find(INCOMING)

    def look() -> int:
        return incoming.discover(DISCOVER_SECONDS).found

    # Start the embedded server before the first scan.
    services.database.connect("platform").close()
    print(f"\ntimes for a landing zone with {FILES:,} files of {READINGS} readings")
    first, found = _seconds(look)
    print(f"  first scan: {first:.2f} s, {found:,} of {FILES:,} files read")
    later = []
    while found < FILES:
        taken, found = _seconds(look)
        later.append(taken)
    _say("scans that read the rest", later)
    _say("scans of an unchanged zone", [_seconds(look)[0] for _ in range(ROUNDS)])
    runs = [_seconds(lambda: _take(services))[0] for _ in range(ROUNDS)]
    print(f"  runs of 500 files, with validation: median {median(runs):.2f} s, longest {max(runs):.2f} s")
    new = []
    for number in range(ROUNDS):
        _deliver(zone, range(FILES + number * 100, FILES + (number + 1) * 100))
        new.append(_seconds(look)[0])
    _say("scans with 100 new files", new)


def _take(services: Services) -> int:
    incoming = services.zones.find(INCOMING)
    batch = incoming.take(LandedFiles(services.tables, READINGS_INCOMING), services.engine, "bench")
    validated = services.validator.validate(READINGS_INCOMING, batch)
    publisher = Publisher(services.tables, services.engine, {}, lambda _: None)
    publisher.publish(READINGS_INCOMING.name, READINGS_INCOMING.quarantine, validated)
    validated.discard()
    return validated.table.rows


def _say(what: str, seconds: list[float]) -> None:
    if seconds:
        told = "ok" if max(seconds) < LIMIT_SECONDS else f"longer than {LIMIT_SECONDS} s"
        print(f"  {len(seconds)} {what}: median {median(seconds):.2f} s, longest {max(seconds):.2f} s ({told})")


def _seconds(work: Callable[[], int]) -> tuple[float, int]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


if __name__ == "__main__":
    run()
