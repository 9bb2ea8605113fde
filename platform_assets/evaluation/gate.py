"""The quality gate: bounds for metrics, the comparison with the champion, and the verdict with its reasons."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.intervals import lower_bound
from platform_assets.evaluation.metric_catalogue import bounded_metrics, find_metric, metric_named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from platform_assets.evaluation.intervals import Estimate


BOUND = "one-sided 95 %, Clopper-Pearson"
"""Description of a lower bound in messages."""


@dataclass(frozen=True)
class Criterion:
    """A bound on the value of a metric.

    Attributes
    ----------
    metric
        A metric of the model's task. `ModelSpec` rejects unknown names.
    at_least
        Lowest value that passes.
    at_most
        Highest value that passes. Set either `at_least` or `at_most`.
    why
        Reason for the bound, in one sentence.
    lower_bound
        Whether to test the metric's one-sided 95 % lower bound (Clopper-Pearson) instead of its value. Only for
        `at_least`, and for metrics that are a share of a known number of rows, such as recall.

    Raises
    ------
    TrainingError
        Neither or both bounds are set, the bound is not finite, or the metric has no lower bound.
    """

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    why: str = ""
    lower_bound: bool = False

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None) or not math.isfinite(self.bound):
            raise TrainingError(
                f"the criterion for {self.metric} needs exactly one finite bound: set at_least or at_most"
            )
        known = find_metric(self.metric)
        if self.lower_bound and (self.at_least is None or (known and known.share_of is None)):
            raise TrainingError(
                f"the criterion for {self.metric} cannot test a lower bound; lower_bound=True requires at_least and "
                f"one of the metrics {', '.join(bounded_metrics())}"
            )

    @property
    def bound(self) -> float:
        """The value of `at_least` or `at_most`."""
        return self.at_most if self.at_least is None else self.at_least  # type: ignore[return-value]  # exactly one is set

    @property
    def name(self) -> str:
        """Name of the asset check, e.g. `roc_auc_is_at_least_0_65`."""
        side = "at_most" if self.at_least is None else "at_least"
        subject = f"{self.metric}_lower_bound" if self.lower_bound else self.metric
        return f"{subject}_is_{side}_{_plain(self.bound).replace('-', 'minus_').replace('.', '_')}"

    @property
    def description(self) -> str:
        """Description of the asset check: the bound and the reason for it."""
        side = "at most" if self.at_least is None else "at least"
        label = metric_named(self.metric).label
        subject = f"{label}'s lower bound ({BOUND})" if self.lower_bound else label
        return f"{subject} is {side} {_plain(self.bound)}. {self.why}".strip()

    def tested(self, estimates: Mapping[str, Estimate]) -> float:
        """Return the number that is tested: the metric's value or its lower bound; NaN if undefined."""
        value = estimates[self.metric].value
        share_of = metric_named(self.metric).share_of
        if not self.lower_bound or share_of is None or math.isnan(value):
            return value
        rows = estimates[share_of].value
        return lower_bound(round(value * rows), rows)

    def holds(self, value: float) -> bool:
        """Return whether the value is within the bound; False for NaN."""
        return value <= self.bound if self.at_least is None else value >= self.bound


@dataclass(frozen=True)
class NotWorse:
    """A non-inferiority test of the challenger against the champion, at 95 % confidence.

    It passes if the worse bound of the difference's interval is within the margin. With few test rows, the interval is
    wide, so the test is likely to fail.

    Attributes
    ----------
    metric
        A metric of the model's task for which higher or lower is better.
    by
        Margin, in the metric's unit, 0 or above.
    why
        Reason for the margin, in one sentence.

    Raises
    ------
    TrainingError
        Neither higher nor lower values of the metric are better, or the margin is negative or not finite.
    """

    metric: str
    by: float = 0.01
    why: str = ""

    def __post_init__(self) -> None:
        # Unknown metrics are rejected later, by `ModelSpec`, because its error can name the model.
        known = find_metric(self.metric)
        if known and known.higher_is_better is None:
            raise TrainingError(
                f"{self.metric} cannot be compared with the champion's, because neither higher nor lower is better; "
                "choose another metric"
            )
        if not 0 <= self.by < math.inf:
            raise TrainingError(f"the margin for {self.metric} is {self.by:g}; it must be finite and 0 or above")

    @property
    def name(self) -> str:
        """Name of the asset check, e.g. `roc_auc_is_not_worse_than_champion`."""
        return f"{self.metric}_is_not_worse_than_champion"

    @property
    def description(self) -> str:
        """Description of the asset check: the bound and the reason for it."""
        label = metric_named(self.metric).label
        return f"{label} is not worse than the champion's by more than {_plain(self.by)}. {self.why}".strip()


@dataclass(frozen=True)
class Reason:
    """Result of one criterion or of the comparison with the champion.

    Attributes
    ----------
    name
        Name of the criterion or comparison.
    passed
        Whether it passed.
    told
        Sentence with the value, the interval and the bound.
    """

    name: str
    passed: bool
    told: str


@dataclass(frozen=True)
class Verdict:
    """Result of the quality gate.

    Attributes
    ----------
    reasons
        One result per criterion, then the result of the comparison.
    """

    reasons: tuple[Reason, ...]

    @property
    def passed(self) -> bool:
        """Whether every result in `reasons` passed. A verdict without results does not pass."""
        return bool(self.reasons) and all(reason.passed for reason in self.reasons)

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        reasons = [{"name": it.name, "passed": it.passed, "told": it.told} for it in self.reasons]
        return {"passed": self.passed, "reasons": reasons}


def judge(
    estimates: Mapping[str, Estimate],
    criteria: Sequence[Criterion],
    comparison: Reason | None = None,
) -> Verdict:
    """Apply the quality gate to a challenger.

    A criterion tests the value of the metric, or its exact lower bound if `lower_bound` is set. The comparison with the
    champion tests the interval of the difference.

    Parameters
    ----------
    estimates
        Metrics of the challenger, from `evaluate`.
    criteria
        Bounds on these metrics.
    comparison
        Result of `keeps_up`; None to skip the comparison.

    Returns
    -------
    Verdict
        Reasons in the order of the criteria, followed by the comparison.
    """
    kept = (_kept(criterion, estimates) for criterion in criteria)
    return Verdict((*kept, *([comparison] if comparison else [])))


def _kept(criterion: Criterion, estimates: Mapping[str, Estimate]) -> Reason:
    metric, bound = metric_named(criterion.metric), _plain(criterion.bound)
    estimate = estimates[criterion.metric]
    needed = f"required: at most {bound}" if criterion.at_least is None else f"required: at least {bound}"
    if math.isnan(estimate.value):
        told = f"{metric.label} is undefined, because there are no {metric.needs}; {needed}"
        return Reason(criterion.name, passed=False, told=told)
    value = f"{_shown(estimate.value, criterion.bound)}{_interval(estimate, criterion.bound)}"
    if metric.chance is not None and estimate.low <= metric.chance <= estimate.high:
        value += f", no better than chance ({_plain(metric.chance)})"
    tested = criterion.tested(estimates)
    if criterion.lower_bound:
        value += f"; its lower bound ({BOUND}) is {_shown(tested, criterion.bound)}"
    return Reason(criterion.name, criterion.holds(tested), f"{metric.label} is {value}; {needed}")


def keeps_up(demand: NotWorse, differences: Mapping[str, Estimate]) -> Reason:
    """Test that a challenger is not worse than the champion.

    Parameters
    ----------
    demand
        Metric to compare, and the margin.
    differences
        Challenger minus champion by metric, from `compare`.
    """
    metric, difference = metric_named(demand.metric), differences[demand.metric]
    if metric.higher_is_better:
        bound, end, passed = 0.0 - demand.by, "interval's lower bound must be at least", difference.low >= -demand.by
    else:
        bound, end, passed = demand.by, "interval's upper bound must be at most", difference.high <= demand.by
    needed = f"the {end} {_plain(bound)}"
    if math.isnan(difference.value):
        told = f"{metric.label} cannot be compared with the champion's, because there are no {metric.needs}; {needed}"
        return Reason(demand.name, passed=False, told=told)
    value = f"{_shown(difference.value, bound, '+')}{_interval(difference, bound, '+')}"
    return Reason(demand.name, passed, f"{metric.label} differs from the champion's by {value}; {needed}")


def _interval(estimate: Estimate, bound: float, sign: str = "") -> str:
    if math.isnan(estimate.low):
        return " (no interval)"
    if estimate.low == estimate.value == estimate.high and not sign:
        return ""
    return f" ({_shown(estimate.low, bound, sign)} to {_shown(estimate.high, bound, sign)})"


def _plain(number: float) -> str:
    # Do not use the format `g`, because it gives 1e-05, and Dagster allows no minus sign in the name of a check.
    import numpy as np

    return np.format_float_positional(number, trim="-")


def _shown(number: float, bound: float, sign: str = "") -> str:
    if number == round(number) and abs(number) > 1:
        return f"{number:{sign},.0f}"
    digits = max(3, len(_plain(bound).partition(".")[2]))
    # Show more digits if necessary, because 0.64996 rounded to 0.650 would seem to reach a bound of 0.65.
    while round(number, digits) == bound != number:
        digits += 1
    return f"{number:{sign}.{digits}f}"
