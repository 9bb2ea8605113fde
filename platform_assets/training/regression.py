"""Regression: the task of models that predict a number, with a prediction interval."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation import regression
from platform_assets.evaluation.conformal import Intervals, Widths, widths
from platform_assets.evaluation.judged import Judged
from platform_assets.evaluation.regression_metrics import METRICS, SKILL, skill_named
from platform_assets.models.outputs import INTERVAL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from platform_assets.evaluation.intervals import Estimate
    from platform_assets.evaluation.metric_definitions import Metric
    from platform_assets.evaluation.split_rules import SplitRule
    from platform_assets.models.outputs import Output
    from platform_assets.training.tasks import Folds, OutOfFold

RANKINGS = (
    "neg_mean_absolute_error",
    "neg_mean_absolute_percentage_error",
    "neg_mean_squared_error",
    "neg_median_absolute_error",
    "neg_root_mean_squared_error",
    "r2",
)
"""scikit-learn scorers for regression. They are listed here to check declarations without importing scikit-learn."""
REFERENCE = "always the mean"
"""Leaderboard name of the no-feature baseline, which always predicts the mean."""
FEWEST = 20
"""Minimum number of newly labelled examples for an evaluation."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """The prediction intervals of a candidate.

    Attributes
    ----------
    intervals
        Declaration of the intervals.
    widths
        Half-widths of the intervals, computed from the out-of-fold residuals.
    metrics
        Metrics of the out-of-fold predictions.
    """

    intervals: Intervals
    widths: Widths
    metrics: Mapping[str, float]
    threshold: None = None

    @property
    def told(self) -> str:
        """Describe the level and half-width of the intervals."""
        by = f", by {self.intervals.by}" if self.intervals.by else ""
        return f"{self.intervals.level:.0%} intervals of ± {self.widths.of_all:,.4g}{by}"

    def complete(self, estimator: Any, names: Sequence[str]) -> Any:
        """Return the fitted pipeline with its prediction intervals."""
        from platform_assets.models.interval_regressor import IntervalRegressor

        groups = list(self.widths.of_group)
        half_widths = [self.widths.of_group[group] for group in groups]
        return IntervalRegressor(
            estimator, list(names), self.intervals.by, groups, half_widths, half_width=self.widths.of_all
        )


class RegressionLearner:
    """Computes prediction intervals from out-of-fold residuals.

    Parameters
    ----------
    intervals
        Declaration of the prediction intervals.
    baselines
        Columns with the values of baselines.
    """

    reference = REFERENCE
    output: Output = INTERVAL

    def __init__(self, intervals: Intervals, baselines: tuple[str, ...]) -> None:
        self._intervals = intervals
        self._baselines = baselines

    def build_reference(self) -> Any:
        """Return a regressor that always predicts the mean."""
        from sklearn.dummy import DummyRegressor

        return DummyRegressor()

    def demand_fittable(self, labels: NDArray[Any], parts: Folds) -> None:
        """Require two different labels in the training examples of every fold."""
        for number, (training, _) in enumerate(parts, 1):
            if len(set(labels[training].tolist())) < 2:  # noqa: PLR2004 - a constant teaches nothing
                raise TrainingError(
                    f"the {len(training)} training examples of fold {number} of {len(parts)} all have the same label; "
                    "load more data"
                )

    def raw(self, estimator: Any, rows: Any) -> NDArray[np.float64]:
        """Return the predicted values.

        Raises
        ------
        TrainingError
            A value is NaN or infinite.
        """
        import numpy as np

        values = np.asarray(estimator.predict(rows), dtype=np.float64)
        if bad := int((~np.isfinite(values)).sum()):
            raise TrainingError(f"{estimator} predicts {bad} of {len(values)} values as NaN or infinite")
        return values

    def calibrate(self, found: OutOfFold) -> Calibration:
        """Compute the half-widths of the intervals from all residuals, and compute the metrics.

        The coverage of a fold is measured with half-widths from earlier folds only. Half-widths from the fold's own
        residuals would overstate the coverage.
        """
        residuals = found.labels - found.raw
        by = self._intervals.by
        groups = None if by is None else found.examples[by].to_numpy()
        bounds = self._bounds(found, residuals, groups)
        metrics = regression.errors_of(
            Judged(found.examples, found.group, found.labels, found.raw), self._baselines
        ).metrics()
        later = found.fold > 0
        honest = Judged(found.examples, found.group, found.labels, bounds).only(later)
        of_intervals = regression.errors_of(honest, ()).metrics()
        metrics |= {name: of_intervals[name] for name in ("interval_coverage", "interval_width")}
        return Calibration(self._intervals, widths(residuals, groups, self._intervals), metrics)

    def _bounds(self, found: OutOfFold, residuals: NDArray[np.float64], groups: Any) -> NDArray[np.float64]:
        """Return the predicted value and both ends of its interval for each row, (n, 3).

        The intervals of a fold use the residuals of earlier folds.
        """
        import numpy as np

        half = np.zeros(len(residuals))
        for fold in range(1, int(found.fold.max()) + 1):
            before, here = found.fold < fold, found.fold == fold
            known = widths(residuals[before], None if groups is None else groups[before], self._intervals)
            half[here] = known.of(None if groups is None else groups[here], int(here.sum()))
        return np.column_stack([found.raw, found.raw - half, found.raw + half])


@dataclass(frozen=True)
class Regression:
    """The label is a number, and the model gives a value with a prediction interval.

    Attributes
    ----------
    unit
        Unit of the label, such as `MW`.
    intervals
        Prediction intervals. If `by` is set, it must name one of the model's features.
    baselines
        Columns of the examples with simple forecasts, such as the value a week earlier. For each column, the metric
        `skill_over_<column>` compares the model with this forecast.
    """

    unit: str
    intervals: Intervals = field(default_factory=Intervals)
    baselines: tuple[str, ...] = ()

    name = "regression"
    rankings = RANKINGS

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Definitions of the metrics, and of the skill over each baseline."""
        skills = {f"{SKILL}{name}": skill_named(f"{SKILL}{name}") for name in self.baselines}
        return {**METRICS, **{name: skill for name, skill in skills.items() if skill}}

    @property
    def leaderboard_metrics(self) -> tuple[str, ...]:
        """Names of the metrics in the leaderboard: errors, skills and coverage."""
        skills = (f"{SKILL}{name}" for name in self.baselines)
        return ("mae", "rmse", "mape", "bias", *skills, "interval_coverage", "interval_width")

    @property
    def card_metrics(self) -> Mapping[str, str]:
        """Labels of the metrics that the model card shows for each subgroup, by metric name."""
        return {"mae": f"MAE in {self.unit}", "mape": "MAPE", "bias": "bias", "interval_coverage": "interval coverage"}

    @property
    def columns(self) -> tuple[str, ...]:
        """The baselines."""
        return self.baselines

    @property
    def learner(self) -> RegressionLearner:
        """Prediction intervals."""
        return RegressionLearner(self.intervals, self.baselines)

    @property
    def code(self) -> tuple[Callable[..., Any], ...]:
        """Code of the learner and the evaluation, for the training fingerprint."""
        return RegressionLearner, regression.evaluate

    @property
    def identity(self) -> Mapping[str, Any]:
        """Parameters of intervals and baselines, for the training fingerprint."""
        return {"intervals": asdict(self.intervals), "baselines": list(self.baselines)}

    @property
    def outcome(self) -> str:
        """Meaning of a higher score: the predicted value is higher."""
        return "a higher value"

    def demand_declarable(self, features: Sequence[str]) -> None:
        """Reject an `Intervals.by` that is not a feature of the model."""
        by = self.intervals.by
        if by is not None and by not in features:
            raise TrainingError(
                f"Intervals.by is {by}, but must be a feature of the model, because the width of an interval depends "
                f"on the value of this feature. Use one of: {', '.join(features)}"
            )

    def labels(self, column: pd.Series[Any]) -> NDArray[np.float64]:
        """Return the labels as float64, (n,)."""
        import numpy as np
        import pandas as pd

        kind = column.dtype
        if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind):
            raise TrainingError(f"in all {len(column)} examples, {column.name} has the type {kind}, not a number")
        labels = column.to_numpy(dtype=np.float64, na_value=np.nan)
        if strange := int((~np.isfinite(labels)).sum()):
            raise TrainingError(f"in {strange} examples, {column.name} is missing or infinite; drop them")
        return labels

    def label_fault(self, label: float) -> str | None:
        """Return an error if the label is not finite; None if it is valid."""
        return None if math.isfinite(label) else f"the label is {label:g}; send a finite number in {self.unit}"

    def too_few(self, labels: NDArray[Any]) -> str | None:
        """Return the requirement if there are fewer than `FEWEST` labels; None if it is met."""
        return None if len(labels) >= FEWEST else f"{FEWEST} are required"

    def told_labels(self, labels: NDArray[Any]) -> str:
        """Return the mean of the labels as text."""
        return f"{labels.mean():,.4g} {self.unit} on average" if len(labels) else ""

    def evaluate(self, judged: Judged, resamples: int) -> dict[str, Estimate]:
        """Compute all metrics."""
        return regression.evaluate(judged, self.baselines, resamples=resamples)

    def compare(self, challenger: Judged, champion: Judged, resamples: int) -> dict[str, Estimate]:
        """Compute the metrics of the challenger minus those of the champion."""
        return regression.compare(challenger, champion, self.baselines, resamples=resamples)

    def by_subgroup(self, judged: Judged, values: ArrayLike, resamples: int) -> dict[str, dict[str, Estimate]]:
        """Compute all metrics for each subgroup."""
        return regression.by_subgroup(judged, self.baselines, values, resamples=resamples)

    def worst(self, judged: Judged, most: int) -> dict[str, NDArray[np.int64]]:
        """Return the rows with the largest errors."""
        too_high, too_low = regression.most_wrong(judged, most)
        return {"too_high": too_high, "too_low": too_low}

    def facts(self, judged: Judged) -> dict[str, Any]:  # noqa: ARG002 - the signature of all tasks
        """Return the unit of the labels and the level of the intervals, which pages show."""
        return {"unit": self.unit, "interval_level": self.intervals.level}

    def told_facts(self, record: Mapping[str, Any]) -> dict[str, str]:
        """Return the model card's paragraph about prediction intervals, with its title as key."""
        by = f" for each {self.intervals.by}" if self.intervals.by else ""
        return {
            "Prediction intervals": f"{record['interval_level']:.0%} of the labels should lie within the intervals. "
            f"The widths{by} are quantiles of the residuals in cross-validation (split conformal prediction)."
        }

    def plots(self, judged: Judged, split: SplitRule) -> dict[str, bytes]:
        """Draw the plots of a regression model."""
        from platform_assets.evaluation.regression_plots import draw

        return draw(judged, self.unit, self.intervals, getattr(split, "time", None))
