"""Evidence that a stream of batches no longer resembles the training rows, within a budget of false alarms.

`rulers.py` turns the values of a column into scores between 0 and 1, whose means over the training rows are known. The
evidence is the capital of a bettor who bets on every new value that the mean of a score lies outside its tolerance.
docs/monitoring.md explains the budget and its arithmetic.

Sources: Waudby-Smith and Ramdas, 2024, https://arxiv.org/abs/2010.09686, for bets on means of bounded values; Shin,
Ramdas and Rinaldo, "E-detectors", 2023, https://arxiv.org/abs/2203.03532, for adding capital with each batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.monitoring.drift.rulers import Ruler

    Floats = NDArray[np.float64]

FLOOR = 0.025
"""Smallest deviation of a score's mean that counts as drift.

For the rank of a normally distributed feature, this deviation is caused by a shift of 0.09 standard deviations.
"""
REFERENCE_ERROR = 0.01
"""Probability that the tolerances do not cover the sampling error of the training rows."""
LONGEST_PAUSE = 1.0
"""Maximum number of days of budget that one batch can spend, even after a longer pause."""
_STAKES = (0.9, 0.3, 0.1, 0.033)
"""Stakes, as shares of the largest possible stake.

Small stakes detect small shifts in many rows. Large stakes detect large shifts in few rows.
"""
_ROWS_AT_ONCE = 50_000
_VARIANCE_OF_RANK = 1 / 12


@dataclass(frozen=True)
class Found:
    """Drift of one column in one batch.

    Attributes
    ----------
    effect
        Distance between the distributions of the batch and of the training rows, from 0 to 1.
    evidence
        Capital after the batch, in days. Capped near the largest float.
    threshold
        Capital at which an alarm is raised.
    told
        Description of the deviation with the most evidence.
    """

    effect: float
    evidence: float
    threshold: float
    told: str

    @property
    def alarm(self) -> bool:
        """Whether the evidence reached the threshold."""
        return self.evidence >= self.threshold


class ColumnDetector:
    """Collects evidence about one column, batch by batch.

    Parameters
    ----------
    ruler
        Scores of the column.
    columns
        Number of columns that share the budget.
    false_alarm_days
        Days in which the stream may have one false alarm on average.
    capital
        Result of `stored` of an earlier detector for the same column and training rows; None to start.
    """

    def __init__(self, ruler: Ruler, columns: int, false_alarm_days: float, capital: bytes | None = None) -> None:
        import numpy as np

        self._ruler = ruler
        self._threshold = false_alarm_days * columns
        self._low, self._high = tolerances(ruler, REFERENCE_ERROR / columns)
        # Shape (stakes, scores). The largest stake could lose the whole capital on a single value.
        stakes = np.array(_STAKES)[:, None]
        self._up, self._down = stakes / self._high, stakes / (1 - self._low)
        self._weights = np.log(np.tile(ruler.weights / 2 / len(_STAKES), (2, len(_STAKES), 1)))
        shape = self._weights.shape
        if capital is None:
            self._capital = np.full(shape, -np.inf)
        else:
            self._capital = np.frombuffer(capital).reshape(shape).copy()

    def stored(self) -> bytes:
        """Return the logarithms of the capital of each bet."""
        return self._capital.tobytes()

    def add(self, values: Any, days: float) -> Found:
        """Add a batch. An alarm resets the capital.

        Parameters
        ----------
        values
            Values of the column, in the form that the ruler expects; at least one.
        days
            Days since the last batch of the stream. They are the budget that this batch may spend.
        """
        import numpy as np
        from scipy.special import logsumexp

        gains, sums, codes = self._gains(values)
        with np.errstate(divide="ignore"):
            started = np.logaddexp(self._capital, np.log(min(days, LONGEST_PAUSE)))
        self._capital = started + gains
        parts = self._capital + self._weights
        total = float(logsumexp(parts)) if np.isfinite(parts).any() else -math.inf
        direction, _, score = np.unravel_index(int(np.argmax(parts)), parts.shape)
        means = np.concatenate([sums, codes]) / len(values)
        found = Found(
            effect=self._ruler.distance(values),
            evidence=math.exp(min(total, 700.0)),
            threshold=self._threshold,
            told=self._told(int(score), float(means[score]), above=direction == 0),
        )
        if found.alarm:
            self._capital = np.full(self._capital.shape, -np.inf)
        return found

    def _gains(self, values: Any) -> tuple[Floats, Floats, Floats]:
        """Return the log gain of each bet, the sum of each numeric score, and the number of rows with each code."""
        import numpy as np

        numbers = self._ruler.numbers
        gains, sums = np.zeros(self._weights.shape), np.zeros(numbers)
        codes = np.zeros(len(self._ruler.means) - numbers)
        up, down, low, high = (one[..., :numbers] for one in (self._up, self._down, self._low, self._high))
        for start in range(0, len(values), _ROWS_AT_ONCE):
            scores, places = self._ruler.scores(values[start : start + _ROWS_AT_ONCE])
            # A missing value does not change the capital.
            gains[0, :, :numbers] += np.nansum(np.log1p(up * (scores[:, None] - high)), axis=0)
            gains[1, :, :numbers] += np.nansum(np.log1p(down * (low - scores[:, None])), axis=0)
            sums += np.where(np.isnan(scores), self._ruler.means[:numbers], scores).sum(axis=0)
            codes += np.bincount(places, minlength=len(codes))[: len(codes)]
        up, down, low, high = (one[..., numbers:] for one in (self._up, self._down, self._low, self._high))
        others = len(values) - codes
        gains[0, :, numbers:] = codes * np.log1p(up * (1 - high)) + others * np.log1p(-up * high)
        gains[1, :, numbers:] = codes * np.log1p(down * (low - 1)) + others * np.log1p(down * low)
        return gains, sums, codes

    def _told(self, score: int, mean: float, *, above: bool) -> str:
        side, low, high = "above" if above else "below", self._low[score], self._high[score]
        return f"{self._ruler.names[score]} is {mean:.3f}, {side} the tolerated range of {low:.3f} to {high:.3f}"


def tolerances(ruler: Ruler, error: float) -> tuple[Floats, Floats]:
    """Return the lower and upper end of the range that each score's mean may have, two arrays (scores,).

    The training rows are a sample of a distribution. With probability `1 - error`, all ranges contain the mean over
    this distribution. A range extends at least `FLOOR` to both sides of the mean over the training rows.

    Parameters
    ----------
    ruler
        Scores, and their means over the training rows.
    error
        Probability that a range does not contain this mean, divided among the scores by their weights.
    """
    import numpy as np
    from scipy import stats

    numbers, means, size = ruler.numbers, ruler.means, ruler.rows
    tails = error * ruler.weights / 2
    # Normal approximation: a mean of ranks is almost normal even for few rows. Ranks are uniform; with
    # ties, they vary less.
    spread = np.sqrt(np.maximum(ruler.variances[:numbers], _VARIANCE_OF_RANK) / np.maximum(ruler.present, 1))
    reach = stats.norm.isf(tails[:numbers]) * spread
    # Clopper and Pearson, 1934. If the share is 0 or 1, their formula is undefined and the range ends at the share.
    counts = np.rint(means[numbers:] * size)
    least = np.nan_to_num(stats.beta.ppf(tails[numbers:], counts, size - counts + 1), nan=0.0)
    most = np.nan_to_num(stats.beta.isf(tails[numbers:], counts + 1, size - counts), nan=1.0)
    low = np.concatenate([means[:numbers] - reach, least])
    high = np.concatenate([means[:numbers] + reach, most])
    return np.clip(np.minimum(low, means - FLOOR), 0, 1 - FLOOR), np.clip(np.maximum(high, means + FLOOR), FLOOR, 1)
