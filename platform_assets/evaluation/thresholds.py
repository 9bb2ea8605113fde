"""Rules that choose the decision threshold of a binary classifier from labels and scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.metrics import Ranking

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike


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
