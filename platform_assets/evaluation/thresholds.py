"""Rules for choosing the decision threshold of a binary classifier."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.metrics import Ranking

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class ThresholdRule:
    """A rule for choosing the decision threshold. Rows that score at or above the threshold are flagged.

    Attributes
    ----------
    name
        Name of the rule. Rules with equal names and parameters choose equal thresholds.
    parameters
        Parameters of the rule, by name.
    description
        The rule as a sentence.
    choose
        Function from labels (0 or 1, shape (n,)) and out-of-fold scores (between 0 and 1, shape (n,)) to the
        threshold.
    """

    name: str
    parameters: Mapping[str, float]
    description: str
    choose: Callable[[ArrayLike, ArrayLike], float] = field(compare=False)


def reaching_recall(share: float) -> ThresholdRule:
    """Return a rule that flags as few rows as possible for a given recall.

    Parameters
    ----------
    share
        Minimum recall; above 0, at most 1.

    Raises
    ------
    TrainingError
        The share is out of range. `choose` raises the error if no row is positive.
    """
    if not 0 < share <= 1:
        raise TrainingError(f"the target recall is {share:g}; it must be above 0 and at most 1")

    def choose(labels: ArrayLike, scores: ArrayLike) -> float:
        tally = Ranking(labels, scores).tally()
        _, caught = tally.above()
        positives = tally.positives.sum()
        if not positives:
            raise TrainingError("no row is positive, so recall is undefined at every threshold; load more data")
        # Divide exactly as the recall metric does, so that rounding cannot put the measured recall below the share.
        return float(tally.scores[int((caught / positives >= share).argmax())])

    return ThresholdRule(
        "recall",
        {"at_least": share},
        description=f"The highest threshold that reaches a recall of {share:g}.",
        choose=choose,
    )


def bounding_false_alarms(share: float) -> ThresholdRule:
    """Return a rule that flags as many rows as possible under a bound on the false-positive rate.

    If flagging only the rows with the highest score already exceeds the bound, the threshold is above all scores and
    flags no row.

    Parameters
    ----------
    share
        Maximum false-positive rate; 0 or above, below 1.

    Raises
    ------
    TrainingError
        The share is out of range. `choose` raises the error if no row is negative.
    """
    if not 0 <= share < 1:
        raise TrainingError(f"the false-positive rate is {share:g}; it must be 0 or above, and below 1")

    def choose(labels: ArrayLike, scores: ArrayLike) -> float:
        tally = Ranking(labels, scores).tally()
        flagged, caught = tally.above()
        negatives = tally.rows.sum() - tally.positives.sum()
        if not negatives:
            raise TrainingError("no row is negative, so the false-positive rate is undefined; load more data")
        allowed = int(((flagged - caught) / negatives <= share).sum())
        return float(tally.scores[allowed - 1]) if allowed else math.nextafter(float(tally.scores[0]), math.inf)

    return ThresholdRule(
        "false_positive_rate",
        {"at_most": share},
        description=f"The lowest threshold with a false-positive rate of at most {share:g}.",
        choose=choose,
    )


def best_f1() -> ThresholdRule:
    """Return a rule that maximises F1.

    Raises
    ------
    TrainingError
        `choose` raises the error if no row is positive.
    """

    def choose(labels: ArrayLike, scores: ArrayLike) -> float:
        tally = Ranking(labels, scores).tally()
        flagged, caught = tally.above()
        positives = tally.positives.sum()
        if not positives:
            raise TrainingError("no row is positive, so F1 is undefined at every threshold; load more data")
        return float(tally.scores[int((2 * caught / (positives + flagged)).argmax())])

    return ThresholdRule("best_f1", {}, description="The threshold at which F1 is highest.", choose=choose)
