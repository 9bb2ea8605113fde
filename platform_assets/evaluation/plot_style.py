"""Shared style of all plots, and their conversion to PNG.

Plots have 640 x 440 pixels. The model is blue, its reference grey and the threshold orange. The title names the plot
and its main number. The line below the title gives the number of rows.
"""

from __future__ import annotations

import io
import logging
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT, DPI = 640, 440, 100
MODEL, OTHER, THRESHOLD = "#1f5fa8", "#8a8f98", "#d9660a"
INK, _FAINT_INK, _FAINT = "#22262b", "#5a6068", "#e4e6ea"
_SMALL, _LARGE = 0.1, 1_000
_COLOURS = 96
_LONGEST_NAME = 32


@contextmanager
def new_plot(what: str, number: str, below: str) -> Iterator[Axes]:
    """Open a plot with the title `what: number` and the subtitle `below`."""
    with _quiet():
        from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor="white")
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 0.88))
    title = figure.text(0.015, 0.935, f"{what}: {number}", fontsize=12, fontweight="bold", color=INK)
    title.set_parse_math(False)
    figure.text(0.015, 0.89, below, fontsize=9, color=_FAINT_INK)
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    axes.grid(color=_FAINT, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, colors=INK)
    yield axes
    figure.clear()


@contextmanager
def _quiet() -> Iterator[None]:
    # Silence Matplotlib's first import. It warns if it cannot save its font list (read-only home), or if building the
    # list takes more than five seconds. Neither affects the plot.
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def as_png(axes: Axes, columns: int = 3) -> bytes:
    """Render the plot as PNG. If a line has a label, draw a legend with `columns` columns below the plot."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure = cast("Figure", axes.figure)
    if axes.get_legend_handles_labels()[1]:
        # Place the legend outside the axes, so that it covers no data.
        legend = figure.legend(loc="outside lower center", ncols=columns, fontsize=9, frameon=False)
        for label in legend.get_texts():
            label.set_parse_math(False)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    buffer = io.BytesIO()
    # The plots use only four colours and their blends. A palette therefore reduces the size to a third without a
    # visible change.
    image.quantize(_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(buffer, "png")
    return buffer.getvalue()


def rounded(number: float) -> str:
    """Format a number with about three digits; NaN is `undefined`."""
    if math.isnan(number):
        return "undefined"
    if abs(number) >= _LARGE:
        return f"{number:,.0f}"
    # Scores of a rare class are small, so three decimals would make different scores look equal.
    return f"{number:.3f}" if abs(number) >= _SMALL or number == 0 else f"{number:.3g}"


def short_name(name: str) -> str:
    """Shorten a name to fit beside an axis, and replace characters that the font lacks."""
    # Matplotlib warns about characters that its font lacks.
    plain = (
        "".join(letter if letter.isprintable() else " " for letter in name)
        .encode("latin-1", "replace")
        .decode("latin-1")
    )
    return plain if len(plain) <= _LONGEST_NAME else f"{plain[: _LONGEST_NAME - 3]}..."


def note(axes: Axes, text: str) -> None:
    """Write text in the middle of the plot."""
    axes.text(
        0.5,
        0.5,
        text,
        ha="center",
        va="center",
        transform=axes.transAxes,
        color=INK,
        fontsize=11,
        backgroundcolor="white",
    )
