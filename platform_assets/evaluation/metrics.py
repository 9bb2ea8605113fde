"""How good a classifier is, how sure we are of that, and whether it is good enough.

Metrics with intervals, thresholds, challenger against champion, and the verdict with its reasons,
for two classes: labels 0 and 1, scores between. Which rows are judged is decided in `splits.py`,
pictures are in `plots.py`, and how a domain declares what it demands is next to its model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.splits import group_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

RESAMPLES = 200
SEED = 20_260_103
UNKNOWN = "unknown"
"""What `by_subgroup` calls rows without a value."""

_BINS = 10
_TOP = 0.1
_CONFIDENCE = 95
_COUNTS = {"rows", "positives"}


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
"""What is measured of a classifier, by name."""


@dataclass(frozen=True, eq=False)
class Tally:
    """What a classifier did, as far as metrics and curves go: the rows at each distinct score, highest first.

    Attributes
    ----------
    scores
        Distinct scores, descending, float64, shape (k,).
    rows
        Rows at each, or the sum of their weights, float64, shape (k,).
    positives
        The positive ones among them, float64, shape (k,).
    """

    scores: Floats
    rows: Floats
    positives: Floats

    def metrics(self, threshold: float) -> dict[str, float]:
        """All of `METRICS`, rows that reach the threshold being flagged; NaN where one is undefined."""
        rows, positives = float(self.rows.sum()), float(self.positives.sum())
        flags = self.scores >= threshold
        flagged, caught = float(self.rows[flags].sum()), float(self.positives[flags].sum())
        mean, share, size = self.bins()
        squares = self.positives * (1 - self.scores) ** 2 + (self.rows - self.positives) * self.scores**2
        return {
            "roc_auc": self._roc_auc(rows, positives),
            "average_precision": self._average_precision(positives),
            "base_rate": _ratio(positives, rows),
            "brier": _ratio(float(squares.sum()), rows),
            "calibration_error": _ratio(float((size * abs(mean - share)).sum()), rows),
            "recall": _ratio(caught, positives),
            "precision": _ratio(caught, flagged),
            # Where no row is positive, what is flagged can only be wrong, and nothing can be right.
            "f1": _ratio(2 * caught, positives + flagged) if positives else math.nan,
            "accuracy": _ratio(rows - flagged - positives + 2 * caught, rows),
            "lift_top_decile": self._lift(rows, positives),
            "flagged": _ratio(flagged, rows),
            "rows": rows,
            "positives": positives,
        }

    def above(self) -> tuple[Floats, Floats]:
        """Rows, and positive rows, at each score or above, shape (k,) each."""
        return self.rows.cumsum(), self.positives.cumsum()

    def bins(self) -> tuple[Floats, Floats, Floats]:
        """Mean score, share of positives and rows of each tenth of the rows by score; bins without rows left out."""
        import numpy as np

        total = self.rows.sum()
        if not total:
            return np.empty(0), np.empty(0), np.empty(0)
        middle = self.rows.cumsum() - self.rows / 2
        place = np.minimum(_BINS * middle / total, _BINS - 1).astype(np.int64)
        size, scored, positive = (
            np.bincount(place, values, _BINS).astype(np.float64)
            for values in (self.rows, self.rows * self.scores, self.positives)
        )
        filled = size > 0
        return scored[filled] / size[filled], positive[filled] / size[filled], size[filled]

    def _roc_auc(self, rows: float, positives: float) -> float:
        # Mann and Whitney's form: negatives at a score, times the positives above and half of those beside them.
        pairs = (self.rows - self.positives) * (self.positives.cumsum() - self.positives / 2)
        return _ratio(float(pairs.sum()), positives * (rows - positives))

    def _average_precision(self, positives: float) -> float:
        here = self.positives > 0
        above, caught = self.above()
        return _ratio(float((self.positives[here] * caught[here] / above[here]).sum()), positives)

    def _lift(self, rows: float, positives: float) -> float:
        import numpy as np

        if not positives:
            return math.nan
        above, caught = self.above()
        # Straight lines between the scores are what gives tied rows their part.
        in_top = np.interp(_TOP * rows, np.append(0.0, above), np.append(0.0, caught))
        return float(in_top) / (_TOP * positives)


class Ranking:
    """Rows sorted by their scores, once, to be tallied under many weights.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).

    Raises
    ------
    TrainingError
        Shapes differ, or there are other values.
    """

    def __init__(self, labels: ArrayLike, scores: ArrayLike) -> None:
        import numpy as np

        truth, score = _column("labels", labels), _column("scores", scores)
        if len(truth) != len(score):
            raise TrainingError(f"there are {len(truth)} labels and {len(score)} scores; each row needs both")
        if not np.isin(truth, (0, 1)).all():
            raise TrainingError(f"labels must be 0 or 1; there are others: {_odd(truth, ~np.isin(truth, (0, 1)))}")
        # Written so that NaN is refused as well.
        if not ((score >= 0) & (score <= 1)).all():
            raise TrainingError(
                f"scores must lie between 0 and 1; there are others: {_odd(score, ~((score >= 0) & (score <= 1)))}"
            )
        self._order = np.argsort(-score, kind="stable")
        self._labels = truth[self._order]
        ranked = score[self._order]
        self._starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1])[: len(ranked)])
        self._scores = ranked[self._starts]

    def __len__(self) -> int:
        return len(self._labels)

    def tally(self, weights: ArrayLike | None = None) -> Tally:
        """Count the rows at each score, each as often as its weight says.

        Parameters
        ----------
        weights
            0 or above, shape (n,); None counts each row once.

        Raises
        ------
        TrainingError
            The weights are not one finite number of 0 or above for each row.
        """
        import numpy as np

        if weights is None:
            weight = np.ones(len(self._labels))
        else:
            given = _column("weights", weights)
            if len(given) != len(self._labels) or not ((given >= 0) & (given < np.inf)).all():
                raise TrainingError("weights must be finite numbers of 0 or above, one for each row")
            weight = given[self._order]
        if not len(weight):
            return Tally(self._scores, weight, weight)
        return Tally(
            self._scores,
            np.add.reduceat(weight, self._starts),
            np.add.reduceat(weight * self._labels, self._starts),
        )


def measure(
    labels: ArrayLike, scores: ArrayLike, threshold: float, weights: ArrayLike | None = None
) -> dict[str, float]:
    """All of `METRICS`.

    What is undefined (see `Metric.needs`) is NaN, never an exception, and never the 0 that scikit-learn puts there.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).
    threshold
        A row is flagged when its score is equal to it or above.
    weights
        0 or above, shape (n,); None counts each row once.

    Raises
    ------
    TrainingError
        Shapes differ, or there are other values.
    """
    return Ranking(labels, scores).tally(weights).metrics(_threshold(threshold))


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval.

    Attributes
    ----------
    value
        On the rows as they are; NaN where undefined.
    low
        Lower end; NaN where there is no interval.
    high
        Upper end; NaN where there is no interval.
    """

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """For JSON, with null for NaN."""
        ends = {"value": self.value, "low": self.low, "high": self.high}
        return {name: None if math.isnan(number) else number for name, number in ends.items()}


def evaluate(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    threshold: float,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Estimate]:
    """All of `METRICS`, each with its 95 % interval.

    Percentile bootstrap of whole groups: as many groups as there are, drawn with replacement, for rows of one group
    are not independent (Davison and Hinkley, Bootstrap Methods and their Application, 1997, 3.8). A resample in which
    a metric is undefined does not count for it. With a single group there is no interval. The numbers of rows
    and of positives are facts, and their intervals nothing but themselves.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).
    groups
        Key of each row's group, shape (n,); see `splits.group_keys`.
    threshold
        A row is flagged when its score is equal to it or above.
    resamples
        Number of resamples.
    seed
        The same seed gives the same intervals, whatever the order of the rows.

    Raises
    ------
    TrainingError
        Shapes differ, or there are other values.
    """
    ranking, threshold = Ranking(labels, scores), _threshold(threshold)

    def metrics(weights: Floats | None) -> dict[str, float]:
        return ranking.tally(weights).metrics(threshold)

    return _estimates(metrics, len(ranking), groups, resamples, seed)


def compare(
    labels: ArrayLike,
    groups: ArrayLike,
    challenger: tuple[ArrayLike, float],
    champion: tuple[ArrayLike, float],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Estimate]:
    """By how much each of `METRICS` is higher for the challenger than for the champion, with 95 % intervals.

    Both are measured on the same rows and the same resamples, so that what is hard for both cancels out.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    groups
        Key of each row's group, shape (n,); see `splits.group_keys`.
    challenger
        Its scores, between 0 and 1, shape (n,), and its threshold.
    champion
        The same of the champion.
    resamples
        Number of resamples.
    seed
        The same seed gives the same intervals, whatever the order of the rows.

    Raises
    ------
    TrainingError
        Shapes differ, or there are other values.
    """
    sides = [(Ranking(labels, scores), _threshold(threshold)) for scores, threshold in (challenger, champion)]

    def differences(weights: Floats | None) -> dict[str, float]:
        ours, theirs = (ranking.tally(weights).metrics(threshold) for ranking, threshold in sides)
        return {name: ours[name] - theirs[name] for name in ours}

    return _estimates(differences, len(sides[0][0]), groups, resamples, seed)


def by_subgroup(  # noqa: PLR0913 - the rows, column by column
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    threshold: float,
    values: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, dict[str, Estimate]]:
    """What `evaluate` says of the rows of each value alone.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).
    groups
        Key of each row's group, shape (n,); see `splits.group_keys`.
    threshold
        A row is flagged when its score is equal to it or above.
    values
        What the rows are divided by, shape (n,).
    resamples
        Number of resamples.
    seed
        As for `evaluate`.

    Returns
    -------
    dict[str, dict[str, Estimate]]
        By value as text, sorted; rows without one are under `UNKNOWN`.

    Raises
    ------
    TrainingError
        Shapes differ, or there are other values.
    """
    import numpy as np
    import pandas as pd

    truth, score = _column("labels", labels), _column("scores", scores)
    key, value = pd.Series(groups), pd.Series(values)
    if not len(truth) == len(score) == len(key) == len(value):
        raise TrainingError(
            f"there are {len(truth)} labels, {len(score)} scores, {len(key)} groups and {len(value)} values to divide "
            "them by; each row needs all"
        )
    names = np.array([UNKNOWN if pd.isna(one) else _name(one) for one in value], dtype=object)
    members = {name: np.flatnonzero(names == name) for name in sorted(set(names))}
    return {
        name: evaluate(truth[rows], score[rows], key.iloc[rows], threshold, resamples=resamples, seed=seed)
        for name, rows in members.items()
    }


@dataclass(frozen=True)
class ThresholdRule:
    """How the score from which a row is flagged is chosen.

    Attributes
    ----------
    name
        The rule; with its parameters, all that decides the threshold beside the scores.
    parameters
        Its numbers, by name.
    description
        The rule as a sentence.
    choose
        From labels (0 or 1, shape (n,)) and the scores of a model that did not learn from these rows (between 0
        and 1, shape (n,)) to the threshold.
    """

    name: str
    parameters: Mapping[str, float]
    description: str
    choose: Callable[[ArrayLike, ArrayLike], float] = field(compare=False)


def reaching_recall(share: float) -> ThresholdRule:
    """Flag as few rows as possible, but this share of the positive ones.

    Parameters
    ----------
    share
        Recall to reach; above 0, at most 1.

    Raises
    ------
    TrainingError
        The share is out of its bounds; on choosing, if no row is positive.
    """
    if not 0 < share <= 1:
        raise TrainingError(f"the recall to reach is {share:g}; it must lie above 0 and be at most 1")

    def choose(labels: ArrayLike, scores: ArrayLike) -> float:
        tally = Ranking(labels, scores).tally()
        _, caught = tally.above()
        positives = tally.positives.sum()
        if not positives:
            raise TrainingError("no row is positive, so that no threshold reaches a recall; more rows are needed")
        # The same division as the metric's, so that the recall reached is not missed by rounding.
        return float(tally.scores[int((caught / positives >= share).argmax())])

    return ThresholdRule(
        "recall",
        {"at_least": share},
        description=f"The highest threshold that reaches a recall of {share:g}.",
        choose=choose,
    )


def best_f1() -> ThresholdRule:
    """Flag rows so that recall and precision are both as high as can be, by their harmonic mean.

    Raises
    ------
    TrainingError
        On choosing, if no row is positive.
    """

    def choose(labels: ArrayLike, scores: ArrayLike) -> float:
        tally = Ranking(labels, scores).tally()
        flagged, caught = tally.above()
        positives = tally.positives.sum()
        if not positives:
            raise TrainingError("no row is positive, so that F1 is undefined at any threshold; more rows are needed")
        return float(tally.scores[int((2 * caught / (positives + flagged)).argmax())])

    return ThresholdRule("best_f1", {}, description="The threshold at which F1 is highest.", choose=choose)


def most_wrong(
    labels: ArrayLike, scores: ArrayLike, threshold: float, most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows about which a classifier is wrong and most sure of it; of equal scores, the first.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).
    threshold
        A row is flagged when its score is equal to it or above.
    most
        How many of either kind.

    Returns
    -------
    tuple[NDArray[np.int64], NDArray[np.int64]]
        Places of negative rows that are flagged, highest scores first; of positive ones that are not, lowest first.
    """
    import numpy as np

    truth, score = _column("labels", labels), _column("scores", scores)
    order = np.argsort(score, kind="stable")
    falling = np.argsort(-score, kind="stable")
    false_alarms = falling[(truth[falling] == 0) & (score[falling] >= threshold)]
    missed = order[(truth[order] == 1) & (score[order] < threshold)]
    return false_alarms[:most], missed[:most]


@dataclass(frozen=True)
class Criterion:
    """A bound for the value of a metric.

    Attributes
    ----------
    metric
        One of `METRICS`.
    at_least
        Lowest value that passes.
    at_most
        Highest value that passes. One of the two is given.
    why
        Where the bound comes from, a sentence.

    Raises
    ------
    TrainingError
        There is no such metric; not exactly one bound.
    """

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    why: str = ""

    def __post_init__(self) -> None:
        _demand_metric(self.metric)
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
        return f"{METRICS[self.metric].label} is {side} {_plain(self.bound)}. {self.why}".strip()

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
        There is no such metric; neither direction is better; the margin is out of its bounds.
    """

    metric: str
    by: float = 0.01
    why: str = ""

    def __post_init__(self) -> None:
        _demand_metric(self.metric)
        if METRICS[self.metric].higher_is_better is None:
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
        label = METRICS[self.metric].label
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
    kept = (_kept(criterion, estimates[criterion.metric]) for criterion in criteria)
    return Verdict((*kept, *([comparison] if comparison else [])))


def _kept(criterion: Criterion, estimate: Estimate) -> Reason:
    metric, bound = METRICS[criterion.metric], _plain(criterion.bound)
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
    metric, difference = METRICS[demand.metric], differences[demand.metric]
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


def _estimates(
    metrics: Callable[[Floats | None], dict[str, float]], rows: int, groups: ArrayLike, resamples: int, seed: int
) -> dict[str, Estimate]:
    codes, keys = group_keys(groups)
    if len(codes) != rows:
        raise TrainingError(f"there are {len(codes)} groups for {rows} rows; each row needs one")
    values = metrics(None)
    draws = [metrics(weights) for weights in _resampled(codes, len(keys), resamples, seed)]
    return {
        name: Estimate(value, value, value) if name in _COUNTS else _estimate(value, [draw[name] for draw in draws])
        for name, value in values.items()
    }


def _resampled(codes: NDArray[np.int64], groups: int, resamples: int, seed: int) -> Iterator[Floats]:
    import numpy as np

    if groups < 2:  # noqa: PLR2004 - one group drawn again and again is always the same
        return
    random = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = np.bincount(random.integers(0, groups, groups), minlength=groups)
        yield drawn.astype(np.float64)[codes]


def _estimate(value: float, draws: Sequence[float]) -> Estimate:
    import numpy as np

    defined = [draw for draw in draws if not math.isnan(draw)]
    if not defined or math.isnan(value):
        return Estimate(value, math.nan, math.nan)
    tail = (100 - _CONFIDENCE) / 2
    low, high = np.percentile(defined, [tail, 100 - tail])
    return Estimate(value, float(low), float(high))


def _column(name: str, values: ArrayLike) -> Floats:
    import numpy as np

    try:
        column = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"the {name} are not all numbers: {error}") from None
    if column.ndim != 1:
        raise TrainingError(f"the {name} have shape {column.shape}; one for each row is needed")
    return column


def _odd(values: Floats, which: NDArray[np.bool_]) -> str:
    return f"{int(which.sum())} of {len(values)}, the first {values[which][0]:g}"


def _threshold(threshold: float) -> float:
    if math.isnan(threshold):
        raise TrainingError("the threshold is NaN; a number is needed")
    return float(threshold)


def _name(value: Any) -> str:
    # pandas keeps whole numbers as floats where some are missing.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _demand_metric(metric: str) -> None:
    if metric not in METRICS:
        raise TrainingError(f"there is no metric {metric}; there are {', '.join(METRICS)}")


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


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
