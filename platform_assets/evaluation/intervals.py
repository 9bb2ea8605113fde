"""Metric estimates with 95 % intervals from a bootstrap over groups.

The bootstrap works for every task, because the caller passes the function that computes the metrics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.splits import group_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

RESAMPLES = 200
SEED = 20_260_103
_CONFIDENCE = 95
_COUNTS = {"rows", "positives"}


@dataclass(frozen=True)
class Estimate:
    """A metric's value and its 95 % interval.

    Attributes
    ----------
    value
        Value on the original rows; NaN if undefined.
    low
        Lower end of the interval; NaN if there is none.
    high
        Upper end of the interval; NaN if there is none.
    """

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """Return the estimate as JSON values, with None in place of NaN."""
        ends = {"value": self.value, "low": self.low, "high": self.high}
        return {name: None if math.isnan(number) else number for name, number in ends.items()}


def lower_bound(successes: float, trials: float) -> float:
    """Return the one-sided 95 % lower bound of a share (Clopper and Pearson, Biometrika 26, 1934).

    The bound is exact for independent trials: it is above the true share in at most 5 % of samples.

    Parameters
    ----------
    successes
        Number of successes, 0 to `trials`.
    trials
        Number of trials. NaN is returned for 0.
    """
    from scipy.special import betaincinv

    if not trials:
        return math.nan
    return float(betaincinv(successes, trials - successes + 1, 1 - _CONFIDENCE / 100)) if successes else 0.0


def wilson(share: Floats, size: Floats) -> tuple[Floats, Floats]:
    """Return the lower and upper bounds of 95 % Wilson intervals (Wilson, 1927), each of shape (k,)."""
    import numpy as np

    z = 1.96
    middle = (share + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * np.sqrt(share * (1 - share) / size + z**2 / (4 * size**2))
    return middle - half, middle + half


def grouped_bootstrap(
    metrics: Callable[[Floats | None], dict[str, float]], rows: int, groups: ArrayLike, resamples: int, seed: int
) -> dict[str, Estimate]:
    """Compute metrics on all rows, with intervals from a percentile bootstrap over groups.

    Each resample draws as many groups as there are, with replacement. Groups are drawn instead of rows because rows
    of one group are not independent (Davison and Hinkley, Bootstrap Methods and their Application, 1997, 3.8).

    Parameters
    ----------
    metrics
        Function that takes row weights, shape (n,), or None for weights of 1, and returns metrics by name.
    rows
        Number of rows, n.
    groups
        Group key of each row, shape (n,).
    resamples
        Number of bootstrap resamples.
    seed
        Random seed. The same seed gives the same intervals for any row order.

    Raises
    ------
    TrainingError
        The number of groups differs from the number of rows.
    """
    codes, keys = group_keys(groups)
    if len(codes) != rows:
        raise TrainingError(f"there are {len(codes)} groups for {rows} rows; pass one group per row")
    values = metrics(None)
    draws = [metrics(weights) for weights in _resampled(codes, len(keys), resamples, seed)]
    return {
        name: Estimate(value, value, value) if name in _COUNTS else _estimate(value, [draw[name] for draw in draws])
        for name, value in values.items()
    }


def _resampled(codes: NDArray[np.int64], groups: int, resamples: int, seed: int) -> Iterator[Floats]:
    import numpy as np

    if groups < 2:  # noqa: PLR2004 - every resample of one group is the same
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
