"""Generated sample data, used for sources that are not set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Demo:
    """Sample data of one source.

    Attributes
    ----------
    write
        Function that writes a file with the given number of rows, from a fixed seed, and returns its path.
    suffix
        Suffix of the file's name.
    fewest
        Minimum number of rows needed to train models on this source.
    most
        Maximum number of rows, if more would only slow down training; None for no limit.
    """

    write: Callable[[Path, int], Path]
    suffix: str = ".csv"
    fewest: int = 1
    most: int | None = None
