"""The output of a fitted model: the numbers that it returns per row, by task.

An artefact contains the name of its model's output. Artefacts that older releases wrote do not contain the name; their
models are binary classifiers.
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
    """Interface of an output. Each task has one implementation, which all models of the task use."""

    @property
    def name(self) -> str:
        """Name of the task."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the numbers returned for each row. The first is the main number."""

    @property
    def score_range(self) -> tuple[float, float] | None:
        """Lowest and highest possible main number; None if every number is possible."""

    @property
    def method(self) -> str:
        """Name of the estimator's method that MLflow's copy of the model calls."""

    def ask(self, estimator: Any, vectors: Any) -> Floats:
        """Return the output of an estimator: (n,) if the output has one column, else (n, columns)."""

    def scale(self, expected: Floats) -> float:
        """Return the factor by which tolerances are multiplied in a comparison with the output `expected`."""

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
        """Return the number of rows per outcome, by the outcome's name."""

    def agrees(
        self, found: Floats, threshold: float | None, other: Floats, other_thresholds: Sequence[float | None]
    ) -> NDArray[np.bool_]:
        """Compare this model with another model of the same task. Return True for each row on which they agree, (n,).

        Parameters
        ----------
        found, threshold
            Output and threshold of this model.
        other
            Main number of each row from the other model, (n,).
        other_thresholds
            Threshold that the other model used for each row.
        """


class ProbabilityOutput:
    """Output with one column, `score`: the probability of the positive class.

    The decision for a row is positive if its score reaches the threshold.
    """

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
        """Return the number of positive decisions and the number of negative decisions."""
        positive = int(self.decide(found, threshold).sum())
        return {"positive": positive, "negative": len(found) - positive}

    def agrees(
        self, found: Floats, threshold: float | None, other: Floats, other_thresholds: Sequence[float | None]
    ) -> NDArray[np.bool_]:
        """Return True for each row for which both models make the same decision, (n,)."""
        import numpy as np

        decided = other >= np.array(other_thresholds, dtype=np.float64)
        equal: NDArray[np.bool_] = self.decide(found, threshold) == decided
        return equal


class IntervalOutput:
    """Output with three columns in the unit of the label: a value and the bounds of its prediction interval."""

    name = "regression"
    columns = ("value", "lower", "upper")
    score_range = None
    method = "predict"

    def ask(self, estimator: Any, vectors: Any) -> Floats:
        """Return each row's predicted value, lower bound and upper bound, (n, 3)."""
        found: Floats = estimator.predict_interval(vectors)
        return found

    def scale(self, expected: Floats) -> float:
        """Return the largest absolute value. This makes tolerances relative, because labels can have any unit."""
        import numpy as np

        return float(np.abs(expected).max(initial=0.0)) or 1.0

    def demand_threshold(self, threshold: float | None) -> None:
        """Reject any threshold."""
        if threshold is not None:
            raise ArtefactError(f"its threshold is {threshold}, but a regression model has none")

    def decide(self, found: Floats, threshold: float | None) -> None:
        """Return None."""

    def outcomes(self, found: Floats, threshold: float | None) -> Mapping[str, int]:  # noqa: ARG002 - as above
        """Return one outcome, `value`, with the number of rows. A regression model has no decisions to count."""
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
    """Split an output into arrays (n,), one for each column, by column name."""
    if found.ndim == 1:
        return {output.columns[0]: found}
    return {name: found[:, place] for place, name in enumerate(output.columns)}
