"""Metrics of binary classifiers: their definitions, and their computation from rows sorted by score.

Intervals and differences between two models are in `binary_classification.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.metric_definitions import Metric

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


_POSITIVES = "positive rows"
METRICS: Mapping[str, Metric] = {
    "roc_auc": Metric(
        "ROC AUC",
        "Probability that a random positive row scores above a random negative row; ties count one half.",
        "rows of one of the classes",
        higher_is_better=True,
        chance=0.5,
    ),
    "average_precision": Metric(
        "Average precision",
        "Area under the precision-recall curve, summed in steps. Random scores reach the base rate.",
        _POSITIVES,
        higher_is_better=True,
    ),
    "base_rate": Metric("Base rate", "Share of positive rows."),
    "brier": Metric(
        "Brier score",
        "Mean squared difference between score and label.",
        higher_is_better=False,
    ),
    "calibration_error": Metric(
        "Calibration error",
        "Expected calibration error (Naeini, Cooper and Hauskrecht, AAAI 2015) with ten equal-sized bins by score "
        "(Nguyen and O'Connor, EMNLP 2015): the absolute difference between mean score and share of positive rows per "
        "bin, weighted by the rows in the bin. Rows with equal scores share a bin. Sampling noise makes the "
        "error positive even for a perfectly calibrated model.",
        higher_is_better=False,
    ),
    "recall": Metric(
        "Recall",
        "Share of positive rows that are flagged.",
        _POSITIVES,
        higher_is_better=True,
        share_of="positives",
    ),
    "precision": Metric("Precision", "Share of flagged rows that are positive.", "flagged rows", higher_is_better=True),
    "f1": Metric(
        "F1",
        "Harmonic mean of recall and precision; 0 if no positive row is flagged.",
        _POSITIVES,
        higher_is_better=True,
    ),
    "f2": Metric(
        "F2",
        "Weighted harmonic mean of recall and precision, in which recall counts twice as much as precision.",
        _POSITIVES,
        higher_is_better=True,
    ),
    "false_positive_rate": Metric(
        "False-positive rate", "Share of negative rows that are flagged.", "negative rows", higher_is_better=False
    ),
    "accuracy": Metric("Accuracy", "Share of rows classified correctly.", higher_is_better=True),
    "lift_top_decile": Metric(
        "Lift of the top decile",
        "Share of positive rows in the top-scoring tenth, divided by the base rate. Rows that tie at the boundary of "
        "the tenth count proportionally.",
        _POSITIVES,
        higher_is_better=True,
        chance=1.0,
    ),
    "flagged": Metric("Share flagged", "Share of rows that score at or above the threshold."),
    "rows": Metric("Number of rows", "Rows evaluated; with weights, the sum of the weights.", "nothing"),
    "positives": Metric(
        "Number of positive rows", "Rows with label 1; with weights, the sum of their weights.", "nothing"
    ),
}
"""Definitions of all metrics of a binary classifier, by name."""
SUBGROUP_METRICS = ("rows", "base_rate", "roc_auc", "recall", "precision", "f1", "flagged", "calibration_error")
"""Metrics that are shown for each subgroup."""
_BINS = 10
_TOP = 0.1


@dataclass(frozen=True, eq=False)
class Tally:
    """Counts of rows and positive rows at each distinct score, from which metrics and curves are computed.

    Attributes
    ----------
    scores
        Distinct scores, descending, float64, shape (k,).
    rows
        Rows at each score, or the sum of their weights, float64, shape (k,).
    positives
        Positive rows at each score, or the sum of their weights, float64, shape (k,).
    """

    scores: Floats
    rows: Floats
    positives: Floats

    def metrics(self, threshold: float) -> dict[str, float]:
        """Compute all of `METRICS` at a threshold; undefined metrics are NaN."""
        rows, positives = float(self.rows.sum()), float(self.positives.sum())
        flags = self.scores >= threshold
        flagged, caught = float(self.rows[flags].sum()), float(self.positives[flags].sum())
        mean, share, size = self.bins()
        squares = self.positives * (1 - self.scores) ** 2 + (self.rows - self.positives) * self.scores**2
        return {
            "roc_auc": self._roc_auc(rows, positives),
            "average_precision": self._average_precision(positives),
            "base_rate": _ratio(positives, rows),
            "brier": _ratio(float(squares.sum()), rows),
            "calibration_error": _ratio(float((size * abs(mean - share)).sum()), rows),
            "recall": _ratio(caught, positives),
            "precision": _ratio(caught, flagged),
            # These metrics are undefined without positive rows, because the quotient would be 0 whatever the model
            # flags.
            "f1": _ratio(2 * caught, positives + flagged) if positives else math.nan,
            "f2": _ratio(5 * caught, 4 * positives + flagged) if positives else math.nan,
            "false_positive_rate": _ratio(flagged - caught, rows - positives),
            "accuracy": _ratio(rows - flagged - positives + 2 * caught, rows),
            "lift_top_decile": self._lift(rows, positives),
            "flagged": _ratio(flagged, rows),
            "rows": rows,
            "positives": positives,
        }

    def above(self) -> tuple[Floats, Floats]:
        """Return the numbers of rows and of positive rows at or above each score, shape (k,) each."""
        return self.rows.cumsum(), self.positives.cumsum()

    def bins(self) -> tuple[Floats, Floats, Floats]:
        """Return mean score, share of positive rows and number of rows of each non-empty decile by score."""
        import numpy as np

        total = self.rows.sum()
        if not total:
            return np.empty(0), np.empty(0), np.empty(0)
        middle = self.rows.cumsum() - self.rows / 2
        place = np.minimum(_BINS * middle / total, _BINS - 1).astype(np.int64)
        size, scored, positive = (
            np.bincount(place, values, _BINS).astype(np.float64)
            for values in (self.rows, self.rows * self.scores, self.positives)
        )
        filled = size > 0
        return scored[filled] / size[filled], positive[filled] / size[filled], size[filled]

    def _roc_auc(self, rows: float, positives: float) -> float:
        # Mann-Whitney U: for each negative row, count the positive rows with a higher score, plus half of the ties.
        pairs = (self.rows - self.positives) * (self.positives.cumsum() - self.positives / 2)
        return _ratio(float(pairs.sum()), positives * (rows - positives))

    def _average_precision(self, positives: float) -> float:
        here = self.positives > 0
        above, caught = self.above()
        return _ratio(float((self.positives[here] * caught[here] / above[here]).sum()), positives)

    def _lift(self, rows: float, positives: float) -> float:
        import numpy as np

        if not positives:
            return math.nan
        above, caught = self.above()
        # Linear interpolation between distinct scores counts tied rows proportionally.
        in_top = np.interp(_TOP * rows, np.append(0.0, above), np.append(0.0, caught))
        return float(in_top) / (_TOP * positives)


class Ranking:
    """Rows sorted by score. They are sorted only once, and then tallied with the weights of each bootstrap resample.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).

    Raises
    ------
    TrainingError
        Shapes differ, or a label or score is out of range.
    """

    def __init__(self, labels: ArrayLike, scores: ArrayLike) -> None:
        import numpy as np

        truth, score = number_column("labels", labels), number_column("scores", scores)
        if len(truth) != len(score):
            raise TrainingError(f"there are {len(truth)} labels and {len(score)} scores; pass one of each per row")
        if not np.isin(truth, (0, 1)).all():
            raise TrainingError(f"labels must be 0 or 1, but {_odd(truth, ~np.isin(truth, (0, 1)))}")
        # The condition is negated, so that NaN is rejected too.
        if not ((score >= 0) & (score <= 1)).all():
            raise TrainingError(f"scores must be between 0 and 1, but {_odd(score, ~((score >= 0) & (score <= 1)))}")
        self._order = np.argsort(-score, kind="stable")
        self._labels = truth[self._order]
        ranked = score[self._order]
        self._starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1])[: len(ranked)])
        self._scores = ranked[self._starts]

    def __len__(self) -> int:
        return len(self._labels)

    def tally(self, weights: ArrayLike | None = None) -> Tally:
        """Sum the weights of rows and of positive rows at each distinct score.

        Parameters
        ----------
        weights
            Row weights, 0 or above, shape (n,); None gives every row the weight 1.

        Raises
        ------
        TrainingError
            A weight is negative or not finite, or the number of weights differs from the number of rows.
        """
        import numpy as np

        if weights is None:
            weight = np.ones(len(self._labels))
        else:
            given = number_column("weights", weights)
            if len(given) != len(self._labels) or not ((given >= 0) & (given < np.inf)).all():
                raise TrainingError("weights must be finite and 0 or above, one per row")
            weight = given[self._order]
        if not len(weight):
            return Tally(self._scores, weight, weight)
        return Tally(
            self._scores,
            np.add.reduceat(weight, self._starts),
            np.add.reduceat(weight * self._labels, self._starts),
        )


def number_column(name: str, values: ArrayLike) -> Floats:
    """Convert values to a float64 array of shape (n,).

    Parameters
    ----------
    name
        Name of the values in error messages.
    values
        Numbers, one per row.

    Raises
    ------
    TrainingError
        A value is not a number, or the values are not one-dimensional.
    """
    import numpy as np

    try:
        column = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"the {name} are not all numbers: {error}") from None
    if column.ndim != 1:
        raise TrainingError(f"the {name} have shape {column.shape}; pass one per row, shape (n,)")
    return column


def _odd(values: Floats, which: NDArray[np.bool_]) -> str:
    return f"{int(which.sum())} of {len(values)} are not; the first is {values[which][0]:g}"


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
