"""Rows ranked by their scores: the counts from which metrics, curves and thresholds of a binary classifier follow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.base.errors import TrainingError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

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
