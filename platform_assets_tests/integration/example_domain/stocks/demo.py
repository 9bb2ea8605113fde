"""Generated daily prices. A rise makes a further rise likely, so that a model can learn it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.landing.file_writer import write_csv
from platform_assets.landing.sample_data import Demo

if TYPE_CHECKING:
    from pathlib import Path

SEED = 20_260_101
FIRST_DAY = "2020-01-01"
SYMBOLS = [f"{first}{second}{third}" for first in "AB" for second in "ABCDE" for third in "ABCD"]
MOMENTUM, DAILY_CHANGE = 0.7, 0.01
LINES_PER_BAD_ONE = 200


def generate(path: Path, rows: int, seed: int = SEED) -> Path:
    """Write a CSV file of invented prices, and return its path; the same rows and seed give the same bytes.

    One line in 200 is bad: its price is negative.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    shares = len(SYMBOLS)
    change, price = np.zeros(shares), random.uniform(5, 200, shares)
    lines: list[list[str | float]] = []
    for day in np.datetime64(FIRST_DAY) + np.arange(-(-rows // shares)):
        change = MOMENTUM * change + random.normal(0, DAILY_CHANGE, shares)
        price = price * np.exp(change)
        volume = random.poisson(10_000, shares)
        lines += [[*line] for line in zip(SYMBOLS, [str(day)] * shares, price, volume, strict=True)]
    for line in lines[LINES_PER_BAD_ONE - 1 : rows : LINES_PER_BAD_ONE]:
        line[2] = -float(line[2])
    return write_csv(path, ("symbol", "day", "close_eur", "volume"), lines[:rows])


PRICES = Demo(generate)
