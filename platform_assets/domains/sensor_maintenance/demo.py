"""Generated labelled readings, in the format and shape of the real history, and a few files with new readings.

The real readings of the two classes form two interleaved half circles ("two moons") that overlap a little. The columns
are standardised, and both classes are equally frequent. One line in 200 is deliberately invalid: a missing reading, a
word instead of a number, an unknown label, an impossible reading, or a surplus field.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.landing.file_writer import write_csv
from platform_assets.landing.sample_data import Demo

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

SEED = 20_260_104
COLUMNS = ("sensor_1", "sensor_2", "label")
NOISE = 0.2
"""Standard deviation of the noise, relative to the radius of a half circle; close to that of the real history."""
SHARE_OF_BAD_LINES = 0.005
DEVICES = 6
"""Number of sample files with new readings, one per device."""
PER_DAY = 24
"""Number of readings per device, except for device `DRIFTING`. Each file contains one day."""
DRIFTING, DRIFTING_PER_DAY = 5, 96
"""Number of the device whose readings drift, and its number of readings.

The drift makes the sample data raise a drift alarm. With only 24 readings, drift of this size would raise no alarm.
"""
DRIFT = 3.0
"""Shift of the drifting device's last reading, in standard deviations. The shift grows linearly from 0."""
SILENT, SILENT_DAYS = 2, 5
"""Number of the device that has stopped sending readings, and by how many days its file is older than the others."""
NEWEST_DAY = datetime(2026, 1, 11, 6, tzinfo=UTC)
"""Start of the day that the newest files contain. The readings of device n begin n minutes later."""
ROWS = 1_500
"""Number of rows, the same as in the real history.

The quality gate allows two misses among the 150 positive rows of the holdout. With fewer rows, the holdout would be
smaller, and the gate would allow fewer misses. With more rows, training would be slow because of the exact Gaussian
process, even though that model is fitted on at most 1,200 rows.
"""


def generate(path: Path, rows: int, seed: int = SEED) -> Path:
    """Write a CSV file of labelled readings. The same `rows` and `seed` give the same bytes.

    Parameters
    ----------
    path
        The file, which is written completely or not at all.
    rows
        Number of lines after the header, including invalid lines.
    seed
        Random seed.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        `rows` is not positive.
    OSError
        The file cannot be written.
    """
    import numpy as np

    if rows < 1:
        raise ValueError(f"cannot generate {rows} demo readings; at least 1 is needed")
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(rows) % 2)
    readings = two_moons(random, labels)
    lines: list[list[Any]] = [
        [*values, float(label)] for values, label in zip(readings.tolist(), labels.tolist(), strict=True)
    ]
    places = random.choice(rows, size=round(rows * SHARE_OF_BAD_LINES), replace=False).tolist()
    for number, place in enumerate(sorted(places)):
        lines[place] = _spoiled(lines[place], number)
    return write_csv(path, COLUMNS, lines)


def write_incoming(folder: Path, seed: int = SEED + 1) -> list[Path]:
    """Write files with new readings, as devices deliver them, and return their paths.

    One line is deliberately invalid, the readings of one device drift, and another device has stopped sending.

    Parameters
    ----------
    folder
        An existing folder.
    seed
        Random seed; the same seed gives the same bytes.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    written = []
    for device in range(1, DEVICES + 1):
        start = NEWEST_DAY + timedelta(minutes=device) - timedelta(days=SILENT_DAYS if device == SILENT else 0)
        count = DRIFTING_PER_DAY if device == DRIFTING else PER_DAY
        readings = two_moons(random, random.integers(0, 2, size=count))
        if device == DRIFTING:
            readings += np.linspace(0, DRIFT, count)[:, None]
        values = readings.round(9).tolist()
        times = [(start + timedelta(days=number / count)).isoformat() for number in range(count)]
        name = f"device_{device:02}"
        lines: list[list[Any]] = [[name, time, *pair] for time, pair in zip(times, values, strict=True)]
        if device == DEVICES:
            lines[-1][-1] = "error"
        path = folder / name / f"{start:%Y%m%dT%H%M%SZ}.txt"
        written.append(write_csv(path, ("device", "recorded_at", *COLUMNS[:-1]), lines))
    return written


def two_moons(random: np.random.Generator, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return one standardised reading of both sensors for each label, shape (n, 2)."""
    import numpy as np

    angle = random.uniform(0, np.pi, len(labels))
    upper = np.column_stack([np.cos(angle), np.sin(angle)])
    points = np.where(labels[:, None] == 1, [1.0, 0.5] - upper, upper) + random.normal(0, NOISE, (len(labels), 2))
    # Standardise with the mean and standard deviation of the distribution. With those of the sample, each reading
    # would depend on all the others.
    return np.asarray((points - [0.5, 0.25]) / np.sqrt(np.array([0.75, 0.5625 - 1 / np.pi]) + NOISE**2))


def _spoiled(line: list[Any], number: int) -> list[Any]:
    first, second, label = line
    spoiled: tuple[list[Any], ...] = (
        ["", second, label],
        [first, "error", label],
        [first, second, 2.0],
        [1e9, second, label],
        [*line, "surplus"],
    )
    return spoiled[number % len(spoiled)]


HISTORY = Demo(generate, fewest=ROWS, most=ROWS)
