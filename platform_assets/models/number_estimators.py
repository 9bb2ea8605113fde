"""Steps of a model's pipeline that take numbers.

Stable: stored models name these classes by path; see `STABLE_MODULES`.
Heavy: imports scikit-learn. Import it inside functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator, TransformerMixin  # noqa: TID253 - an estimator has to inherit these
from sklearn.utils.validation import check_is_fitted  # noqa: TID253 - as above

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame

_NO_REAL_NUMBERS = "cmM"
"""Kinds of NumPy's that it makes numbers of: complex ones, times, durations."""


class NumberColumns(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A frame of numbers, its columns bound by their names, to the matrix that the other steps calculate with.

    First in a pipeline. scikit-learn's own steps check the names of a frame, too, each for itself and at length: that
    was half of the time in which a single row is scored.
    """

    def fit(self, rows: Frame, labels: Any = None) -> NumberColumns:  # noqa: ARG002 - scikit-learn's own form
        """Remember the names and their order."""
        self.names_ = list(rows.columns)
        return self

    def transform(self, rows: Frame | NDArray[np.float64]) -> NDArray[np.float64]:
        """The numbers, (n, columns) float64, missing ones NaN.

        Parameters
        ----------
        rows
            The columns that it was fitted with, in that order; or the numbers themselves, whose columns somebody else
            has bound by name.

        Raises
        ------
        ValueError
            There are other columns, or in another order; or a value is no number; or it was not fitted.
        """
        import numpy as np

        check_is_fitted(self)
        if isinstance(rows, np.ndarray):
            if rows.shape[1:] != (len(self.names_),):
                raise ValueError(f"there have to be {len(self.names_)} columns, {self.names_}; this is {rows.shape}")
            return np.asarray(rows, dtype=np.float64)
        if (names := list(rows.columns)) != self.names_:
            raise ValueError(f"the columns have to be {self.names_}, in this order; they are {names}")
        if others := [name for name, kind in rows.dtypes.items() if kind.kind in _NO_REAL_NUMBERS]:
            raise ValueError(f"the columns {others} hold no real numbers")
        return rows.to_numpy(dtype=np.float64)
