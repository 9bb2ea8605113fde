"""The task of a model: everything that depends on the type of its label.

`binary_classification.py` and `regression.py` implement the protocols in this module. All other code uses the
protocols, and never checks which task a model has. `models/outputs.py` defines the numbers that a fitted model returns
per row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from platform_assets.base.frames import Frame
    from platform_assets.evaluation.intervals import Estimate
    from platform_assets.evaluation.judged import Judged
    from platform_assets.evaluation.metric_definitions import Metric
    from platform_assets.evaluation.split_rules import SplitRule
    from platform_assets.models.outputs import Output

    Folds = Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Predictions for training examples by models that were fitted on other folds.

    Attributes
    ----------
    examples
        The examples with all their columns, (n,).
    labels
        Labels as the task converts them, (n,).
    raw
        Uncalibrated predictions from `Learner.raw`, (n,).
    fold
        Number of the fold whose test rows contain the example, counted from 0, (n,).
    group
        Column of the group key.
    """

    examples: Frame
    labels: NDArray[Any]
    raw: NDArray[np.float64]
    fold: NDArray[np.int64]
    group: str


class Calibrated(Protocol):
    """Calibration of a candidate, computed from its out-of-fold predictions."""

    @property
    def threshold(self) -> float | None:
        """Decision threshold; None if models of this task make no decisions."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """Metrics of the out-of-fold predictions for the leaderboard; undefined ones are NaN."""

    @property
    def told(self) -> str:
        """Short description of the result, for progress messages."""

    def complete(self, estimator: Any, names: Sequence[str]) -> Any:
        """Add the calibration or intervals to a fitted pipeline. `names` are the pipeline's input columns."""


class Learner(Protocol):
    """Fits models of a task. If its code changes, the training fingerprint changes."""

    @property
    def reference(self) -> str:
        """Leaderboard name of the no-feature baseline."""

    @property
    def output(self) -> Output:
        """Kind of output of the fitted models: a probability, or a value with an interval."""

    def build_reference(self) -> Any:
        """Return the unfitted no-feature baseline."""

    def demand_fittable(self, labels: NDArray[Any], parts: Folds) -> None:
        """Reject labels that are too uniform for training.

        Raises
        ------
        TrainingError
            The training examples of a fold lack a class, or all have the same label.
        """

    def raw(self, estimator: Any, rows: Any) -> NDArray[np.float64]:
        """Return the uncalibrated prediction of a fitted pipeline for each row, (n,)."""

    def calibrate(self, found: OutOfFold) -> Calibrated:
        """Calibrate a candidate on its out-of-fold predictions."""


class Task(Protocol):
    """A kind of model, with the parameters from the model's declaration."""

    @property
    def name(self) -> str:
        """Name of the task in records and artefacts."""

    @property
    def learner(self) -> Learner:
        """Fits the models."""

    @property
    def code(self) -> tuple[Callable[..., Any], ...]:
        """Functions and classes that training uses for this task. The training fingerprint covers their code."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Parameters that affect the model, as JSON values. The training fingerprint covers them."""

    @property
    def rankings(self) -> tuple[str, ...]:
        """Allowed values of `ModelSpec.ranked_by`: names of scikit-learn scorers."""

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Definitions of the metrics, by name."""

    @property
    def leaderboard_metrics(self) -> tuple[str, ...]:
        """Metrics of the leaderboard, on out-of-fold predictions."""

    @property
    def card_metrics(self) -> Mapping[str, str]:
        """Labels of the metrics that the model card shows for each subgroup, by metric name."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Additional columns of the examples that the task reads."""

    @property
    def outcome(self) -> str:
        """Meaning of a higher score."""

    @property
    def unit(self) -> str:
        """Unit of label and predictions; empty if there is none."""

    def demand_declarable(self, features: Sequence[str]) -> None:
        """Reject an inconsistent declaration.

        Raises
        ------
        TrainingError
            A parameter does not fit the model's features.
        """

    def labels(self, column: pd.Series[Any]) -> NDArray[Any]:
        """Convert labels, (n,).

        Raises
        ------
        TrainingError
            A label is missing or invalid for this task; the message begins with the number of these labels.
        """

    def label_fault(self, label: float) -> str | None:
        """Return the reason why an observed label is invalid for this task; None if it is valid."""

    def too_few(self, labels: NDArray[Any]) -> str | None:
        """Return the reason why the observed labels are too few for an evaluation; None if they are enough."""

    def told_labels(self, labels: NDArray[Any]) -> str:
        """Summarise observed labels in a few words; may be empty."""

    def evaluate(self, judged: Judged, resamples: int) -> dict[str, Estimate]:
        """Compute the metrics, each with a 95 % interval."""

    def compare(self, challenger: Judged, champion: Judged, resamples: int) -> dict[str, Estimate]:
        """Compute the paired differences of the metrics, challenger minus champion, with 95 % intervals."""

    def by_subgroup(self, judged: Judged, values: ArrayLike, resamples: int) -> dict[str, dict[str, Estimate]]:
        """Compute the metrics for each subgroup; `values` contains the subgroup of each row, (n,)."""

    def worst(self, judged: Judged, most: int) -> dict[str, NDArray[np.int64]]:
        """Return the indices of the worst predictions by kind of error, at most `most` each, worst first."""

    def facts(self, judged: Judged) -> dict[str, Any]:
        """Return additional numbers for the record, as JSON values."""

    def told_facts(self, record: Mapping[str, Any]) -> dict[str, str]:
        """Return paragraphs of the model card about the numbers from `facts`, with their titles as keys."""

    def plots(self, judged: Judged, split: SplitRule) -> dict[str, bytes]:
        """Draw the plots and return them as PNG bytes by file name."""
