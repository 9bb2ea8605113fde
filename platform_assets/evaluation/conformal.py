"""Prediction intervals by split conformal prediction, with a width per group.

The half-width of an interval is a quantile of the absolute residuals of rows that the model was not fitted on (Lei,
G'Sell, Rinaldo, Tibshirani and Wasserman, Journal of the American Statistical Association 113, 2018). Computed
separately for each group, the intervals have the declared coverage within each group (Mondrian conformal prediction:
Vovk, Asian Conference on Machine Learning, 2012). This is guaranteed for exchangeable rows. The rows of a time series
are not exchangeable, so measure the coverage on later rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Group = str | float


@dataclass(frozen=True)
class Intervals:
    """Declaration of prediction intervals.

    Attributes
    ----------
    level
        Share of labels that the intervals should contain; above 0, below 1.
    by
        Feature that defines the groups; None for one width for all rows.
    fewest
        Minimum number of residuals of a group. A group with fewer residuals gets the width for all rows.

    Raises
    ------
    TrainingError
        The level is out of range, or `fewest` is too low for it.
    """

    level: float = 0.9
    by: str | None = None
    fewest: int = 30

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise TrainingError(f"Intervals.level is {self.level:g}; it must be a share above 0 and below 1")
        if _rank(self.fewest, self.level) > self.fewest:
            raise TrainingError(
                f"{self.fewest} residuals are too few for a level of {self.level:g}; set Intervals.fewest to "
                f"{math.ceil(self.level / (1 - self.level))} or more"
            )


@dataclass(frozen=True)
class Widths:
    """Half-widths of prediction intervals.

    Attributes
    ----------
    of_all
        Half-width for rows whose group is not in `of_group`.
    of_group
        Half-width by group.
    """

    of_all: float
    of_group: Mapping[Group, float]

    def of(self, groups: Iterable[Any] | None, rows: int) -> Floats:
        """Return the half-width of each row, (rows,)."""
        import numpy as np

        if groups is None or not self.of_group:
            return np.full(rows, self.of_all)
        return np.array([self.of_group.get(one, self.of_all) for one in groups], dtype=np.float64)


def widths(residuals: ArrayLike, groups: NDArray[Any] | None, declared: Intervals) -> Widths:
    """Return the half-widths that contain the declared share of residuals.

    Parameters
    ----------
    residuals
        Label minus prediction, for rows that the model was not fitted on, (n,).
    groups
        Group of each row, (n,); None for one width for all rows.
    declared
        Declaration of the intervals.

    Raises
    ------
    TrainingError
        There are too few residuals.
    """
    import numpy as np
    import pandas as pd

    size = np.abs(np.asarray(residuals, dtype=np.float64))
    if len(size) < declared.fewest:
        raise TrainingError(
            f"{len(size)} out-of-fold residuals are too few for prediction intervals; {declared.fewest} are required. "
            "Load more data"
        )
    of_all = _quantile(size, declared.level)
    if groups is None:
        return Widths(of_all, {})
    members = pd.Series(groups).groupby(groups, sort=True).indices
    return Widths(
        of_all,
        {
            key: _quantile(size[places], declared.level)
            for key, places in zip(map(_plain, members), members.values(), strict=True)
            if len(places) >= declared.fewest
        },
    )


def _plain(key: Any) -> Group:
    """Convert a NumPy value to a Python value, which an artefact can store."""
    plain: Group = key.item() if hasattr(key, "item") else key
    return plain


def _quantile(size: Floats, level: float) -> float:
    import numpy as np

    return float(np.sort(size)[_rank(len(size), level) - 1])


def _rank(rows: int, level: float) -> int:
    """Return the rank, from 1, of the residual to use as the half-width; above `rows` if there are too few rows."""
    # Round first, because a float product can be slightly above an integer, which would raise the rank by one.
    return math.ceil(round((rows + 1) * level, 9))
