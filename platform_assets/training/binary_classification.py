"""The task of a model whose label is 0 or 1: a calibrated probability, and a decision by a threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation import binary_classification as classifiers
from platform_assets.evaluation.binary_classification import measure
from platform_assets.evaluation.metrics import METRICS
from platform_assets.models.outputs import PROBABILITY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from platform_assets.evaluation.costs import Costs
    from platform_assets.evaluation.intervals import Estimate
    from platform_assets.evaluation.judged import Judged
    from platform_assets.evaluation.metric_definitions import Metric
    from platform_assets.evaluation.split_rules import SplitRule
    from platform_assets.evaluation.thresholds import ThresholdRule
    from platform_assets.models.outputs import Output
    from platform_assets.training.tasks import Folds, OutOfFold

LEADERBOARD_METRICS = ("recall", "precision", "f2", "roc_auc", "average_precision", "brier")
"""Leaderboard metrics. They are computed on a candidate's out-of-fold scores at its own threshold."""
RANKINGS = (
    "accuracy",
    "average_precision",
    "balanced_accuracy",
    "d2_brier_score",
    "d2_log_loss_score",
    "f1",
    "jaccard",
    "matthews_corrcoef",
    "neg_brier_score",
    "neg_log_loss",
    "precision",
    "recall",
    "roc_auc",
)
"""scikit-learn scorers for binary classifiers.

The names are listed here, so that a declaration can be checked without importing scikit-learn.
"""
REFERENCE = "always the base rate"
"""Leaderboard name of the no-feature baseline, which always predicts the base rate."""
FEWEST_OF_A_CLASS = 20
"""Minimum number of newly labelled examples per class for an evaluation."""


@dataclass(frozen=True, eq=False)
class Sigmoid:
    """The calibration of a candidate, and its decision threshold.

    Attributes
    ----------
    slope, intercept
        Parameters of the calibrating sigmoid, fitted on the out-of-fold scores. A slope of 0 predicts the base rate.
    threshold
        Threshold that the model's rule chooses on the calibrated out-of-fold scores.
    metrics
        `LEADERBOARD_METRICS` at this threshold.
    rule
        The rule as a sentence.
    """

    slope: float
    intercept: float
    threshold: float
    metrics: Mapping[str, float]
    rule: str

    @property
    def told(self) -> str:
        """Threshold and rule as text, for progress messages."""
        flat = "" if self.slope else "calibration slope is not positive; predicting the base rate for every row; "
        return f"{flat}threshold {self.threshold:.4f}. {self.rule}"

    def complete(self, estimator: Any, names: Sequence[str]) -> Any:  # noqa: ARG002 - the signature of all tasks
        """Return the fitted pipeline followed by the calibrating sigmoid."""
        from platform_assets.models.calibration import CalibratedEstimator

        return CalibratedEstimator(estimator, self.slope, self.intercept)


class ClassifierLearner:
    """Fits a calibrating sigmoid to out-of-fold scores, and chooses the decision threshold by a rule.

    Parameters
    ----------
    rule
        Rule for the decision threshold.
    positive
        Name of the positive class.
    """

    reference = REFERENCE
    output: Output = PROBABILITY

    def __init__(self, rule: ThresholdRule, positive: str) -> None:
        self._rule = rule
        self._positive = positive

    def build_reference(self) -> Any:
        """Return a classifier that always predicts the base rate."""
        from sklearn.dummy import DummyClassifier

        return DummyClassifier(strategy="prior")

    def demand_fittable(self, labels: NDArray[Any], parts: Folds) -> None:
        """Require both classes in the training and the test examples of every fold."""
        for indices in (indices for fold in parts for indices in fold):
            positives = int(labels[indices].sum())
            if not 0 < positives < len(indices):
                raise TrainingError(
                    f"one of {len(parts)} folds has {positives} positives among {len(indices)} examples, but each fold "
                    f"needs both classes. In total, {int(labels.sum())} of {len(labels)} training examples are "
                    f"{self._positive}; load more data"
                )

    def raw(self, estimator: Any, rows: Any) -> NDArray[np.float64]:
        """Return the values of the decision function; without one, the probabilities of the positive class."""
        from platform_assets.models.calibration import raw_scores

        return raw_scores(estimator, rows)

    def calibrate(self, found: OutOfFold) -> Sigmoid:
        """Fit the sigmoid and choose the threshold."""
        from platform_assets.models.calibration import sigmoid

        slope, intercept = _calibration(found.raw, found.labels)
        scores = sigmoid(found.raw, slope, intercept)
        threshold = self._rule.choose(found.labels, scores)
        metrics = measure(found.labels, scores, threshold)
        numbers = {name: metrics[name] for name in LEADERBOARD_METRICS}
        return Sigmoid(slope, intercept, threshold, numbers, self._rule.description)


@dataclass(frozen=True)
class BinaryClassification:
    """The label is 0 or 1, and the model gives the probability of 1.

    Attributes
    ----------
    positive
        Name of the positive class, label 1.
    threshold
        Rule for the decision threshold.
    costs
        Assumed costs of errors, which are reported and plotted; None if they are unknown.
    """

    positive: str
    threshold: ThresholdRule
    costs: Costs | None = None

    name = "binary_classification"
    rankings = RANKINGS
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    leaderboard_metrics = LEADERBOARD_METRICS
    columns: ClassVar[tuple[str, ...]] = ()
    unit = ""

    @property
    def card_metrics(self) -> Mapping[str, str]:
        """Labels of the metrics that the model card shows for each subgroup, by metric name."""
        return {"roc_auc": "ROC AUC", "recall": "recall", "precision": "precision", "flagged": "share flagged"}

    @property
    def learner(self) -> ClassifierLearner:
        """Calibration and threshold."""
        return ClassifierLearner(self.threshold, self.positive)

    @property
    def code(self) -> tuple[Callable[..., Any], ...]:
        """Code of the learner, the evaluation and the threshold rule, for the training fingerprint."""
        return ClassifierLearner, classifiers.evaluate, self.threshold.choose

    @property
    def identity(self) -> Mapping[str, Any]:
        """Name and parameters of the threshold rule, for the training fingerprint."""
        return {"threshold": [self.threshold.name, dict(self.threshold.parameters)]}

    @property
    def outcome(self) -> str:
        """The positive class."""
        return self.positive

    def demand_declarable(self, features: Sequence[str]) -> None:
        """Accept all features."""

    def labels(self, column: pd.Series[Any]) -> NDArray[np.int64]:
        """Return the labels as int64, (n,)."""
        if strange := int((~column.isin([0, 1])).sum()):
            raise TrainingError(f"in {strange} examples, {column.name} is neither 0 nor 1; drop them")
        return column.to_numpy(dtype="int64")

    def label_fault(self, label: float) -> str | None:
        """Return an error if the label is neither 0 nor 1; None if it is valid."""
        if label in (0, 1):
            return None
        return f"the label is {label:g}; send 0 or 1, where 1 is the positive class"

    def too_few(self, labels: NDArray[Any]) -> str | None:
        """Return the requirement if a class has fewer than `FEWEST_OF_A_CLASS` labels; None if it is met."""
        positives = int(labels.sum())
        if min(positives, len(labels) - positives) >= FEWEST_OF_A_CLASS:
            return None
        return f"{FEWEST_OF_A_CLASS} of each class are required"

    def told_labels(self, labels: NDArray[Any]) -> str:
        """Return the number of positive labels as text."""
        return f"{int(labels.sum()):,} {self.positive}"

    def evaluate(self, judged: Judged, resamples: int) -> dict[str, Estimate]:
        """Compute all metrics at the threshold."""
        return classifiers.evaluate(
            judged.labels, judged.scores, judged.groups, _threshold(judged), resamples=resamples
        )

    def compare(self, challenger: Judged, champion: Judged, resamples: int) -> dict[str, Estimate]:
        """Compute the metrics of the challenger minus those of the champion, each model at its own threshold."""
        ours, theirs = ((one.scores, _threshold(one)) for one in (challenger, champion))
        return classifiers.compare(challenger.labels, challenger.groups, ours, theirs, resamples=resamples)

    def by_subgroup(self, judged: Judged, values: ArrayLike, resamples: int) -> dict[str, dict[str, Estimate]]:
        """Compute all metrics for each subgroup."""
        return classifiers.by_subgroup(
            judged.labels, judged.scores, judged.groups, _threshold(judged), values, resamples=resamples
        )

    def worst(self, judged: Judged, most: int) -> dict[str, NDArray[np.int64]]:
        """Return the misclassified rows with the most extreme scores."""
        false_alarms, missed = classifiers.most_wrong(judged.labels, judged.scores, _threshold(judged), most)
        return {"false_alarms": false_alarms, "missed": missed}

    def facts(self, judged: Judged) -> dict[str, Any]:
        """Return the costs of errors, if the declaration assumes any."""
        if self.costs is None:
            return {}
        return {"costs": self.costs.found(judged.labels, judged.scores, _threshold(judged))}

    def told_facts(self, record: Mapping[str, Any]) -> dict[str, str]:
        """Return the model card's paragraph about costs, with its title as key; empty without assumed costs."""
        costs = record.get("costs")
        if not costs:
            return {}
        lowest = costs["lowest_at"]
        at = "if nothing is flagged" if lowest is None else f"at a threshold of {lowest:.3g}"
        return {
            "Costs": f"Assumption: a missed positive costs as much as {costs['missed']:g} false alarms. {costs['why']} "
            f"On the holdout, the errors at the threshold cost as much as {costs['per_100_rows']:.3g} false alarms "
            f"per 100 examples. The lowest cost would be {costs['lowest_per_100_rows']:.3g}, {at}."
        }

    def plots(self, judged: Judged, split: SplitRule) -> dict[str, bytes]:  # noqa: ARG002 - the signature of all tasks
        """Draw the plots of a classifier."""
        from platform_assets.evaluation import classifier_plots

        labels, scores = judged.labels, judged.scores
        examples = labels, scores, _threshold(judged)
        return {
            "calibration.png": classifier_plots.calibration(labels, scores),
            "roc.png": classifier_plots.roc(labels, scores),
            "precision_recall.png": classifier_plots.precision_recall(*examples),
            "confusion.png": classifier_plots.confusion(*examples),
            **({"costs.png": classifier_plots.costs(*examples, self.costs)} if self.costs else {}),
            "scores.png": classifier_plots.score_distribution(*examples),
        }


def _threshold(judged: Judged) -> float:
    """Return the threshold, or NaN if there is none. Evaluations reject NaN."""
    return math.nan if judged.threshold is None else judged.threshold


def _calibration(raw: NDArray[np.float64], truth: NDArray[np.int64]) -> tuple[float, float]:
    """Fit the slope and intercept of the calibrating sigmoid on out-of-fold scores."""
    import numpy as np
    from scipy.special import logit
    from sklearn.linear_model import LogisticRegression

    # Use no penalty, because only two parameters are fitted on hundreds of examples.
    line = LogisticRegression(C=np.inf).fit(raw[:, None], truth)
    slope, intercept = float(line.coef_[0, 0]), float(line.intercept_[0])
    # Predict the base rate instead of using a negative slope, which would reverse the order of the scores.
    return (slope, intercept) if slope > 0 else (0.0, float(logit(truth.mean())))
