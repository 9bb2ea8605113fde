"""Agreement of a champion's predictions with their labels, and evidence that the champion is worse than on the holdout.

The test is a betting test, which is valid even if labels arrive late and in batches. For each new label, it bets that
predictions disagree with labels more often than on the holdout. The capital that the bets have won is the test
statistic, called evidence, as in `monitoring/drift/evidence.py`. Its unit is days, because the alarm threshold is the
mean number of days between two false alarms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from platform_assets.monitoring.daily.prediction_powered import Proxy, from_labels, prediction_powered
from platform_assets.monitoring.daily.series import Point

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.monitoring.labelled_predictions import LabelledPredictions

    Floats = NDArray[np.float64]

FLOOR = 0.025
"""Largest tolerated increase of the share of disagreements, compared with the holdout."""
STAKES = (0.9, 0.3, 0.1)
"""Stakes, as shares of the largest possible stake."""


@dataclass(frozen=True)
class Disagreements:
    """Number of labelled predictions since the promotion, and how many of them disagree with their label."""

    labelled: int
    disagreeing: int


def evidence(counts: Sequence[Disagreements], tolerated: float) -> float:
    """Return the evidence, in days, that the share of disagreements is above the tolerated share.

    Parameters
    ----------
    counts
        Counts at the end of each day, oldest first. A later count can be lower, because labels are corrected.
    tolerated
        Result of `tolerated_share`.
    """
    import numpy as np

    found = np.array([(one.disagreeing, one.labelled - one.disagreeing) for one in counts])
    # Corrections of labels can lower a later count, so reduce each count to the minimum of itself and all later counts.
    lowest = np.minimum.accumulate(found[::-1])[::-1]
    capital = np.full(len(STAKES), -np.inf)
    for wrong, right in np.diff(lowest, axis=0, prepend=[[0, 0]]):
        capital = after_day(capital, wrong, right, tolerated)
    return float(total(capital))


def after_day(capital: Floats, wrong: Floats, right: Floats, tolerated: float) -> Floats:
    """Return the logarithm of the capital after a day for each stake, (.., stakes).

    Parameters
    ----------
    capital
        Logarithms of the capital before the day, (.., stakes).
    wrong, right
        Number of new labels that disagree, and number that agree, (..).
    tolerated
        Result of `tolerated_share`.
    """
    import numpy as np

    stakes = np.array(STAKES) / tolerated
    gains = wrong[..., None] * np.log1p(stakes * (1 - tolerated)) + right[..., None] * np.log1p(-stakes * tolerated)
    # Before each day's bets, add a capital of 1. Its logarithm is 0.
    after: Floats = np.logaddexp(capital, 0.0) + gains
    return after


def total(capital: Floats) -> Floats:
    """Return the mean capital over all stakes, (..)."""
    import numpy as np

    # Avoid an overflow: the exponential of 700 is near the largest float.
    mean: Floats = np.exp(np.minimum(capital, 700.0)).mean(axis=-1)
    return mean


def tolerated_share(low: float) -> float:
    """Return the tolerated share of disagreements. Above it, the champion counts as worse than on the holdout.

    It is the upper bound of the confidence interval of the share of disagreements on the holdout, plus `FLOOR`. It is
    at most `1 - FLOOR`.

    Parameters
    ----------
    low
        Lower bound of the confidence interval of the share of agreements on the holdout.
    """
    return min(max(1 - low, 0.0) + FLOOR, 1 - FLOOR)


def agreement_points(found: LabelledPredictions, threshold: float | None, every: Proxy) -> list[Point]:
    """Return measurements of how often the predictions agree with their labels.

    A decision agrees with its label if the two are equal. A predicted value agrees with its label if its prediction
    interval contains the label. If no prediction intervals are stored, only the calibration gap is returned.

    Parameters
    ----------
    found
        The labelled predictions.
    threshold
        Threshold of the champion; None for a regression model.
    every
        Share of disagreements among all predictions, as estimated from their probabilities.
    """
    import numpy as np

    labels, scores = found.labels, found.scores
    gap = labels - scores
    half = 1.96 * float(gap.std(ddof=1)) / math.sqrt(len(gap)) if len(gap) > 1 else math.nan
    mean = float(gap.mean())
    points = [Point("calibration_gap", mean, low=mean - half, high=mean + half, rows=len(labels))]
    if threshold is not None:
        flagged = scores >= threshold
        losses = (flagged != (labels > 0)).astype(np.float64)
        powered = prediction_powered(losses, np.where(flagged, 1 - scores, scores), every)
    elif found.outputs.ndim > 1:
        low, high = found.outputs[:, 1], found.outputs[:, 2]
        losses = ((labels < low) | (labels > high)).astype(np.float64)
        powered = from_labels(losses)
    else:
        return points
    estimates = (("agreement", powered), ("agreement_from_labels_alone", from_labels(losses)))
    return [
        *points,
        Point("labelled", len(labels)),
        Point("disagreeing", float(losses.sum()), rows=len(labels)),
        *(Point(name, 1 - one.value, low=1 - one.high, high=1 - one.low, rows=len(labels)) for name, one in estimates),
    ]


def judged_agreement(
    points: list[Point], earlier: Sequence[Disagreements], tolerated: float, days: float
) -> list[Point]:
    """Test the agreement. Add the result to the measurement of the series `agreement`, and return all measurements.

    Parameters
    ----------
    points
        Result of `agreement_points`.
    earlier
        Counts on earlier days since the same promotion, oldest first.
    tolerated
        Result of `tolerated_share`.
    days
        Mean number of days between two false alarms.
    """
    by_name = {point.series: point for point in points}
    now = Disagreements(int(by_name["labelled"].value), int(by_name["disagreeing"].value))
    found = evidence([*earlier, now], tolerated)
    told = (
        f"{now.disagreeing:,} of {now.labelled:,} labelled predictions disagree with their label; a share of up to "
        f"{tolerated:.1%} does not count as worse than the share on the holdout"
    )
    judgement: dict[str, Any] = {"evidence": found, "threshold": days, "is_open": found >= days, "told": told}
    return [replace(point, **judgement) if point.series == "agreement" else point for point in points]
