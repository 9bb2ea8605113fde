"""Examples with their labels and predictions: the input of every evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame

UNKNOWN = "unknown"
"""Subgroup name for rows with a missing value."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Examples that a model was not fitted on, and the predictions of the model.

    Attributes
    ----------
    examples
        One row per example, with the group and the additional columns that the task reads.
    group
        Name of the column with the group keys; bootstrap intervals resample whole groups.
    labels
        Labels as converted by the task, shape (n,).
    found
        The model's output: shape (n,) for one number per row; shape (n, 3) for the value and both ends of its interval.
    threshold
        Decision threshold; None for a model that makes no decision.
    """

    examples: Frame
    group: str
    labels: NDArray[Any]
    found: NDArray[np.float64]
    threshold: float | None = None

    @property
    def groups(self) -> pd.Series[Any]:
        """Group key of each row, (n,)."""
        column: pd.Series[Any] = self.examples[self.group]
        return column

    @property
    def scores(self) -> NDArray[np.float64]:
        """The prediction for each row, without its interval: a probability or a value, shape (n,)."""
        return self.found if self.found.ndim == 1 else self.found[:, 0]

    def only(self, rows: NDArray[Any]) -> Judged:
        """Return some of the rows, chosen by a mask or by indices."""
        import numpy as np

        places = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return replace(self, examples=self.examples.iloc[places], labels=self.labels[places], found=self.found[places])


def subgroup_rows(values: Any) -> dict[str, NDArray[np.int64]]:
    """Return the row indices of each subgroup, in order of name. Rows with a missing value are in `UNKNOWN`."""
    import numpy as np
    import pandas as pd

    column: pd.Series[Any] = pd.Series(values)
    names = [UNKNOWN if missing else _name(one) for one, missing in zip(column, column.isna(), strict=True)]
    return {name: np.flatnonzero([one == name for one in names]) for name in sorted(set(names))}


def _name(value: Any) -> str:
    # Convert floats back to integers, because pandas stores an integer column with missing values as floats.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
