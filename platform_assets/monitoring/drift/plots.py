"""Plots of the distributions of new rows and training rows, as PNG bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.evaluation.plot_style import MODEL, OTHER, as_png, new_plot, note, rounded, short_name
from platform_assets.monitoring.drift.reference import PROBABILITY

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_BINS = 40
_CATEGORIES = 12


def distributions(column: str, known: Any, new: Any, effect: float) -> bytes:
    """Draw the distributions of a column.

    Parameters
    ----------
    column
        Name of the column.
    known, new
        Values of the training rows, and of the new rows. Numbers are float64, with NaN for missing values; other values
        are objects.
    effect
        Distance between the distributions, for the title.
    """
    among = "holdout rows" if column == PROBABILITY else "training rows"
    below = f"{len(new):,} new rows, {len(known):,} {among}"
    with new_plot(column, f"distance {rounded(effect)}", below) as axes:
        if known.dtype.kind == "f":
            _histograms(axes, known, new, among)
        else:
            _bars(axes, known, new, among)
        axes.set_ylabel("share of rows")
        return as_png(axes)


def _histograms(axes: Axes, known: NDArray[np.float64], new: NDArray[np.float64], among: str) -> None:
    import numpy as np

    finite = [values[np.isfinite(values)] for values in (known, new)]
    both = np.concatenate(finite)
    if not len(both):
        note(axes, "no values")
        return
    edges = np.histogram_bin_edges(both, _BINS).tolist()
    for values, colour, label in zip(finite, (OTHER, MODEL), (among, "new rows"), strict=True):
        if len(values):
            axes.hist(
                values,
                edges,
                weights=np.full(len(values), 1 / len(values)),
                color=colour,
                alpha=0.6,
                label=label,
            )


def _bars(axes: Axes, known: Any, new: Any, among: str) -> None:
    import numpy as np
    import pandas as pd

    counts = [pd.Series(values, dtype=object).fillna("missing").astype(str).value_counts() for values in (known, new)]
    names = list((counts[0] / len(known)).add(counts[1] / max(len(new), 1), fill_value=0).nlargest(_CATEGORIES).index)
    places = np.arange(len(names))
    for shift, count, size, colour, label in (
        (-0.2, counts[0], len(known), OTHER, among),
        (0.2, counts[1], len(new), MODEL, "new rows"),
    ):
        shares = count.reindex(names).fillna(0) / max(size, 1)
        axes.bar(places + shift, shares.to_numpy(), width=0.4, color=colour, label=label)
    axes.set_xticks(places, [short_name(name) for name in names], rotation=30, ha="right")
