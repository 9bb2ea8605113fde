"""Invented sample data, made on the spot from a seed, so that everything runs before real data are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Demo:
    """What stands in for a source.

    Attributes
    ----------
    write
        Writes a file with a number of rows, always the same; the file.
    suffix
        How the name of such a file ends.
    """

    write: Callable[[Path, int], Path]
    suffix: str = ".csv"
