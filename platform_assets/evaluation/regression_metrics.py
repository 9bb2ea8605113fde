"""Metrics of regression models: their definitions, and their computation from values, labels and intervals.

Bootstrap intervals and differences between two models are in `regression.py`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.metric_definitions import Metric
from platform_assets.evaluation.metrics import number_column

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

SKILL = "skill_over_"
"""Prefix of a metric that compares a model with a baseline. The rest of its name is the baseline's column."""
METRICS: Mapping[str, Metric] = {
    "mae": Metric("MAE", "Mean absolute error.", higher_is_better=False, in_unit=True),
    "rmse": Metric("RMSE", "Root of the mean squared error.", higher_is_better=False, in_unit=True),
    "mape": Metric(
        "MAPE",
        "Mean of the absolute error as a share of the label. Undefined if a label is 0; in that case, use WAPE.",
        "rows, or because a label is 0",
        higher_is_better=False,
    ),
    "wape": Metric(
        "WAPE",
        "Sum of the absolute errors as a share of the sum of the absolute labels.",
        "labels other than 0",
        higher_is_better=False,
    ),
    "bias": Metric("Bias", "Mean of prediction minus label. Above 0, predictions are too high.", in_unit=True),
    "r2": Metric(
        "R²",
        "Share of the variance of the labels that the model explains; 0 for a model that always predicts their mean.",
        "two different labels",
        higher_is_better=True,
    ),
    "interval_coverage": Metric(
        "Interval coverage", "Share of rows whose label lies within the prediction interval.", "prediction intervals"
    ),
    "interval_width": Metric(
        "Interval width",
        "Mean width of the prediction intervals. Compare it only between models with equal coverage.",
        "prediction intervals",
        higher_is_better=False,
        in_unit=True,
    ),
    "rows": Metric("Number of rows", "Rows evaluated; with weights, the sum of the weights.", "nothing"),
}
"""Definitions of all metrics of a regression model, by name, except its skill scores over baselines."""
SUBGROUP_METRICS = ("rows", "mae", "mape", "bias", "interval_coverage", "interval_width")
"""Metrics that are shown for each subgroup."""


def skill_named(name: str) -> Metric | None:
    """Return the definition of a skill score over a baseline, `skill_over_<baseline>`; None for any other name."""
    baseline = name.removeprefix(SKILL)
    if not baseline or baseline == name:
        return None
    return Metric(
        f"Skill over {baseline}",
        f"1 minus the ratio of the MAE to that of {baseline}, on the rows for which {baseline} is known. 0: no better "
        "than the baseline; 1: no error.",
        f"rows with {baseline}, or because its error is 0",
        higher_is_better=True,
        chance=0.0,
    )


class Errors:
    """Prediction errors of the rows. They are computed only once, and then weighted for each bootstrap resample.

    Parameters
    ----------
    labels
        Finite numbers, shape (n,).
    found
        Values, shape (n,); or values, lower and upper bounds of the prediction intervals, shape (n, 3).
    baselines
        Values of each baseline by name, shape (n,); NaN where a baseline is unknown.

    Raises
    ------
    TrainingError
        Shapes differ, or a label or value is not finite.
    """

    def __init__(
        self, labels: ArrayLike, found: NDArray[np.float64], baselines: Mapping[str, ArrayLike] | None = None
    ) -> None:
        import numpy as np

        truth = number_column("labels", labels)
        if found.shape not in ((len(truth),), (len(truth), 3)):
            raise TrainingError(f"there are {len(truth)} labels, but the predictions have shape {found.shape}")
        value = number_column("values", found if found.ndim == 1 else found[:, 0])
        for name, numbers in (("labels", truth), ("values", value)):
            if bad := int((~np.isfinite(numbers)).sum()):
                raise TrainingError(f"{bad} of {len(numbers)} {name} are NaN or infinite; pass finite numbers")
        self.truth, self.value = truth, value
        self.errors = value - truth
        self.has_zero = bool((truth == 0).any())
        self.has_intervals = found.ndim > 1
        # Centre the labels, because the squares of large labels would lose precision.
        centred = truth - truth.mean() if len(truth) else truth
        size = np.abs(self.errors)
        columns = {
            "rows": np.ones(len(truth)),
            "absolute": size,
            "squared": self.errors**2,
            "error": self.errors,
            "share": np.divide(size, np.abs(truth), out=np.zeros(len(truth)), where=truth != 0),
            "label": np.abs(truth),
            "centred": centred,
            "centred_squared": centred**2,
        }
        if self.has_intervals:
            low, high = number_column("lower ends", found[:, 1]), number_column("upper ends", found[:, 2])
            columns |= {"covered": (low <= truth) & (truth <= high), "width": high - low}
        self._baselines = tuple(baselines or ())
        for name, given in (baselines or {}).items():
            known = number_column(name, given)
            if len(known) != len(truth):
                raise TrainingError(f"there are {len(truth)} labels and {len(known)} values of {name}")
            there = np.isfinite(known)
            columns |= {f"of {name}": np.where(there, size, 0.0), name: np.abs(np.where(there, known - truth, 0.0))}
        self._names = list(columns)
        self._columns = np.column_stack([np.asarray(one, dtype=np.float64) for one in columns.values()])

    def __len__(self) -> int:
        return len(self.truth)

    def metrics(self, weights: Floats | None = None) -> dict[str, float]:
        """Compute all metrics. Undefined metrics are NaN. Without prediction intervals, interval metrics are omitted.

        Parameters
        ----------
        weights
            Row weights, 0 or above, shape (n,); None gives every row the weight 1.
        """
        summed = self._columns.sum(axis=0) if weights is None else weights @ self._columns
        total = dict(zip(self._names, summed.tolist(), strict=True))
        rows = total["rows"]
        spread = total["centred_squared"] - (total["centred"] ** 2 / rows if rows else 0.0)
        found = {
            "mae": _ratio(total["absolute"], rows),
            "rmse": math.sqrt(total["squared"] / rows) if rows else math.nan,
            "mape": math.nan if self.has_zero else _ratio(total["share"], rows),
            "wape": _ratio(total["absolute"], total["label"]),
            "bias": _ratio(total["error"], rows),
            "r2": 1 - total["squared"] / spread if spread > 0 else math.nan,
        }
        found |= {f"{SKILL}{name}": _skill(total[f"of {name}"], total[name]) for name in self._baselines}
        if self.has_intervals:
            found["interval_coverage"] = _ratio(total["covered"], rows)
            found["interval_width"] = _ratio(total["width"], rows)
        return found | {"rows": rows}


def _skill(own: float, baseline: float) -> float:
    return 1 - own / baseline if baseline else math.nan


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
