"""Metrics of regression models with intervals: for one model, for the difference of two models, and by subgroup.

Bootstrap intervals resample groups. For a time series, a group is a block of consecutive rows, such as a day, because
the errors of neighbouring rows are not independent (block bootstrap: Carlstein, Annals of Statistics 14, 1986).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.intervals import RESAMPLES, SEED, Estimate, grouped_bootstrap
from platform_assets.evaluation.judged import subgroup_rows
from platform_assets.evaluation.regression_metrics import Errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from platform_assets.evaluation.judged import Judged

    Floats = NDArray[np.float64]


def evaluate(
    judged: Judged, baselines: Sequence[str], *, resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Estimate]:
    """Compute all metrics, each with a 95 % interval.

    Parameters
    ----------
    judged
        The rows, with labels and predictions.
    baselines
        Columns with the values of baselines. Columns that the rows do not have are ignored.
    resamples
        Number of bootstrap resamples.
    seed
        Random seed. The same seed gives the same intervals for any row order.

    Raises
    ------
    TrainingError
        A label or value is not finite, or a group is missing.
    """
    errors = errors_of(judged, baselines)
    return grouped_bootstrap(errors.metrics, len(errors), judged.groups, resamples, seed)


def compare(
    challenger: Judged, champion: Judged, baselines: Sequence[str], *, resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Estimate]:
    """Compute challenger minus champion for all metrics that both have, with 95 % intervals.

    The comparison is paired: both models are evaluated on the same rows and the same bootstrap resamples.

    Raises
    ------
    TrainingError
        The numbers of rows differ, a label or value is not finite, or a group is missing.
    """
    ours, theirs = errors_of(challenger, baselines), errors_of(champion, baselines)
    if len(ours) != len(theirs):
        raise TrainingError(
            f"the challenger predicts {len(ours)} rows and the champion {len(theirs)}; pass predictions for the same "
            "rows"
        )

    def differences(weights: Floats | None) -> dict[str, float]:
        own, other = ours.metrics(weights), theirs.metrics(weights)
        return {name: own[name] - other[name] for name in own if name in other}

    return grouped_bootstrap(differences, len(ours), challenger.groups, resamples, seed)


def by_subgroup(
    judged: Judged, baselines: Sequence[str], values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, dict[str, Estimate]]:
    """Run `evaluate` separately on the rows of each subgroup.

    Parameters
    ----------
    judged, baselines, resamples, seed
        As for `evaluate`.
    values
        Subgroup of each row, (n,).
    """
    return {
        name: evaluate(judged.only(rows), baselines, resamples=resamples, seed=seed)
        for name, rows in subgroup_rows(values).items()
    }


def most_wrong(judged: Judged, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of the largest overestimates, and those of the largest underestimates.

    Each array has at most `most` indices, the largest error first. Ties keep the order of the rows.
    """
    import numpy as np

    errors = judged.scores - judged.labels
    rising = np.argsort(errors, kind="stable")
    falling = np.argsort(-errors, kind="stable")
    return falling[errors[falling] > 0][:most], rising[errors[rising] < 0][:most]


def errors_of(judged: Judged, baselines: Sequence[str]) -> Errors:
    """Return the prediction errors of the model, and of each baseline whose column exists."""
    known = {name: judged.examples[name] for name in baselines if name in judged.examples.columns}
    return Errors(judged.labels, judged.found, known)
