"""Invented sample data, made on the spot from a seed, so that everything runs before real data are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
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


def demos() -> Mapping[str, Demo]:
    """Each kind of sample data, by the name of the source that it stands in for."""
    from platform_assets.domains.credit_risk import demo as loans
    from platform_assets.domains.optimisation import demo as hotels
    from platform_assets.domains.sentence_relevance import demo as sentences

    return {
        "credit_loans": loans.LOANS,
        "speed_data": hotels.COORDINATES,
        "memory_data": hotels.HOTELS,
        "sentences_archive": sentences.SENTENCES,
    }
