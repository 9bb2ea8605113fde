"""Performance of a classifier on rows whose labels are not known yet, estimated from its calibrated probabilities.

The method is confidence-based performance estimation (CBPE): the expected confusion matrix is computed from the
calibrated probabilities. It cannot detect that the relation between features and label has changed.

Sources: Garg et al., 2022, https://arxiv.org/abs/2201.04234, and the documentation of NannyML.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.evaluation.intervals import Estimate

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

METRICS = ("recall", "precision", "f2", "accuracy")
MOST_OUTSIDE = 0.01
"""Performance is estimated only if at most this share of the rows is outside the training range."""
MOST_ROWS = 50_000
"""Maximum number of rows from which an estimate is computed. With more rows, a seeded sample is drawn."""
_DRAWS = 400
_DRAWN_AT_ONCE = 5_000_000


@dataclass(frozen=True)
class PerformanceEstimate:
    """Estimated performance on one batch.

    Attributes
    ----------
    outside
        Share of rows outside the training range; None if the range is unknown.
    metrics
        Value and 95 % interval of each metric, by name; NaN if the metric is undefined. None if the performance cannot
        be estimated.
    decides
        Whether the model makes decisions. The performance of other models cannot be estimated.
    """

    outside: float | None
    metrics: Mapping[str, Estimate] | None
    decides: bool = True

    def told(self) -> str:
        """Return the estimate as one line of text."""
        if self.metrics is None:
            return f"unknown: {self._outside_told()}"
        return ", ".join(
            f"{name} undefined"
            if math.isnan(one.value)
            else f"{name} {one.value:.3f} ({one.low:.3f} to {one.high:.3f})"
            for name, one in self.metrics.items()
        )

    def _outside_told(self) -> str:
        if not self.decides:
            return "the model predicts values, and their errors cannot be estimated without labels"
        if self.outside is None:
            return "the training range of this model version is not stored"
        return f"{self.outside:.1%} of the rows are outside the training range or cannot be scored"


def estimate_performance(
    probabilities: Floats, threshold: float | None, outside: NDArray[np.bool_] | None, seed: int = 0
) -> PerformanceEstimate:
    """Estimate the performance on a batch.

    Parameters
    ----------
    probabilities
        Calibrated probabilities of the positive class, (n,); NaN for rows that cannot be scored.
    threshold
        Lowest probability for which a row is flagged; None for a regression model.
    outside
        True for each row outside the training range, (n,); None if the range is unknown.
    seed
        Random seed for the simulated labels, from which the intervals are computed.
    """
    import numpy as np

    if outside is None:
        return PerformanceEstimate(None, None)
    unknown = outside | np.isnan(probabilities)
    share = float(unknown.mean()) if len(unknown) else 0.0
    known = probabilities[~unknown]
    if threshold is None:
        return PerformanceEstimate(share, None, decides=False)
    if share > MOST_OUTSIDE or not len(known):
        return PerformanceEstimate(share, None)
    random = np.random.default_rng(seed)
    if len(known) > MOST_ROWS:
        known = random.choice(known, MOST_ROWS, replace=False)
    flagged, rest = known[known >= threshold], known[known < threshold]
    expected = _metrics(np.array([flagged.sum()]), np.array([rest.sum()]), len(flagged), len(known))
    drawn = _metrics(_positives(flagged, random), _positives(rest, random), len(flagged), len(known))
    return PerformanceEstimate(
        share,
        {
            name: Estimate(float(value[0]), *map(float, np.nanquantile(drawn[name], [0.025, 0.975])))
            if not np.isnan(value[0])
            else Estimate(math.nan, math.nan, math.nan)
            for name, value in expected.items()
        },
    )


def _metrics(hits: Floats, missed: Floats, flagged: int, rows: int) -> dict[str, Floats]:
    """Compute the metrics.

    Parameters
    ----------
    hits, missed
        Number of positive rows among the flagged rows, and among the other rows.
    flagged, rows
        Number of flagged rows, and of all rows.
    """
    import numpy as np

    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "recall": hits / (hits + missed),
            "precision": hits / flagged if flagged else np.full(len(hits), np.nan),
            "f2": 5 * hits / (4 * (hits + missed) + flagged),
            "accuracy": (hits + (rows - flagged - missed)) / rows,
        }


def _positives(probabilities: Floats, random: np.random.Generator) -> Floats:
    """Simulate the labels `_DRAWS` times, and return the number of positive rows in each simulation."""
    import numpy as np

    at_once = max(1, _DRAWN_AT_ONCE // max(len(probabilities), 1))
    parts = []
    for start in range(0, _DRAWS, at_once):
        drawn = random.random((min(at_once, _DRAWS - start), len(probabilities))) < probabilities
        parts.append(drawn.sum(axis=1))
    return np.concatenate(parts).astype(np.float64)
