"""Rulers. A ruler converts a column's values to scores between 0 and 1, whose means over the training rows are known.

The scores of a number are:

- its rank among the training rows
- the distance of this rank from the median rank
- for each tenth (decile) of the training values, 1 if the number is in this tenth, else 0
- 1 if the number is missing, else 0

A text or boolean has a score for each category: 1 if the value belongs to the category, else 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Places = NDArray[np.int64]

TENTHS = 10
MOST_CATEGORIES = 20
"""Maximum number of categories with their own score. All less frequent categories share one score."""
NEIGHBOURS = 10
_MOST_NEIGHBOURHOOD = 2_000
_FAR = 1e6
_NO_SPREAD = 1e-9
_LONGEST_NAME = 40


class Ruler(ABC):
    """Interface of a ruler.

    Attributes
    ----------
    rows
        Number of training rows.
    names
        Names of the scores. The first `numbers` scores are numeric, from 0 to 1. Each other score belongs to one code:
        it is 1 for values with this code, else 0.
    numbers
        Number of numeric scores.
    present
        Number of training rows for which a numeric score is not missing, (numbers,).
    means, variances
        Means and variances of the scores over the training rows, (scores,).
    weights
        Weight of each score in the evidence, (scores,). The sum is 1.
    """

    numbers: int
    names: tuple[str, ...]
    weights: Floats
    rows: int
    present: Places
    means: Floats
    variances: Floats

    @abstractmethod
    def scores(self, values: Any) -> tuple[Floats, Places]:
        """Return the scores of values.

        Returns
        -------
        scores
            Numeric scores, (n, numbers), with NaN for missing values.
        codes
            Codes, (n,). They determine the other scores.
        """

    @abstractmethod
    def distance(self, values: Any) -> float:
        """Return the distance between the distributions of the values and of the training rows, from 0 to 1."""

    def _compute_means(self, values: Any) -> None:
        """Compute `rows`, `present`, `means` and `variances` from the training values."""
        import numpy as np

        scores, codes = self.scores(values)
        shares = np.bincount(codes, minlength=len(self.names) - self.numbers) / max(len(values), 1)
        self.rows, self.present = len(values), (~np.isnan(scores)).sum(axis=0)
        known = self.present > 0
        self.means = np.concatenate([np.where(known, _mean(scores), 0.5), shares])
        self.variances = np.concatenate([np.where(known, _mean(scores**2) - _mean(scores) ** 2, 0), shares])


def _mean(scores: Floats) -> Floats:
    import numpy as np

    mean: Floats = np.nansum(scores, axis=0) / np.maximum((~np.isnan(scores)).sum(axis=0), 1)
    return mean


class NumberRuler(Ruler):
    """Ruler of a numeric column.

    Parameters
    ----------
    values
        Training values, (n,) float64, with NaN for missing values.
    """

    numbers = 2

    def __init__(self, values: Floats) -> None:
        import numpy as np

        self._sorted = np.sort(values[~np.isnan(values)])
        places = np.arange(1, TENTHS) * len(self._sorted) // TENTHS
        self._edges = np.unique(self._sorted[places]) if len(self._sorted) else np.empty(0)
        tenths = [f"share of values {told}" for told in _intervals(self._edges)]
        self.names = ("mean rank", "mean distance from the median rank", *tenths, "share of missing values")
        rest = len(tenths) + 1
        self.weights = np.array([0.5, 0.25, *[0.25 / rest] * rest])
        self._compute_means(values)

    def scores(self, values: Floats) -> tuple[Floats, Places]:
        """Return the scores and codes of values.

        The numeric scores are the rank and its distance from the median rank. The code is the index of the tenth
        (decile) of the training values in which the number lies. The code of a missing value is the next index after
        the last tenth.
        """
        import numpy as np

        ranks = ranks_among(self._sorted, values)
        missing = np.isnan(values)
        places = np.where(missing, len(self._edges) + 1, np.searchsorted(self._edges, values, side="right"))
        return np.column_stack([ranks, np.abs(2 * ranks - 1)]), places

    def distance(self, values: Floats) -> float:
        """Return the Kolmogorov-Smirnov distance."""
        import numpy as np

        return _kolmogorov_smirnov(self._sorted, values[~np.isnan(values)])


class CategoryRuler(Ruler):
    """Ruler of a column of texts or booleans.

    Parameters
    ----------
    values
        Training values, (n,) objects, with None or NaN for missing values.
    """

    numbers = 0

    def __init__(self, values: Any) -> None:
        import numpy as np
        import pandas as pd

        counts = pd.Series(values, dtype=object).dropna().astype(str).value_counts()
        self._categories = list(counts.index[:MOST_CATEGORIES])
        names = [f"share of {_shortened(category)!r}" for category in self._categories]
        self.names = (*names, "share of other values", "share of missing values")
        self.weights = np.full(len(self.names), 1 / len(self.names))
        self._compute_means(values)

    def scores(self, values: Any) -> tuple[Floats, Places]:
        """Return the category index of each value as its code. There are no numeric scores, so their array is empty."""
        import numpy as np
        import pandas as pd

        column = pd.Series(values, dtype=object)
        code = {category: number for number, category in enumerate(self._categories)}
        known = column.astype(str).map(code).fillna(len(code)).astype("int64").to_numpy()
        return np.empty((len(column), 0)), np.where(column.isna(), len(code) + 1, known)

    def distance(self, values: Any) -> float:
        """Return the total variation distance."""
        import numpy as np

        counts = np.bincount(self.scores(values)[1], minlength=len(self.names))
        return float(np.abs(counts / max(len(values), 1) - self.means).sum() / 2)


class JointRuler(Ruler):
    """Joint ruler for all numeric columns.

    The scores of a row are the ranks of its principal components and of its distance to the nearest neighbours. The
    components detect shifts along correlated columns. The distance detects rows in regions without training rows, even
    if the distribution of each single column is unchanged. Of the methods that docs/monitoring.md compares, the
    distance has the most statistical power.

    Parameters
    ----------
    values
        Training values, (n, columns), with NaN for missing values.
    others
        Values of other rows from the same distribution, (m, columns), such as the holdout. The principal components are
        computed from these rows, and distances are measured to them. If training rows were used for this, the scores of
        training rows and of new rows would differ even without drift.
    """

    def __init__(self, values: Floats, others: Floats) -> None:
        import numpy as np
        from scipy.spatial import cKDTree

        known = np.where(np.isnan(others).all(axis=0), 0.0, others)
        self._median, self._spread = np.nanmedian(known, axis=0), np.nanstd(known, axis=0)
        self._spread[self._spread == 0] = 1.0
        self._axes = np.eye(others.shape[1])
        plain = self._turned(others)
        sizes, axes = np.linalg.eigh(np.atleast_2d(np.cov(plain.T)))
        # Do not rescale directions in which the values are constant, because their standard deviation is 0.
        self._axes = axes / np.sqrt(np.where(sizes > _NO_SPREAD, sizes, 1.0))
        turned = self._turned(others)
        kept = np.random.default_rng(0).permutation(len(turned))[:_MOST_NEIGHBOURHOOD]
        self._tree = cKDTree(turned[kept])
        self._neighbour = min(NEIGHBOURS, len(kept))
        width = others.shape[1]
        self.numbers = width + 1
        components = [f"mean rank of principal component {number}" for number in range(width, 0, -1)]
        self.names = (*components, "mean rank of the distance to the nearest holdout rows")
        self.weights = np.array([*[0.5 / width] * width, 0.5])
        self._sorted = np.sort(self._placed(values), axis=0)
        self._compute_means(values)

    def scores(self, values: Floats) -> tuple[Floats, Places]:
        """Return the ranks of the components and of the distance as numeric scores. The array of codes is empty."""
        import numpy as np

        placed = self._placed(values)
        ranks = [ranks_among(known, new) for known, new in zip(self._sorted.T, placed.T, strict=True)]
        return np.column_stack(ranks), np.empty(0, dtype=np.int64)

    def distance(self, values: Floats) -> float:
        """Return the largest of the scores' Kolmogorov-Smirnov distances."""
        placed = self._placed(values)
        return max(_kolmogorov_smirnov(known, new) for known, new in zip(self._sorted.T, placed.T, strict=True))

    def _turned(self, values: Floats) -> Floats:
        import numpy as np

        filled = np.where(np.isnan(values), self._median, values)
        turned: Floats = np.clip((filled - self._median) / self._spread, -_FAR, _FAR) @ self._axes
        return turned

    def _placed(self, values: Floats) -> Floats:
        import numpy as np

        turned = self._turned(values)
        distances = self._tree.query(turned, [self._neighbour])[0]
        return np.column_stack([turned, distances])


def ranks_among(known: Floats, values: Floats) -> Floats:
    """Return each value's rank: the share of the sorted known values that are smaller; NaN for NaN.

    If known values equal the value, half of them count as smaller.
    """
    import numpy as np

    below, up_to = (np.searchsorted(known, values, side=side) for side in ("left", "right"))
    return np.where(np.isnan(values), np.nan, (below + up_to) / (2 * max(len(known), 1)))


def _kolmogorov_smirnov(known: Floats, new: Floats) -> float:
    """Return the largest difference between two distribution functions; 0 if a sample is empty.

    Parameters
    ----------
    known
        Sorted sample.
    new
        Other sample. It need not be sorted, because sorting millions of values would be slow.
    """
    import numpy as np

    if not len(known) or not len(new):
        return 0.0
    largest = 0.0
    # Compare the functions at both ends of each interval between two known values. Within an interval, the function of
    # the known values is constant and the other function rises, so the largest difference is at an end.
    for to_value, from_known in (("left", "right"), ("right", "left")):
        counts = np.bincount(np.searchsorted(known, new, side=to_value), minlength=len(known) + 1)  # type: ignore[call-overload]  # `side` is a literal
        shares = np.searchsorted(known, known, side=from_known) / len(known)  # type: ignore[call-overload]  # as above
        largest = max(largest, float(np.abs(np.cumsum(counts)[:-1] / len(new) - shares).max()))
    return largest


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]} .."


def _intervals(edges: Floats) -> list[str]:
    if not len(edges):
        return ["anywhere"]
    between = [f"from {low:.4g} to below {high:.4g}" for low, high in pairwise(edges)]
    return [f"below {edges[0]:.4g}", *between, f"of at least {edges[-1]:.4g}"]
