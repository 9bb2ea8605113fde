"""Evidence that a stream of batches no longer resembles the training rows, within a budget of false alarms.

The test is a betting test. `rulers.py` converts the values of a column to scores between 0 and 1, whose means over the
training rows are known. For each new value, the test bets that the mean of a score lies outside its tolerated range.
The capital that the bets have won is the test statistic, called evidence. Its unit is days: each batch adds the
days since the previous batch, at most `LONGEST_PAUSE`, to the capital. Without drift, the expected capital after t days
is therefore at most t. docs/monitoring.md explains how the budget is computed.

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

If the score is the rank of a normally distributed feature, a shift of the feature by 0.09 standard deviations causes
this deviation.
"""
REFERENCE_ERROR = 0.01
"""Probability that the sampling error of the training rows is larger than the tolerances allow."""
LONGEST_PAUSE = 1.0
"""Maximum number of days of budget for one batch. A batch after a longer pause gets no more."""
_STAKES = (0.9, 0.3, 0.1, 0.033)
"""Stakes of the bets, as shares of the largest possible stake.

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
        Test statistic after the batch: the capital that the bets have won, in days (see the docstring of the module).
        It is at most e^700, to avoid an overflow.
    threshold
        Smallest evidence that raises an alarm.
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
    """Detector that collects evidence about one column, batch by batch.

    Parameters
    ----------
    ruler
        Scores of the column.
    columns
        Number of columns that share the budget.
    false_alarm_days
        Mean number of days between two false alarms of the stream.
    capital
        Result of `stored` of an earlier detector for the same column and training rows; None to start without capital.
    """

    def __init__(self, ruler: Ruler, columns: int, false_alarm_days: float, capital: bytes | None = None) -> None:
        import numpy as np

        self._ruler = ruler
        self._threshold = false_alarm_days * columns
        self._low, self._high = tolerances(ruler, REFERENCE_ERROR / columns)
        # Compute stakes of shape (stakes, scores). The largest possible stake, `1 / high` or `1 / (1 - low)`, could
        # lose the whole capital on a single value.
        stakes = np.array(_STAKES)[:, None]
        self._up, self._down = stakes / self._high, stakes / (1 - self._low)
        self._weights = np.log(np.tile(ruler.weights / 2 / len(_STAKES), (2, len(_STAKES), 1)))
        shape = self._weights.shape
        if capital is None:
            self._capital = np.full(shape, -np.inf)
        else:
            self._capital = np.frombuffer(capital).reshape(shape).copy()

    def stored(self) -> bytes:
        """Return the logarithm of each bet's capital, as bytes to store."""
        return self._capital.tobytes()

    def add(self, values: Any, days: float) -> Found:
        """Add the evidence of a batch, and return the result. An alarm resets the capital.

        Parameters
        ----------
        values
            Values of the column, at least one, in the form that the ruler expects.
        days
            Number of days since the last batch of the stream. This is the batch's budget, up to `LONGEST_PAUSE`.
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
        """Return the log gains of the bets, the sums of the numeric scores, and the number of rows per code."""
        import numpy as np

        numbers = self._ruler.numbers
        gains, sums = np.zeros(self._weights.shape), np.zeros(numbers)
        codes = np.zeros(len(self._ruler.means) - numbers)
        up, down, low, high = (one[..., :numbers] for one in (self._up, self._down, self._low, self._high))
        for start in range(0, len(values), _ROWS_AT_ONCE):
            scores, places = self._ruler.scores(values[start : start + _ROWS_AT_ONCE])
            # Use `nansum`, because a missing value must not change the capital.
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
    """Return the lower and upper bounds of the tolerated range of each score's mean, two arrays (scores,).

    The training rows are a sample from a distribution. With probability `1 - error`, the ranges of all scores contain
    the scores' means over this distribution. A range extends at least `FLOOR` to both sides of the mean over the
    training rows.

    Parameters
    ----------
    ruler
        Scores, and their means over the training rows.
    error
        Probability that at least one range does not contain its score's mean. It is divided among the scores in
        proportion to their weights.
    """
    import numpy as np
    from scipy import stats

    numbers, means, size = ruler.numbers, ruler.means, ruler.rows
    tails = error * ruler.weights / 2
    # Use the normal approximation, because a mean of ranks is almost normal even for few rows. Ranks without ties are
    # uniform, and tied ranks vary less, so the variance of a uniform distribution is an upper bound for both.
    spread = np.sqrt(np.maximum(ruler.variances[:numbers], _VARIANCE_OF_RANK) / np.maximum(ruler.present, 1))
    reach = stats.norm.isf(tails[:numbers]) * spread
    # Use the intervals of Clopper and Pearson, 1934. If a share is 0 or 1, one bound is undefined; use 0 or 1 for it.
    counts = np.rint(means[numbers:] * size)
    least = np.nan_to_num(stats.beta.ppf(tails[numbers:], counts, size - counts + 1), nan=0.0)
    most = np.nan_to_num(stats.beta.isf(tails[numbers:], counts + 1, size - counts), nan=1.0)
    low = np.concatenate([means[:numbers] - reach, least])
    high = np.concatenate([means[:numbers] + reach, most])
    return np.clip(np.minimum(low, means - FLOOR), 0, 1 - FLOOR), np.clip(np.maximum(high, means + FLOOR), FLOOR, 1)
