"""The output of a fitted model: the numbers that it returns per row, by task.

An artefact contains the name of its output. Artefacts that older versions wrote do not contain it, and are
binary classifiers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from platform_assets.base.errors import ArtefactError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


class Output(Protocol):
    """The output of the models of one task."""

    @property
    def name(self) -> str:
        """Name of the task."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the numbers returned for each row. The first is the main number."""

    @property
    def score_range(self) -> tuple[float, float] | None:
        """Range of the main number; None if it is unlimited."""

    @property
    def method(self) -> str:
        """Name of the estimator's method that MLflow's copy of the model calls."""

    def ask(self, estimator: Any, vectors: Any) -> Floats:
        """Return the output of an estimator: (n,) for one column, else (n, columns)."""

    def scale(self, expected: Floats) -> float:
        """Return the factor by which to multiply the tolerance when an output is compared with `expected`."""

    def demand_threshold(self, threshold: float | None) -> None:
        """Reject a threshold that does not fit the output.

        Raises
        ------
        ArtefactError
            The threshold is missing, superfluous or out of range.
        """

    def decide(self, found: Floats, threshold: float | None) -> NDArray[np.bool_] | None:
        """Return the decision for each row, (n,); None if models of this task make no decisions."""

    def outcomes(self, found: Floats, threshold: float | None) -> Mapping[str, int]:
        """Return the number of rows with each outcome."""

    def agrees(
        self, found: Floats, threshold: float | None, other: Floats, other_thresholds: Sequence[float | None]
    ) -> NDArray[np.bool_]:
        """Compare with another model of the same task: return True for each row on which the models agree, (n,).

        Parameters
        ----------
        found, threshold
            Output of this model, and its threshold.
        other, other_thresholds
            Main number from the other model, (n,), and the other model's threshold, for each row.
        """


class ProbabilityOutput:
    """The probability of the positive class, `score`. The decision is positive if it reaches the threshold."""

    name = "binary_classification"
    columns = ("score",)
    score_range = (0.0, 1.0)
    method = "predict_proba"

    def ask(self, estimator: Any, vectors: Any) -> Floats:
        """Return the probabilities of the positive class, (n,)."""
        scores: Floats = estimator.predict_proba(vectors)[:, 1]
        return scores

    def scale(self, expected: Floats) -> float:  # noqa: ARG002 - the signature of all outputs
        """Return 1, because tolerances for probabilities are absolute."""
        return 1.0

    def demand_threshold(self, threshold: float | None) -> None:
        """Reject a threshold outside 0 to 1."""
        if threshold is None or not 0 <= threshold <= 1:
            raise ArtefactError(f"its threshold is {threshold}; it must be between 0 and 1")

    def decide(self, found: Floats, threshold: float | None) -> NDArray[np.bool_]:
        """Return True for each probability that reaches the threshold, (n,)."""
        self.demand_threshold(threshold)
        decisions: NDArray[np.bool_] = found >= cast("float", threshold)
        return decisions

    def outcomes(self, found: Floats, threshold: float | None) -> Mapping[str, int]:
        """Return the numbers of positive and negative decisions."""
        positive = int(self.decide(found, threshold).sum())
        return {"positive": positive, "negative": len(found) - positive}

    def agrees(
        self, found: Floats, threshold: float | None, other: Floats, other_thresholds: Sequence[float | None]
    ) -> NDArray[np.bool_]:
        """Return True for each row on which both models decide the same, (n,)."""
        import numpy as np

        decided = other >= np.array(other_thresholds, dtype=np.float64)
        equal: NDArray[np.bool_] = self.decide(found, threshold) == decided
        return equal


class IntervalOutput:
    """A value and the lower and upper end of its prediction interval, in the unit of the label."""

    name = "regression"
    columns = ("value", "lower", "upper")
    score_range = None
    method = "predict"

    def ask(self, estimator: Any, vectors: Any) -> Floats:
        """Return value, lower and upper end, (n, 3)."""
        found: Floats = estimator.predict_interval(vectors)
        return found

    def scale(self, expected: Floats) -> float:
        """Return the largest absolute value, so that tolerances are relative: labels can have any unit."""
        import numpy as np

        return float(np.abs(expected).max(initial=0.0)) or 1.0

    def demand_threshold(self, threshold: float | None) -> None:
        """Reject any threshold."""
        if threshold is not None:
            raise ArtefactError(f"its threshold is {threshold}, but a regression model has none")

    def decide(self, found: Floats, threshold: float | None) -> None:
        """Return None."""

    def outcomes(self, found: Floats, threshold: float | None) -> Mapping[str, int]:  # noqa: ARG002 - as above
        """Return the number of values."""
        return {"value": len(found)}

    def agrees(
        self,
        found: Floats,
        threshold: float | None,  # noqa: ARG002 - as above
        other: Floats,
        other_thresholds: Sequence[float | None],  # noqa: ARG002 - as above
    ) -> NDArray[np.bool_]:
        """Return True for each row whose interval contains the other model's value, (n,)."""
        inside: NDArray[np.bool_] = (found[:, 1] <= other) & (other <= found[:, 2])
        return inside


PROBABILITY = ProbabilityOutput()
INTERVAL = IntervalOutput()
OUTPUTS: Mapping[str, Output] = {one.name: one for one in (PROBABILITY, INTERVAL)}
"""Outputs by task name."""


def by_column(output: Output, found: Floats) -> dict[str, Floats]:
    """Return the numbers of each column of an output, (n,) each."""
    if found.ndim == 1:
        return {output.columns[0]: found}
    return {name: found[:, place] for place, name in enumerate(output.columns)}
