"""Metrics of binary classifiers with intervals: for one model, for the difference of two models, and by subgroup.

Labels are 0 or 1 and scores lie between 0 and 1. `splits.py` chooses the test rows, `gate.py` decides whether the
metrics are good enough, and `classifier_plots.py` draws them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.intervals import RESAMPLES, SEED, Estimate, grouped_bootstrap
from platform_assets.evaluation.judged import subgroup_rows
from platform_assets.evaluation.metrics import Ranking, number_column

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


def measure(
    labels: ArrayLike, scores: ArrayLike, threshold: float, weights: ArrayLike | None = None
) -> dict[str, float]:
    """Compute all of `METRICS`.

    An undefined metric (see `Metric.needs`) is NaN. scikit-learn returns 0 for some of these.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).
    threshold
        A row is flagged when its score is at or above this value.
    weights
        Row weights, 0 or above, shape (n,); None gives every row the weight 1.

    Raises
    ------
    TrainingError
        Shapes differ, or a label or score is out of range.
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
    """Compute all of `METRICS`, each with a 95 % interval.

    The intervals come from a percentile bootstrap over groups, because rows of one group are not independent
    (Davison and Hinkley, Bootstrap Methods and their Application, 1997, 3.8). Resamples in which a metric is
    undefined are ignored for that metric. With a single group there is no interval. The numbers of rows and of
    positive rows are exact, so both ends of their intervals equal the value.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).
    groups
        Group key of each row, shape (n,); see `splits.group_keys`.
    threshold
        A row is flagged when its score is at or above this value.
    resamples
        Number of bootstrap resamples.
    seed
        Random seed. The same seed gives the same intervals for any row order.

    Raises
    ------
    TrainingError
        Shapes differ, or a label or score is out of range.
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
    """Compute challenger minus champion for all of `METRICS`, with 95 % intervals.

    The comparison is paired: both models are scored on the same rows and the same bootstrap resamples.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    groups
        Group key of each row, shape (n,); see `splits.group_keys`.
    challenger
        Scores of the challenger, between 0 and 1, shape (n,), and its threshold.
    champion
        Scores of the champion, between 0 and 1, shape (n,), and its threshold.
    resamples
        Number of bootstrap resamples.
    seed
        Random seed. The same seed gives the same intervals for any row order.

    Raises
    ------
    TrainingError
        Shapes differ, or a label or score is out of range.
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
    """Run `evaluate` separately on the rows of each subgroup.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).
    groups
        Group key of each row, shape (n,); see `splits.group_keys`.
    threshold
        A row is flagged when its score is at or above this value.
    values
        Subgroup of each row, shape (n,).
    resamples
        Number of bootstrap resamples.
    seed
        Random seed, as for `evaluate`.

    Returns
    -------
    dict[str, dict[str, Estimate]]
        Estimates by name of the subgroup, in sorted order. Rows with a missing value are under `UNKNOWN`.

    Raises
    ------
    TrainingError
        Shapes differ, or a label or score is out of range.
    """
    import pandas as pd

    truth, score = number_column("labels", labels), number_column("scores", scores)
    key, value = pd.Series(groups), pd.Series(values)
    if not len(truth) == len(score) == len(key) == len(value):
        raise TrainingError(
            f"there are {len(truth)} labels, {len(score)} scores, {len(key)} groups and {len(value)} subgroup values; "
            "pass one of each per row"
        )
    return {
        name: evaluate(truth[rows], score[rows], key.iloc[rows], threshold, resamples=resamples, seed=seed)
        for name, rows in subgroup_rows(value).items()
    }


def most_wrong(
    labels: ArrayLike, scores: ArrayLike, threshold: float, most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the misclassified rows with the most extreme scores. Ties keep the order of the rows.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).
    threshold
        A row is flagged when its score is at or above this value.
    most
        Maximum number of false positives, and of false negatives.

    Returns
    -------
    tuple[NDArray[np.int64], NDArray[np.int64]]
        Indices of the false positives, highest score first, and of the false negatives, lowest score first.
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
        raise TrainingError("the threshold is NaN; pass a number")
    return float(threshold)
