"""Generated sample data, which replace sources that are not set."""

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
        Writes a file with a number of rows, from a fixed seed, and returns its path.
    suffix
        Suffix of the file's name.
    fewest
        Rows that the models made from the source need.
    """

    write: Callable[[Path, int], Path]
    suffix: str = ".csv"
    fewest: int = 1
