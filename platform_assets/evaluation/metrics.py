"""The metrics of a binary classifier: what each means, and how it is computed from rows ranked by their scores.

Intervals around them, and differences between two models, are in `binary_classification.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.base.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """What a metric means.

    Attributes
    ----------
    label
        Its name in a sentence.
    description
        How it is computed; what is not said there is as in scikit-learn.
    needs
        Without what it is undefined, i.e. NaN.
    higher_is_better
        None where neither direction is better.
    chance
        What drawing lots reaches, where that is the same for all data.
    """

    label: str
    description: str
    needs: str = "rows"
    higher_is_better: bool | None = None
    chance: float | None = None


_POSITIVES = "positive rows"
METRICS: Mapping[str, Metric] = {
    "roc_auc": Metric(
        "ROC AUC",
        "Probability that a positive row scores above a negative one; a tie counts one half.",
        "rows of both classes",
        higher_is_better=True,
        chance=0.5,
    ),
    "average_precision": Metric(
        "Average precision",
        "Area under the curve of precision over recall, as a sum of steps; chance reaches the base rate.",
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
        "Expected calibration error: rows in ten bins of equal size by score, the absolute difference between mean "
        "score and share of positives in each, averaged by rows. Rows of one score share a bin, that of their middle. "
        "Chance alone makes it larger than 0. Naeini, Cooper and Hauskrecht (AAAI 2015); bins of equal size as in "
        "Nguyen and O'Connor (EMNLP 2015).",
        higher_is_better=False,
    ),
    "recall": Metric(
        "Recall", "Share of the positive rows whose score reaches the threshold.", _POSITIVES, higher_is_better=True
    ),
    "precision": Metric(
        "Precision", "Share of positive rows among the flagged ones.", "flagged rows", higher_is_better=True
    ),
    "f1": Metric(
        "F1",
        "Harmonic mean of recall and precision; 0 where no positive row is flagged.",
        _POSITIVES,
        higher_is_better=True,
    ),
    "accuracy": Metric("Accuracy", "Share of rows flagged if positive, and only then.", higher_is_better=True),
    "lift_top_decile": Metric(
        "Lift of the top decile",
        "Share of positives among the tenth of the rows with the highest scores, over the base rate. Of rows that tie "
        "at its border, each counts in part.",
        _POSITIVES,
        higher_is_better=True,
        chance=1.0,
    ),
    "flagged": Metric("Share flagged", "Share of rows whose score reaches the threshold."),
    "rows": Metric("Number of rows", "Rows judged; with weights, their sum.", "nothing"),
    "positives": Metric("Number of positive rows", "Rows labelled 1; with weights, their sum.", "nothing"),
}
"""What is measured of a model, by name."""


def metric_named(name: str) -> Metric:
    """Return what a metric means.

    Raises
    ------
    TrainingError
        There is no such metric.
    """
    if name not in METRICS:
        raise TrainingError(f"there is no metric {name}; there are {', '.join(METRICS)}")
    return METRICS[name]


_BINS = 10
_TOP = 0.1


@dataclass(frozen=True, eq=False)
class Tally:
    """What a classifier did, as far as metrics and curves go: the rows at each distinct score, highest first.

    Attributes
    ----------
    scores
        Distinct scores, descending, float64, shape (k,).
    rows
        Rows at each, or the sum of their weights, float64, shape (k,).
    positives
        The positive ones among them, float64, shape (k,).
    """

    scores: Floats
    rows: Floats
    positives: Floats

    def metrics(self, threshold: float) -> dict[str, float]:
        """All of `METRICS`, rows that reach the threshold being flagged; NaN where one is undefined."""
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
            # Where no row is positive, what is flagged can only be wrong, and nothing can be right.
            "f1": _ratio(2 * caught, positives + flagged) if positives else math.nan,
            "accuracy": _ratio(rows - flagged - positives + 2 * caught, rows),
            "lift_top_decile": self._lift(rows, positives),
            "flagged": _ratio(flagged, rows),
            "rows": rows,
            "positives": positives,
        }

    def above(self) -> tuple[Floats, Floats]:
        """Rows, and positive rows, at each score or above, shape (k,) each."""
        return self.rows.cumsum(), self.positives.cumsum()

    def bins(self) -> tuple[Floats, Floats, Floats]:
        """Mean score, share of positives and rows of each tenth of the rows by score; bins without rows left out."""
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
        # Mann and Whitney's form: negatives at a score, times the positives above and half of those beside them.
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
        # Straight lines between the scores are what gives tied rows their part.
        in_top = np.interp(_TOP * rows, np.append(0.0, above), np.append(0.0, caught))
        return float(in_top) / (_TOP * positives)


class Ranking:
    """Rows sorted by their scores, once, to be tallied under many weights.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).

    Raises
    ------
    TrainingError
        Shapes differ, or there are other values.
    """

    def __init__(self, labels: ArrayLike, scores: ArrayLike) -> None:
        import numpy as np

        truth, score = number_column("labels", labels), number_column("scores", scores)
        if len(truth) != len(score):
            raise TrainingError(f"there are {len(truth)} labels and {len(score)} scores; each row needs both")
        if not np.isin(truth, (0, 1)).all():
            raise TrainingError(f"labels must be 0 or 1; there are others: {_odd(truth, ~np.isin(truth, (0, 1)))}")
        # Written so that NaN is refused as well.
        if not ((score >= 0) & (score <= 1)).all():
            raise TrainingError(
                f"scores must lie between 0 and 1; there are others: {_odd(score, ~((score >= 0) & (score <= 1)))}"
            )
        self._order = np.argsort(-score, kind="stable")
        self._labels = truth[self._order]
        ranked = score[self._order]
        self._starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1])[: len(ranked)])
        self._scores = ranked[self._starts]

    def __len__(self) -> int:
        return len(self._labels)

    def tally(self, weights: ArrayLike | None = None) -> Tally:
        """Count the rows at each score, each as often as its weight says.

        Parameters
        ----------
        weights
            0 or above, shape (n,); None counts each row once.

        Raises
        ------
        TrainingError
            The weights are not one finite number of 0 or above for each row.
        """
        import numpy as np

        if weights is None:
            weight = np.ones(len(self._labels))
        else:
            given = number_column("weights", weights)
            if len(given) != len(self._labels) or not ((given >= 0) & (given < np.inf)).all():
                raise TrainingError("weights must be finite numbers of 0 or above, one for each row")
            weight = given[self._order]
        if not len(weight):
            return Tally(self._scores, weight, weight)
        return Tally(
            self._scores,
            np.add.reduceat(weight, self._starts),
            np.add.reduceat(weight * self._labels, self._starts),
        )


def number_column(name: str, values: ArrayLike) -> Floats:
    """Return values as float64, shape (n,).

    Parameters
    ----------
    name
        What they are, for the error.
    values
        Numbers, one for each row.

    Raises
    ------
    TrainingError
        Some are no numbers, or there is not one for each row.
    """
    import numpy as np

    try:
        column = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"the {name} are not all numbers: {error}") from None
    if column.ndim != 1:
        raise TrainingError(f"the {name} have shape {column.shape}; one for each row is needed")
    return column


def _odd(values: Floats, which: NDArray[np.bool_]) -> str:
    return f"{int(which.sum())} of {len(values)}, the first {values[which][0]:g}"


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
