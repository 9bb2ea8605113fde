"""What each metric means: its name in a sentence, how it is computed, and which direction is better.

The values are computed by the module of the task (`binary_classification.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.base.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Metric:
    """What a metric means.

    Attributes
    ----------
    label
        Its name in a sentence.
    description
        How it is computed; what is not said there is as in scikit-learn.
    needs
        Without what it is undefined, i.e. NaN.
    higher_is_better
        None where neither direction is better.
    chance
        What drawing lots reaches, where that is the same for all data.
    """

    label: str
    description: str
    needs: str = "rows"
    higher_is_better: bool | None = None
    chance: float | None = None


_POSITIVES = "positive rows"
METRICS: Mapping[str, Metric] = {
    "roc_auc": Metric(
        "ROC AUC",
        "Probability that a positive row scores above a negative one; a tie counts one half.",
        "rows of both classes",
        higher_is_better=True,
        chance=0.5,
    ),
    "average_precision": Metric(
        "Average precision",
        "Area under the curve of precision over recall, as a sum of steps; chance reaches the base rate.",
        _POSITIVES,
        higher_is_better=True,
    ),
    "base_rate": Metric("Base rate", "Share of positive rows."),
    "brier": Metric(
        "Brier score",
        "Mean squared difference between score and label.",
        higher_is_better=False,
    ),
    "calibration_error": Metric(
        "Calibration error",
        "Expected calibration error: rows in ten bins of equal size by score, the absolute difference between mean "
        "score and share of positives in each, averaged by rows. Rows of one score share a bin, that of their middle. "
        "Chance alone makes it larger than 0. Naeini, Cooper and Hauskrecht (AAAI 2015); bins of equal size as in "
        "Nguyen and O'Connor (EMNLP 2015).",
        higher_is_better=False,
    ),
    "recall": Metric(
        "Recall", "Share of the positive rows whose score reaches the threshold.", _POSITIVES, higher_is_better=True
    ),
    "precision": Metric(
        "Precision", "Share of positive rows among the flagged ones.", "flagged rows", higher_is_better=True
    ),
    "f1": Metric(
        "F1",
        "Harmonic mean of recall and precision; 0 where no positive row is flagged.",
        _POSITIVES,
        higher_is_better=True,
    ),
    "accuracy": Metric("Accuracy", "Share of rows flagged if positive, and only then.", higher_is_better=True),
    "lift_top_decile": Metric(
        "Lift of the top decile",
        "Share of positives among the tenth of the rows with the highest scores, over the base rate. Of rows that tie "
        "at its border, each counts in part.",
        _POSITIVES,
        higher_is_better=True,
        chance=1.0,
    ),
    "flagged": Metric("Share flagged", "Share of rows whose score reaches the threshold."),
    "rows": Metric("Number of rows", "Rows judged; with weights, their sum.", "nothing"),
    "positives": Metric("Number of positive rows", "Rows labelled 1; with weights, their sum.", "nothing"),
}
"""What is measured of a model, by name."""


def metric_named(name: str) -> Metric:
    """Return what a metric means.

    Raises
    ------
    TrainingError
        There is no such metric.
    """
    if name not in METRICS:
        raise TrainingError(f"there is no metric {name}; there are {', '.join(METRICS)}")
    return METRICS[name]
