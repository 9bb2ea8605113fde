"""Simulated devices that drop files with readings into the landing zone, with the faults of real devices.

The seed determines the kind, the device and the readings of each file. The clock determines the times of the readings.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from platform_assets.base.errors import SourceError, first_line
from platform_assets.base.logs import shown
from platform_assets.domains.sensor_maintenance.demo import two_moons
from platform_assets.domains.sensor_maintenance.schemas import READINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

SEED = 20_261_129
DEVICES = 8
LINES = (20, 60)
"""Smallest and largest number of readings in a file."""
DRIFT = 0.25
"""Shift of the drifting device's readings per file, in standard deviations."""
LATEST_HOURS = 48
"""Longest delay of a late file."""
EVERY = timedelta(minutes=1)
"""Time between two readings of a device."""
KINDS = {"on time": 10, "late": 2, "half-written": 2, "drifting": 2, "twice": 2, "damaged": 1, "bad lines": 1}
"""Relative frequency of each kind of file. The first files are one of each kind, in this order."""


@dataclass(frozen=True)
class Drop:
    """A file that a device writes.

    Attributes
    ----------
    name
        Path in the landing zone.
    content
        The complete content.
    kind
        One of `KINDS`.
    begun
        The part of a half-written file that is written first. The complete content is written when the next file is
        written. Empty for files that are written at once.
    """

    name: str
    content: bytes
    kind: str
    begun: bytes = b""


def drops(files: int, seed: int, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Iterator[Drop]:
    """Yield files of simulated devices, without end if `files` is 0.

    Parameters
    ----------
    files
        Number of files; 0 for no limit.
    seed
        Random seed.
    now
        Function that returns the current time, with time zone.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    kinds, chances = [*KINDS], np.array([*KINDS.values()]) / sum(KINDS.values())
    original, drifted, number = b"", 0, 0
    while not files or number < files:
        kind = kinds[number] if number < len(kinds) else str(random.choice(kinds, p=chances))
        moment = now()
        if kind == "late":
            moment -= timedelta(hours=float(random.uniform(1, LATEST_HOURS)))
        # Only the last device drifts.
        device, shift = f"pump_{random.integers(1, DEVICES)}", 0.0
        if kind == "drifting":
            drifted += 1
            device, shift = f"pump_{DEVICES}", DRIFT * drifted
        content = _content(random, device, moment, shift)
        if kind == "twice":
            content = original
        elif kind == "damaged":
            content = random.bytes(len(content))
        elif kind == "bad lines":
            content += b"pump_1,yesterday,error,0.5\n0.5\n"
        original = original or content
        begun = content[: len(content) // 2] if kind == "half-written" else b""
        yield Drop(f"{device}/{moment:%Y%m%dT%H%M%S.%fZ}.txt", content, kind, begun)
        number += 1


def simulate(uri: str, found: Iterator[Drop], pause: Callable[[], bool], tell: Callable[[str], None]) -> int:
    """Write files, each after a pause, and return their number. A half-written file is completed after the next pause.

    Parameters
    ----------
    uri
        The landing zone: a path or any fsspec URI.
    found
        The files to write.
    pause
        Function that waits before the next file. If it returns False, half-written files are completed, and no further
        file is written.
    tell
        Function that is called with a line about each file.

    Raises
    ------
    SourceError
        A file cannot be written.
    """
    begun: list[Drop] = []
    written = 0

    def complete() -> None:
        while begun:
            drop = begun.pop()
            _write(uri, drop.name, drop.content)
            tell(f"{drop.name}: completed")

    for drop in found:
        if written and not pause():
            break
        complete()
        _write(uri, drop.name, drop.begun or drop.content)
        tell(f"{drop.name}: {drop.kind}")
        begun += [drop] if drop.begun else []
        written += 1
    complete()
    return written


def _content(random: np.random.Generator, device: str, newest: datetime, shift: float) -> bytes:
    count = int(random.integers(*LINES, endpoint=True))
    readings = two_moons(random, random.integers(0, 2, count)) + shift
    lines = [",".join(("device", "recorded_at", *READINGS))]
    for place, reading in enumerate(readings.tolist()):
        taken_at = newest - EVERY * (count - 1 - place)
        lines.append(",".join((device, taken_at.isoformat(), *map(repr, reading))))
    return "".join(f"{line}\n" for line in lines).encode()


def _write(uri: str, name: str, content: bytes) -> None:
    import fsspec

    try:
        files, folder = fsspec.core.url_to_fs(uri)
        path = f"{folder.rstrip('/')}/{name}"
        files.makedirs(path.rpartition("/")[0], exist_ok=True)
        files.pipe_file(path, content)
    except Exception as error:  # noqa: BLE001 - fsspec's drivers raise any error of their client libraries
        raise SourceError(f"{name} cannot be written to {shown(uri)}: {first_line(error)}") from None
