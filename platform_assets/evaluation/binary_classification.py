"""Metrics of binary classifiers with their intervals: of one model, of two models side by side, and by subgroup.

Labels are 0 and 1, scores lie between. Which rows are judged is decided in `splits.py`; whether the result is good
enough, in `gate.py`; pictures are in `classifier_plots.py`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.intervals import RESAMPLES, SEED, Estimate, grouped_bootstrap
from platform_assets.evaluation.metrics import Ranking, number_column

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

UNKNOWN = "unknown"
"""What `by_subgroup` calls rows without a value."""


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

    return grouped_bootstrap(metrics, len(ranking), groups, resamples, seed)


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

    return grouped_bootstrap(differences, len(sides[0][0]), groups, resamples, seed)


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

    truth, score = number_column("labels", labels), number_column("scores", scores)
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

    truth, score = number_column("labels", labels), number_column("scores", scores)
    order = np.argsort(score, kind="stable")
    falling = np.argsort(-score, kind="stable")
    false_alarms = falling[(truth[falling] == 0) & (score[falling] >= threshold)]
    missed = order[(truth[order] == 1) & (score[order] < threshold)]
    return false_alarms[:most], missed[:most]


def _threshold(threshold: float) -> float:
    if math.isnan(threshold):
        raise TrainingError("the threshold is NaN; a number is needed")
    return float(threshold)


def _name(value: Any) -> str:
    # pandas keeps whole numbers as floats where some are missing.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
