"""Pipeline steps for numeric columns.

Do not move or rename these classes: stored models refer to them by path; see `STABLE_MODULES`.
Import this module inside functions, because it imports scikit-learn.
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
"""NumPy kinds that convert to floats but are not real numbers: complex numbers, times, durations."""


class NumberColumns(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """First step of a pipeline: checks a frame's column names and returns its numbers as a matrix.

    The later steps receive the matrix. If they received the frame, each of them would check the column names again.
    These checks took half of the time of a one-row prediction.
    """

    def fit(self, rows: Frame, labels: Any = None) -> NumberColumns:  # noqa: ARG002 - scikit-learn's signature
        """Store the column names in their order."""
        self.names_ = list(rows.columns)
        return self

    def transform(self, rows: Frame | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the numbers, (n, columns) float64, with NaN for missing values.

        Parameters
        ----------
        rows
            A frame with the fitted columns in the same order, or a matrix whose columns the caller has checked.

        Raises
        ------
        ValueError
            The columns or their order differ, a value is not a real number, or the step is not fitted.
        """
        import numpy as np

        check_is_fitted(self)
        if isinstance(rows, np.ndarray):
            if rows.shape[1:] != (len(self.names_),):
                raise ValueError(
                    f"the matrix must have {len(self.names_)} columns, {self.names_}; its shape is {rows.shape}"
                )
            return np.asarray(rows, dtype=np.float64)
        if (names := list(rows.columns)) != self.names_:
            raise ValueError(f"the columns must be {self.names_}, in this order; they are {names}")
        if others := [name for name, kind in rows.dtypes.items() if kind.kind in _NO_REAL_NUMBERS]:
            raise ValueError(f"the columns {others} do not contain real numbers")
        return rows.to_numpy(dtype=np.float64)
