"""Costs of a binary classifier's errors: missed positive rows against false alarms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.metrics import Ranking

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Costs:
    """The assumed cost of a missed positive row, in false alarms.

    Attributes
    ----------
    missed
        How many false alarms cost as much as one missed positive row; above 0.
    why
        Source of the number, in one sentence.

    Raises
    ------
    TrainingError
        The number is not positive.
    """

    missed: float
    why: str

    def __post_init__(self) -> None:
        if not 0 < self.missed < float("inf"):
            raise TrainingError(f"a missed positive row costs {self.missed:g} false alarms; set Costs.missed above 0")

    def curve(self, labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
        """Return the cost per 100 rows, in false alarms, at each threshold.

        Parameters
        ----------
        labels
            0 or 1, shape (n,).
        scores
            Between 0 and 1, shape (n,).

        Returns
        -------
        tuple[NDArray[np.float64], NDArray[np.float64]]
            Two arrays of k + 1 values, for k distinct scores: the thresholds, and the cost at each. The thresholds are
            infinity, which flags no row, and then the scores in descending order.
        """
        import numpy as np

        tally = Ranking(labels, scores).tally()
        flagged, caught = tally.above()
        alarms = np.append(0.0, flagged - caught)
        missed = tally.positives.sum() - np.append(0.0, caught)
        rows = max(float(tally.rows.sum()), 1.0)
        return np.append(np.inf, tally.scores), 100 * (self.missed * missed + alarms) / rows

    def found(self, labels: ArrayLike, scores: ArrayLike, threshold: float) -> dict[str, Any]:
        """Return the assumption, the cost at the threshold, and the lowest cost with its threshold, as JSON values."""
        thresholds, costs = self.curve(labels, scores)
        # Index of the lowest threshold that flags the same rows as the chosen threshold.
        here = int((thresholds >= threshold).sum()) - 1
        best = int(costs.argmin())
        return {
            "missed": self.missed,
            "why": self.why,
            "per_100_rows": float(costs[here]),
            "lowest_per_100_rows": float(costs[best]),
            "lowest_at": float(thresholds[best]) if best else None,
        }
