"""What comes of training, evaluating and reproducing a model: plain results, for Dagster, commands and approval."""

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
    from platform_assets.evaluation.gate import Verdict
    from platform_assets.evaluation.intervals import Estimate
    from platform_assets.models.registry import ModelVersion
    from platform_assets.training.explanations import Explanation

SAME_SCORE = 1e-9
"""Scores that differ by less are the same: another order of additions moves the last bits."""
Subgroups = dict[str, dict[str, dict[str, "Estimate"]]]


@dataclass(frozen=True, eq=False)
class Assessment:
    """What a model showed on examples that it was not fitted on.

    Attributes
    ----------
    estimates
        Metrics with intervals.
    subgroups
        The same by column and value.
    difference
        Challenger minus champion on the same examples; None where there is no other champion.
    verdict
        Passed or failed, with every reason.
    explanations
        What shows by what the model goes.
    errors
        By kind of error, the examples about which the model is most surely wrong, in the columns that the model's
        declaration names, and their scores; empty where it names none.
    labels, scores
        Of the examples, (n,) int64 and (n,) float64.
    threshold
        Score from which an example is flagged.
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

    @cached_property
    def plots(self) -> Mapping[str, bytes]:
        """PNG bytes by file name; drawn when they are first asked for, which takes longer than most fits."""
        from platform_assets.evaluation import classifier_plots

        return {
            "calibration.png": classifier_plots.calibration(self.labels, self.scores),
            "roc.png": classifier_plots.roc(self.labels, self.scores),
            "precision_recall.png": classifier_plots.precision_recall(self.labels, self.scores, self.threshold),
            "confusion.png": classifier_plots.confusion(self.labels, self.scores, self.threshold),
            **{name: png for one in self.explanations for name, png in one.draw().items()},
            "scores.png": classifier_plots.score_distribution(self.labels, self.scores, self.threshold),
        }


@dataclass(frozen=True)
class Training:
    """What came of a training.

    Attributes
    ----------
    version
        The registered version.
    is_new
        Whether it was fitted now, or found by its fingerprint.
    champion
        The version that it was compared with.
    assessment
        Of the stored artefact, on the holdout.
    record
        What was recorded when the version was fitted: leaderboard, parameters, split, metrics.
    first_table_rows
        Rows of the model's first table.
    demo
        Whether some table holds sample data.
    """

    version: ModelVersion
    is_new: bool
    champion: ModelVersion | None
    assessment: Assessment
    record: Mapping[str, Any]
    first_table_rows: int
    demo: bool


@dataclass(frozen=True)
class Evaluation:
    """What a version of a model shows on today's examples.

    Attributes
    ----------
    version
        The version, the champion where there is one.
    examples
        Which examples: those labelled since it was trained, or the holdout where there are none.
    assessment
        What it showed; not compared with any other version.
    """

    version: ModelVersion
    examples: str
    assessment: Assessment


@dataclass(frozen=True)
class Reproduction:
    """A version beside the same training done again.

    Attributes
    ----------
    version
        The version.
    metrics
        By name, as recorded and as found now.
    largest_difference
        Between the two models' scores for any row of the holdout.
    rows
        Rows of the holdout.
    changed
        What is not as it was: code, libraries.
    """

    version: ModelVersion
    metrics: Mapping[str, tuple[float | None, float | None]]
    largest_difference: float
    rows: int
    changed: tuple[str, ...]

    @property
    def other_metrics(self) -> list[str]:
        """Metrics of the holdout that are not what they were."""
        return [name for name, (then, now) in self.metrics.items() if not _same(then, now)]

    @property
    def same(self) -> bool:
        """Whether metrics are what they were, and both models give every row of the holdout the same score."""
        return not self.other_metrics and self.largest_difference <= SAME_SCORE

    def told(self) -> list[str]:
        """For people, line by line."""
        name = f"{self.version.name} version {self.version.version}"
        others = [
            f"{metric}: {self.metrics[metric][0]} then, {self.metrics[metric][1]} now" for metric in self.other_metrics
        ]
        return [
            *(f"not as it was: {change}" for change in self.changed),
            f"scores of {self.rows:,} held-out rows: the largest difference is {self.largest_difference:.3g}",
            f"metrics of the holdout, {len(self.metrics)} numbers: {'; '.join(others) or 'all equal'}",
            f"{name} {'is reproduced' if self.same else 'is NOT reproduced'}",
        ]


def _same(then: float | None, now: float | None) -> bool:
    # What is undefined is not recorded.
    if then is None or now is None or math.isnan(now):
        return then is None and (now is None or math.isnan(now))
    return abs(then - now) <= SAME_SCORE
