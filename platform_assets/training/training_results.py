"""Results of training, evaluating and reproducing a model, as plain objects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from platform_assets.base.frames import Frame
    from platform_assets.evaluation.gate import Verdict
    from platform_assets.evaluation.intervals import Estimate
    from platform_assets.evaluation.judged import Judged
    from platform_assets.models.registry import ModelVersion
    from platform_assets.training.explanations import Explanation
    from platform_assets.training.model_spec import ModelSpec

SAME_SCORE = 1e-9
"""Largest difference between two scores that count as equal, in units of `Output.scale`.

Scores are not compared exactly, because the order of a summation affects the last bits.
"""
REPRODUCED_TAG = "reproduced_at"
"""Tag of a version: the time of the last `reproduce` if the retrained model was identical, and empty if it differed."""
Subgroups = dict[str, dict[str, dict[str, "Estimate"]]]


@dataclass(frozen=True, eq=False)
class Assessment:
    """Evaluation of a model on examples that it was not fitted on.

    Attributes
    ----------
    spec
        Declaration of the model.
    judged
        The examples with their labels and the model's output.
    estimates
        Metrics with intervals.
    subgroups
        Metrics with intervals, by column and subgroup.
    difference
        Differences of the metrics, challenger minus champion on the same examples; None if they were not compared.
    verdict
        Verdict of the quality gate.
    explanations
        Explanations of the model.
    errors
        Examples with the worst predictions, by kind of error: their `error_columns` and scores. Empty if the model
        declares no `error_columns`.
    """

    spec: ModelSpec
    judged: Judged
    estimates: Mapping[str, Estimate]
    subgroups: Subgroups
    difference: Mapping[str, Estimate] | None
    verdict: Verdict
    explanations: tuple[Explanation, ...]
    errors: Mapping[str, Frame]

    @cached_property
    def plots(self) -> Mapping[str, bytes]:
        """Plots as PNG bytes, by file name. Drawn on first access, because drawing is slower than most fits."""
        drawn = self.spec.task.plots(self.judged, self.spec.split)
        return drawn | {name: png for one in self.explanations for name, png in one.draw().items()}


@dataclass(frozen=True)
class Training:
    """Result of a training run.

    Attributes
    ----------
    version
        Registered version.
    is_new
        True if the version was fitted now, False if a version with the same fingerprint existed.
    champion
        Current champion, if any.
    assessment
        Evaluation of the stored artefact on the holdout.
    record
        Record of the fit: leaderboard, parameters, split and metrics.
    first_table_rows
        Number of rows in the model's first table.
    demo
        Whether any input table contains sample data.
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
    """Return plots of the learning curve in the record of a fit, as PNG bytes by file name.

    Without a learning curve, the result is empty.
    """
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
        Largest absolute difference between the two models' outputs for a held-out row.
    rows
        Number of held-out rows.
    changed
        Changes since the version was trained: code, parameters and libraries.
    scale
        Scale of the scores; see `Output.scale`.
    """

    version: ModelVersion
    metrics: Mapping[str, tuple[float | None, float | None]]
    largest_difference: float
    rows: int
    changed: tuple[str, ...]
    scale: float = 1.0

    @property
    def other_metrics(self) -> list[str]:
        """Names of the holdout metrics that differ from the recorded metrics."""
        return [name for name, (then, now) in self.metrics.items() if not _same(then, now)]

    @property
    def same(self) -> bool:
        """Whether all metrics and all scores of held-out rows are equal."""
        return not self.other_metrics and self.largest_difference <= SAME_SCORE * self.scale

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
    return math.isclose(then, now, rel_tol=SAME_SCORE, abs_tol=SAME_SCORE)
