"""Plot of a classifier's scores over the plane of two features, as PNG bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.evaluation.plot_style import MODEL, OTHER, THRESHOLD, as_png, new_plot, rounded

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_MOST_POINTS = 500


def decision_surface(
    names: Sequence[str],
    grid: tuple[Floats, Floats, Floats],
    points: Floats,
    labels: NDArray[np.int64],
    threshold: float,
) -> bytes:
    """Draw scores as shades, the threshold as a line, and labelled rows as points.

    Parameters
    ----------
    names
        Names of the two features.
    grid
        Three arrays: the values of the first feature, shape (c,); the values of the second feature, shape (r,); and
        the scores, shape (r, c).
    points
        Values of both features of the labelled rows, (n, 2).
    labels
        0 or 1, (n,).
    threshold
        A row is flagged when its score is at or above this value.
    """
    import numpy as np

    across, up, scores = grid
    number = f"threshold {rounded(threshold)}"
    below = f"n = {len(labels):,} held-out rows, {int(labels.sum()):,} positive; darker: higher score"
    with new_plot("Decision surface", number, below) as axes:
        axes.contourf(across, up, scores, levels=np.linspace(0, 1, 6), cmap="Blues", alpha=0.55)
        if scores.min() < threshold <= scores.max():
            axes.contour(across, up, scores, levels=[threshold], colors=[THRESHOLD], linewidths=1.8)
        axes.plot([], [], color=THRESHOLD, label="threshold")
        for label, colour, marker, name in ((0, OTHER, "o", "negative rows"), (1, MODEL, "^", "positive rows")):
            first, second = points[labels == label][:_MOST_POINTS].T
            axes.scatter(first, second, s=16, c=colour, marker=marker, linewidths=0, label=name)
        axes.set(xlabel=names[0], ylabel=names[1], xlim=(across[0], across[-1]), ylim=(up[0], up[-1]))
        axes.grid(visible=False)
        return as_png(axes)
