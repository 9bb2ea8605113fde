"""Assertions on plots: PNG format, size in pixels and bytes, and colours."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

    Picture = Callable[[Any, Any, float], bytes]

MOST_BYTES = 35_000
WHITE = (255, 255, 255)
MODEL, THRESHOLD = (31, 95, 168), (217, 102, 10)


def colours(picture: bytes) -> dict[Any, int]:
    """Count the pixels of each colour."""
    # The PNGs use a palette, so they have at most 256 colours. A larger limit would only make Pillow use more memory.
    found = Image.open(io.BytesIO(picture)).convert("RGB").getcolors(maxcolors=256)
    assert found is not None
    return {colour: count for count, colour in found}


def near(picture: bytes, wanted: tuple[int, int, int]) -> int:
    """Count the pixels whose colour is close to `wanted`. The palette can shift a colour slightly."""
    return sum(
        count
        for colour, count in colours(picture).items()
        if max(abs(one - other) for one, other in zip(colour, wanted, strict=True)) <= 10
    )


def demand_good(picture: bytes) -> None:
    """Assert that the plot is a non-empty PNG of the right size."""
    with Image.open(io.BytesIO(picture)) as image:
        image.load()
        assert (image.format, image.size) == ("PNG", (640, 440))
    assert len(picture) <= MOST_BYTES
    found = colours(picture)
    assert found.get(WHITE, 0) > 0
    assert len(found) > 5
