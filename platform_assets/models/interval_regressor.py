"""Regression model with prediction intervals whose widths depend on the value of one feature.

`evaluation/conformal.py` computes the widths.

Do not move or rename this class: stored models refer to it by path; see `STABLE_MODULES`.
Import this module inside functions, because it imports scikit-learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator, RegressorMixin  # noqa: TID253 - an estimator has to inherit these

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame


class IntervalRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A fitted regressor with the half-widths of its prediction intervals.

    Parameters
    ----------
    estimator
        A fitted regressor.
    names
        Names of the estimator's input columns, in order.
    by
        Column whose value determines the half-width; None if all rows have the same half-width.
    groups, half_widths
        Values of the column `by`, and the half-width for each value.
    half_width
        Half-width for rows whose value is not in `groups`, and for all rows if `by` is None.
    """

    def __init__(
        self,
        estimator: Any,
        names: Sequence[str],
        by: str | None,
        groups: Sequence[str | float],
        half_widths: Sequence[float],
        half_width: float,
    ) -> None:
        self.estimator = estimator
        self.names = names
        self.by = by
        self.groups = groups
        self.half_widths = half_widths
        self.half_width = half_width

    def __sklearn_is_fitted__(self) -> bool:
        """Return True, because the estimator is fitted."""
        return True

    @property
    def feature_names_in_(self) -> NDArray[np.object_]:
        """Return the feature names, if the estimator was fitted with names."""
        names: NDArray[np.object_] = self.estimator.feature_names_in_
        return names

    def predict(self, rows: Frame | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the predicted values, (n,) float64.

        Raises
        ------
        ValueError
            A value is NaN or infinite.
        """
        import numpy as np

        values = np.asarray(self.estimator.predict(rows), dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("a value is NaN or infinite")
        return values

    def predict_interval(self, rows: Frame | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each row's predicted value, lower bound and upper bound, (n, 3) float64.

        Raises
        ------
        ValueError
            A value is NaN or infinite.
        """
        import numpy as np

        values = self.predict(rows)
        half = self._half_widths(rows, len(values))
        return np.column_stack([values, values - half, values + half])

    def _half_widths(self, rows: Frame | NDArray[np.float64], count: int) -> NDArray[np.float64]:
        import numpy as np

        if self.by is None:
            return np.full(count, self.half_width)
        column = rows[:, list(self.names).index(self.by)] if isinstance(rows, np.ndarray) else rows[self.by]
        known = dict(zip(self.groups, self.half_widths, strict=True))
        return np.array([known.get(one, self.half_width) for one in column], dtype=np.float64)
