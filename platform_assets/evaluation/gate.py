"""The quality gate: what a model has to reach, what it has to keep up with, and the verdict with its reasons."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.metrics import METRICS, metric_named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from platform_assets.evaluation.intervals import Estimate


@dataclass(frozen=True)
class Criterion:
    """A bound for the value of a metric.

    Attributes
    ----------
    metric
        One of `METRICS`, which the model's declaration checks.
    at_least
        Lowest value that passes.
    at_most
        Highest value that passes. One of the two is given.
    why
        Where the bound comes from, a sentence.

    Raises
    ------
    TrainingError
        Not exactly one bound.
    """

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    why: str = ""

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None) or not math.isfinite(self.bound):
            raise TrainingError(f"the criterion for {self.metric} needs one finite bound, at_least or at_most")

    @property
    def bound(self) -> float:
        """The one that is given."""
        return self.at_most if self.at_least is None else self.at_least  # type: ignore[return-value]  # one of the two is given

    @property
    def name(self) -> str:
        """The fact, e.g. `roc_auc_is_at_least_0_65`; fits a check's name."""
        side = "at_most" if self.at_least is None else "at_least"
        return f"{self.metric}_is_{side}_{_plain(self.bound).replace('-', 'minus_').replace('.', '_')}"

    @property
    def description(self) -> str:
        """The fact as a sentence, and why it is demanded."""
        side = "at most" if self.at_least is None else "at least"
        return f"{metric_named(self.metric).label} is {side} {_plain(self.bound)}. {self.why}".strip()

    def holds(self, value: float) -> bool:
        """Whether the value keeps the bound; NaN does not."""
        return value <= self.bound if self.at_least is None else value >= self.bound


@dataclass(frozen=True)
class NotWorse:
    """The challenger is not worse than the champion, with 95 % confidence and up to a margin.

    Passes when the whole interval of the difference lies on the good side of the margin: few rows do not pass for a
    good challenger.

    Attributes
    ----------
    metric
        One of `METRICS` of which one direction is better.
    by
        The margin, in the metric's unit, 0 or above.
    why
        Where the margin comes from, a sentence.

    Raises
    ------
    TrainingError
        Neither direction is better; the margin is out of its bounds.
    """

    metric: str
    by: float = 0.01
    why: str = ""

    def __post_init__(self) -> None:
        # The model's declaration refuses an unknown metric: only there is it known whose it is.
        if self.metric in METRICS and METRICS[self.metric].higher_is_better is None:
            raise TrainingError(f"neither a higher nor a lower {self.metric} is better, so that none can be worse")
        if not 0 <= self.by < math.inf:
            raise TrainingError(f"the margin for {self.metric} is {self.by:g}; it must be 0 or above")

    @property
    def name(self) -> str:
        """The fact, e.g. `roc_auc_is_not_worse_than_champion`; fits a check's name."""
        return f"{self.metric}_is_not_worse_than_champion"

    @property
    def description(self) -> str:
        """The fact as a sentence, and why it is demanded."""
        label = metric_named(self.metric).label
        return f"{label} is not worse than the champion's by more than {_plain(self.by)}. {self.why}".strip()


@dataclass(frozen=True)
class Reason:
    """What became of one demand.

    Attributes
    ----------
    name
        The demand's.
    passed
        Whether it is met.
    told
        A sentence with value, interval and bound.
    """

    name: str
    passed: bool
    told: str


@dataclass(frozen=True)
class Verdict:
    """Whether a model is good enough, and why.

    Attributes
    ----------
    reasons
        One for each demand.
    """

    reasons: tuple[Reason, ...]

    @property
    def passed(self) -> bool:
        """Whether every demand is met. A model of which nothing is demanded does not pass."""
        return bool(self.reasons) and all(reason.passed for reason in self.reasons)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        reasons = [{"name": it.name, "passed": it.passed, "told": it.told} for it in self.reasons]
        return {"passed": self.passed, "reasons": reasons}


def judge(
    estimates: Mapping[str, Estimate],
    criteria: Sequence[Criterion],
    comparison: Reason | None = None,
) -> Verdict:
    """Hold a challenger against what is demanded of it.

    A criterion judges the value itself, not its interval: bounds are agreed on with people, in terms of what
    they see. The comparison with the champion judges the interval.

    Parameters
    ----------
    estimates
        What `evaluate` says of the challenger.
    criteria
        Bounds for its metrics.
    comparison
        How it does beside the champion, see `keeps_up`; None where that is not asked.

    Returns
    -------
    Verdict
        Reasons in the order of the criteria, then of the comparison.
    """
    kept = (_kept(criterion, estimates) for criterion in criteria)
    return Verdict((*kept, *([comparison] if comparison else [])))


def _kept(criterion: Criterion, estimates: Mapping[str, Estimate]) -> Reason:
    metric, bound = metric_named(criterion.metric), _plain(criterion.bound)
    estimate = estimates[criterion.metric]
    needed = f"at most {bound} is allowed" if criterion.at_least is None else f"at least {bound} is needed"
    if math.isnan(estimate.value):
        told = f"{metric.label} is undefined, for there are no {metric.needs}; {needed}"
        return Reason(criterion.name, passed=False, told=told)
    value = f"{_shown(estimate.value, criterion.bound)}{_interval(estimate, criterion.bound)}"
    if metric.chance is not None and estimate.low <= metric.chance <= estimate.high:
        value += f", no better than chance ({_plain(metric.chance)})"
    return Reason(criterion.name, criterion.holds(estimate.value), f"{metric.label} is {value}, {needed}")


def keeps_up(demand: NotWorse, differences: Mapping[str, Estimate]) -> Reason:
    """Whether a challenger is not worse than the champion.

    Parameters
    ----------
    demand
        In what it must keep up.
    differences
        What `compare` says of the two.
    """
    metric, difference = metric_named(demand.metric), differences[demand.metric]
    if metric.higher_is_better:
        bound, end, passed = 0.0 - demand.by, "lower end must be at least", difference.low >= -demand.by
    else:
        bound, end, passed = demand.by, "upper end must be at most", difference.high <= demand.by
    needed = f"the {end} {_plain(bound)}"
    if math.isnan(difference.value):
        told = f"{metric.label} cannot be compared with the champion's, for there are no {metric.needs}; {needed}"
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
    # `g` would write 1e-05, which is no part of a check's name.
    import numpy as np

    return np.format_float_positional(number, trim="-")


def _shown(number: float, bound: float, sign: str = "") -> str:
    if number == round(number) and abs(number) > 1:
        return f"{number:{sign},.0f}"
    digits = max(3, len(_plain(bound).partition(".")[2]))
    # 0.6499 must not be told as 0.650 where at least 0.65 is needed.
    while _side(round(number, digits), bound) != _side(number, bound):
        digits += 1
    return f"{number:{sign}.{digits}f}"


def _side(number: float, bound: float) -> int:
    return (number > bound) - (number < bound)
