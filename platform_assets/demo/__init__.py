"""Invented sample data, made on the spot from a seed, so that everything runs before real data are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def generators() -> Mapping[str, Callable[[Path, int], Path]]:
    """What writes each kind of sample data, by the name of the source that it stands in for."""
    from platform_assets.demo import hotels, loans

    return {
        "credit_loans": loans.generate,
        "speed_data": hotels.generate_coordinates,
        "memory_data": hotels.generate,
    }
