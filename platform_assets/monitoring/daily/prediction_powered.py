"""Estimate of a mean loss from few labels and many predictions, with a valid confidence interval.

The model itself estimates the loss of each prediction. The mean of these estimates over all predictions has a low
variance but may be biased; the labelled predictions correct the bias. The estimates are weighted so that the interval
is not wider than an interval from the labels alone.

Source: Angelopoulos, Duchi and Zrnic, "PPI++: Efficient Prediction-Powered Inference", 2023,
https://arxiv.org/abs/2311.01453.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.evaluation.intervals import Estimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_NORMAL = 1.959964
_FEWEST = 20
"""Smallest number of labels for which the normal approximation of the interval is used."""


@dataclass(frozen=True)
class Proxy:
    """Number, mean and variance of the losses that the model estimates for all its predictions."""

    rows: int
    mean: float
    variance: float


def from_labels(losses: Floats) -> Estimate:
    """Return the mean loss of labelled predictions with its 95 % interval; NaN bounds with fewer than 20 labels."""
    if len(losses) < _FEWEST:
        return Estimate(float(losses.mean()) if len(losses) else math.nan, math.nan, math.nan)
    half = _NORMAL * math.sqrt(float(losses.var(ddof=1)) / len(losses))
    return _around(float(losses.mean()), half)


def prediction_powered(losses: Floats, estimated: Floats, every: Proxy) -> Estimate:
    """Return the mean loss of all predictions with its 95 % interval; NaN bounds with fewer than 20 labels.

    The result is valid only if the labelled predictions resemble a random sample of all predictions.

    Parameters
    ----------
    losses
        Losses of the labelled predictions, (n,).
    estimated
        The model's estimates of the same losses, (n,), made without the labels.
    every
        The model's estimates of the losses of all predictions.
    """
    import numpy as np

    labels = len(losses)
    spread = float(estimated.var(ddof=1)) if labels >= _FEWEST else 0.0
    if spread == 0.0 or not every.rows:
        return from_labels(losses)
    weight = float(np.cov(losses, estimated)[0, 1]) / (spread * (1 + labels / every.rows))
    weight = min(max(weight, 0.0), 1.0)
    mean = float(losses.mean()) + weight * (every.mean - float(estimated.mean()))
    variance = float((losses - weight * estimated).var(ddof=1)) / labels + weight**2 * every.variance / every.rows
    return _around(mean, _NORMAL * math.sqrt(variance))


def _around(mean: float, half: float) -> Estimate:
    """Return an interval around the mean of a loss between 0 and 1."""
    return Estimate(min(max(mean, 0.0), 1.0), max(mean - half, 0.0), min(mean + half, 1.0))
