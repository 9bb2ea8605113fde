"""Estimates: a metric's value with its 95 % interval, from a bootstrap that resamples whole groups.

The same for every task: what is computed from the rows is handed in.
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


def grouped_bootstrap(
    metrics: Callable[[Floats | None], dict[str, float]], rows: int, groups: ArrayLike, resamples: int, seed: int
) -> dict[str, Estimate]:
    """Estimate metrics on the rows as they are, with intervals from resamples of whole groups.

    Percentile bootstrap: as many groups as there are, drawn with replacement, for rows of one group are not
    independent (Davison and Hinkley, Bootstrap Methods and their Application, 1997, 3.8).

    Parameters
    ----------
    metrics
        Metrics by name, of the rows with these weights, shape (n,); None counts each row once.
    rows
        Number of rows, n.
    groups
        Key of each row's group, shape (n,).
    resamples
        Number of resamples.
    seed
        The same seed gives the same intervals, whatever the order of the rows.

    Raises
    ------
    TrainingError
        There is not one group for each row.
    """
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
