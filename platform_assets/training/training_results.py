"""Results of training, evaluating and reproducing a model, as plain objects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame
    from platform_assets.evaluation.costs import Costs
    from platform_assets.evaluation.gate import Verdict
    from platform_assets.evaluation.intervals import Estimate
    from platform_assets.models.registry import ModelVersion
    from platform_assets.training.explanations import Explanation

SAME_SCORE = 1e-9
"""Largest difference between two scores that count as equal. Summation order changes the last bits."""
REPRODUCED_TAG = "reproduced_at"
"""Tag of a version: when `reproduce` last retrained it identically; empty if its last attempt differed."""
Subgroups = dict[str, dict[str, dict[str, "Estimate"]]]


@dataclass(frozen=True, eq=False)
class Assessment:
    """Evaluation of a model on examples that it was not fitted on.

    Attributes
    ----------
    estimates
        Metrics with intervals.
    subgroups
        Metrics with intervals, by column and subgroup.
    difference
        Challenger minus champion on the same examples; None if they were not compared.
    verdict
        Verdict of the quality gate.
    explanations
        Explanations of the model.
    errors
        Misclassified examples with the most extreme scores, by kind of error: their `error_columns` and scores.
        Empty if the model declares no `error_columns`.
    labels, scores
        Labels and scores of the examples, (n,) int64 and (n,) float64.
    threshold
        Decision threshold. Scores at or above it are flagged.
    costs
        Assumed costs of errors, if the model declares any.
    """

    estimates: Mapping[str, Estimate]
    subgroups: Subgroups
    difference: Mapping[str, Estimate] | None
    verdict: Verdict
    explanations: tuple[Explanation, ...]
    errors: Mapping[str, Frame]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    threshold: float
    costs: Costs | None = None

    @cached_property
    def plots(self) -> Mapping[str, bytes]:
        """Plots as PNG bytes, by file name. Drawn on first access, because drawing is slower than most fits."""
        from platform_assets.evaluation import classifier_plots

        examples = self.labels, self.scores, self.threshold
        return {
            "calibration.png": classifier_plots.calibration(self.labels, self.scores),
            "roc.png": classifier_plots.roc(self.labels, self.scores),
            "precision_recall.png": classifier_plots.precision_recall(*examples),
            "confusion.png": classifier_plots.confusion(*examples),
            **({"costs.png": classifier_plots.costs(*examples, self.costs)} if self.costs else {}),
            **{name: png for one in self.explanations for name, png in one.draw().items()},
            "scores.png": classifier_plots.score_distribution(*examples),
        }


@dataclass(frozen=True)
class Training:
    """Result of a training.

    Attributes
    ----------
    version
        Registered version.
    is_new
        True if the version was fitted now, False if it was found by its fingerprint.
    champion
        Current champion, if any.
    assessment
        Evaluation of the stored artefact on the holdout.
    record
        Record of the fit: leaderboard, parameters, split and metrics.
    first_table_rows
        Number of rows in the model's first table.
    demo
        Whether any input table holds sample data.
    """

    version: ModelVersion
    is_new: bool
    champion: ModelVersion | None
    assessment: Assessment
    record: Mapping[str, Any]
    first_table_rows: int
    demo: bool

    @cached_property
    def plots(self) -> Mapping[str, bytes]:
        """Plots of the evaluation, and of the learning curve if there is one: PNG bytes by file name."""
        return {**self.assessment.plots, **curve_plots(self.record)}


def curve_plots(record: Mapping[str, Any]) -> dict[str, bytes]:
    """Draw the learning curve of a training's record: PNG bytes by file name; empty without one."""
    from platform_assets.evaluation import learning_plots

    if not (curve := record.get("learning_curve")):
        return {}
    return {
        "learning_curve.png": learning_plots.learning_curve(curve["points"], curve["metric"]),
        "fit_times.png": learning_plots.fit_times(curve["points"]),
    }


@dataclass(frozen=True)
class Evaluation:
    """Result of evaluating a version on current examples.

    Attributes
    ----------
    version
        Evaluated version: the champion, or the newest version if there is no champion.
    examples
        Description of the examples.
    assessment
        Evaluation, without a comparison with another version.
    """

    version: ModelVersion
    examples: str
    assessment: Assessment


@dataclass(frozen=True)
class Reproduction:
    """Comparison of a version with its retrained model.

    Attributes
    ----------
    version
        Version that was reproduced.
    metrics
        Recorded and new value of each metric, by name.
    largest_difference
        Largest absolute difference between the two models' scores of a held-out row.
    rows
        Number of held-out rows.
    changed
        Changes since the version was trained: code, parameters and libraries.
    """

    version: ModelVersion
    metrics: Mapping[str, tuple[float | None, float | None]]
    largest_difference: float
    rows: int
    changed: tuple[str, ...]

    @property
    def other_metrics(self) -> list[str]:
        """Names of the holdout metrics that differ from the recorded ones."""
        return [name for name, (then, now) in self.metrics.items() if not _same(then, now)]

    @property
    def same(self) -> bool:
        """Whether all metrics and all scores of held-out rows are equal."""
        return not self.other_metrics and self.largest_difference <= SAME_SCORE

    def told(self) -> list[str]:
        """Return the report, line by line."""
        name = f"{self.version.name} version {self.version.version}"
        others = [
            f"{metric}: was {self.metrics[metric][0]}, is {self.metrics[metric][1]}" for metric in self.other_metrics
        ]
        return [
            *(f"changed since the training: {change}" for change in self.changed),
            f"largest difference between the scores of {self.rows:,} held-out rows: {self.largest_difference:.3g}",
            f"{len(self.metrics)} holdout metrics: {'; '.join(others) or 'all equal'}",
            f"{name} {'is reproduced' if self.same else 'is NOT reproduced'}",
        ]


def _same(then: float | None, now: float | None) -> bool:
    # An undefined metric is missing in the record and NaN in the new result.
    if then is None or now is None or math.isnan(now):
        return then is None and (now is None or math.isnan(now))
    return abs(then - now) <= SAME_SCORE
