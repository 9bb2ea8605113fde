"""Regression on labels that are divided by a level, for quantities whose level changes over time, such as demand.

Do not move or rename this class: stored models refer to it by path; see `STABLE_MODULES`.
Import this module inside functions, because it imports scikit-learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator, RegressorMixin, clone  # noqa: TID253 - an estimator has to inherit these
from sklearn.utils.validation import check_is_fitted  # noqa: TID253 - as above

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame


class RelativeRegression(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Regression of the label divided by a level, with one estimator for each value of the column `by`.

    The estimators do not receive the column `level`. They receive the columns `relative` divided by the level, and all
    other columns unchanged.

    Parameters
    ----------
    estimator
        Regressor that takes a matrix. A clone is fitted for each value of the column `by`.
    level
        Name of the column with the level, in the label's unit. All its values must be positive.
    relative
        Names of the columns to divide by the level. They are in the label's unit.
    by
        Name of the column that selects the estimator; None to fit a single estimator.
    """

    def __init__(self, estimator: Any, level: str, relative: Sequence[str], by: str | None = None) -> None:
        self.estimator = estimator
        self.level = level
        self.relative = relative
        self.by = by

    def fit(self, rows: Frame, labels: Sequence[float] | NDArray[np.float64]) -> RelativeRegression:
        """Fit the estimators.

        Parameters
        ----------
        rows
            (n, columns) numbers.
        labels
            (n,) labels, in the unit of the level.

        Raises
        ------
        ValueError
            A level is missing or not positive.
        """
        import numpy as np

        self.names_ = list(rows.columns)
        matrix, levels, groups = self._parts(rows)
        shares = np.asarray(labels, dtype=np.float64) / levels
        self.groups_ = np.unique(groups)
        self.estimators_ = [
            clone(self.estimator).fit(matrix[groups == group], shares[groups == group]) for group in self.groups_
        ]
        return self

    def predict(self, rows: Frame) -> NDArray[np.float64]:
        """Return the predictions, (n,) float64, in the unit of the level.

        Raises
        ------
        ValueError
            The columns differ from the fitted columns, a level is missing or not positive, or a value of the column
            `by` did not occur in the training set.
        """
        import numpy as np

        check_is_fitted(self)
        if (names := list(rows.columns)) != self.names_:
            raise ValueError(f"the columns must be {self.names_}, in this order; they are {names}")
        matrix, levels, groups = self._parts(rows)
        if len(new := np.setdiff1d(groups, self.groups_)):
            raise ValueError(
                f"{self.by} is {new[0]:g} in some rows; the model was fitted on {self.groups_.tolist()} only"
            )
        found = np.empty(len(levels))
        for estimator, group in self._fitted():
            if (here := groups == group).any():
                found[here] = estimator.predict(matrix[here])
        return found * levels

    def _fitted(self) -> Iterator[tuple[Any, float]]:
        return zip(self.estimators_, self.groups_.tolist(), strict=True)

    def _parts(self, rows: Frame) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the matrix that the estimators receive, the levels, and the values of `by`."""
        import numpy as np

        numbers = rows.to_numpy(dtype=np.float64, copy=True)
        place = {name: number for number, name in enumerate(rows.columns)}
        levels = numbers[:, place[self.level]].copy()
        if not (levels > 0).all():
            raise ValueError(f"{self.level} is missing or not positive in {int((~(levels > 0)).sum())} rows")
        numbers[:, [place[name] for name in self.relative]] /= levels[:, None]
        groups = np.zeros(len(levels)) if self.by is None else numbers[:, place[self.by]].copy()
        return np.delete(numbers, place[self.level], axis=1), levels, groups
