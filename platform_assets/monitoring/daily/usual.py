"""Evidence that a daily value differs from the earlier values of its series, within a budget of false alarms.

Each value is predicted from earlier values: the mean of the same weekday, with the spread of the days around this
mean. The prediction gives a p-value, the p-value gives an e-value, and the e-values of consecutive days are multiplied.
Half of the budget is for p-values so small that a single day raises the alarm.

Sources: Vovk and Wang, "E-values: calibration, combination and applications", 2021, https://arxiv.org/abs/1912.06116,
for e-values from p-values; Shin, Ramdas and Rinaldo, "E-detectors", 2023, https://arxiv.org/abs/2203.03532, for adding
capital every day. docs/monitoring.md compares the alternatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

WINDOW = 56
"""Number of earlier values that a value is compared with."""
GAP = 7
"""Number of newest values excluded from the comparison, so that a new fault does not shift its own baseline."""
FEWEST = 28
"""Smallest number of earlier values needed to test a value. With fewer, there are too many false alarms."""
TAIL = 6
"""Degrees of freedom of Student's t-distribution. Its heavy tails allow for outliers that are not faults."""
CORRELATION = 0.05
"""Added to the estimated correlation between consecutive days, to allow for the error of the estimate."""
MOST_CORRELATION = 0.8
CALIBRATORS = (0.1, 0.4, 0.7)
"""Exponents of the e-values `k * p ** (k - 1)`. Small exponents suit large deviations, large exponents small ones."""
AT_ONCE = 0.5
"""Share of the budget for deviations so large that a single day raises the alarm."""
WEEK = 7


@dataclass(frozen=True, eq=False)
class Judged:
    """Results for each value of one or more series.

    Attributes
    ----------
    evidence
        (days, series) evidence after each day, in days.
    alarm
        (days, series) True if the evidence reached the threshold.
    is_open
        (days, series) True from an alarm until the first day whose value is not evidence of a change.
    """

    evidence: Floats
    alarm: Bools
    is_open: Bools


def judge(values: Floats, noise: Floats, weekdays: NDArray[np.int64], thresholds: Floats) -> Judged:
    """Test each value against the values before it.

    Parameters
    ----------
    values
        (days, series) values on a scale where deviations are symmetric; NaN for a missing value.
    noise
        (days, series) smallest standard deviation to assume for a value: its sampling error, or a negligible change.
    weekdays
        (days,) weekday of each day, 0 to 6.
    thresholds
        (series,) mean number of days between two false alarms.
    """
    return judge_deviations(*deviations(values, noise, weekdays), thresholds)


def judge_deviations(alone: Floats, combined: Floats, thresholds: Floats) -> Judged:
    """Test the deviations that `deviations` returned; see `judge` for `thresholds`."""
    import numpy as np

    days, series = alone.shape
    at_once = np.abs(alone) >= limit(AT_ONCE / thresholds)
    gains = _gains(combined)
    capital = np.zeros(gains.shape[1:])
    evidence, alarm, is_open = np.zeros((days, series)), np.zeros((days, series), bool), np.zeros((days, series), bool)
    opened = np.zeros(series, bool)
    for day in range(days):
        capital = (capital + 1) * gains[day]
        evidence[day] = np.where(at_once[day], thresholds, 0) + (1 - AT_ONCE) * capital.mean(axis=(0, 1))
        alarm[day] = evidence[day] >= thresholds
        capital[..., alarm[day]] = 0
        opened = alarm[day] | (opened & (gains[day].mean(axis=(0, 1)) > 1))
        is_open[day] = opened
    return Judged(evidence, alarm, is_open)


def deviations(values: Floats, noise: Floats, weekdays: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return how far each value is from its prediction, in standard deviations; NaN where it is not tested.

    Returns
    -------
    alone
        (days, series) deviations for tests of single days.
    combined
        (days, series) deviations for evidence that is combined over days. They are smaller if consecutive days are
        correlated, because correlated days carry less information than independent days.
    """
    import numpy as np

    days, series = values.shape
    alone, combined = np.full((days, series), np.nan), np.full((days, series), np.nan)
    for day in range(days):
        end = day - GAP
        if end >= FEWEST:
            earlier = slice(max(end - WINDOW, 0), end)
            mean, spread, factor, count = _prediction(values[earlier], weekdays[earlier], int(weekdays[day]))
            spread = np.maximum(spread, noise[day]) * np.sqrt(1 + 1 / np.maximum(count, 1))
            alone[day] = np.where(count > 0, (values[day] - mean) / spread, np.nan)
            combined[day] = alone[day] / factor
    return alone, combined


def limit(probability: Floats | float) -> Floats:
    """Return the absolute deviation that is exceeded with this probability if the values have not changed.

    Usual deviations follow Student's distribution, scaled to the variance 1.
    """
    import numpy as np
    from scipy import stats

    found: Floats = stats.t.isf(np.asarray(probability) / 2, TAIL) * np.sqrt((TAIL - 2) / TAIL)
    return found


def _prediction(earlier: Floats, weekdays: NDArray[np.int64], weekday: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Predict the values on a weekday from earlier values.

    Returns
    -------
    mean, spread
        (series,) predicted mean and standard deviation.
    factor
        (series,) factor by which the correlation of consecutive days widens the spread.
    count
        (series,) number of values from which the mean was computed; 0 if there are too few values to test.
    """
    import numpy as np

    known = ~np.isnan(earlier)
    filled = np.where(known, earlier, 0.0)
    total = known.sum(axis=0)
    in_week = (weekdays[:, None] == np.arange(WEEK)).astype(float)
    counts = in_week.T @ known
    with np.errstate(invalid="ignore", divide="ignore"):
        overall = filled.sum(axis=0) / total
        # A weekday without values is predicted from the other weekdays.
        means = np.where(counts > 0, in_week.T @ filled / counts, overall)
        rest = np.where(known, earlier - means[weekdays], 0.0)
        squares = (rest**2).sum(axis=0)
        spread = np.sqrt(squares / np.maximum(total - WEEK, 1))
        found = (rest[1:] * rest[:-1]).sum(axis=0) / squares
    correlation = np.clip(np.nan_to_num(found) + CORRELATION, 0, MOST_CORRELATION)
    count = np.where(counts[weekday] > 0, counts[weekday], total)
    factor = np.sqrt((1 + correlation) / (1 - correlation))
    return means[weekday], spread, factor, np.where(total >= FEWEST, count, 0)


def _gains(combined: Floats) -> Floats:
    """Return the e-values of each day, (days, 2, calibrators, series); 1 where a value is not tested.

    Each calibrator gives two e-values: one for values that are too high, one for values that are too low.
    """
    import numpy as np
    from scipy import special

    scaled = combined * np.sqrt(TAIL / (TAIL - 2))
    # `stdtr` is the distribution function of Student's t-distribution. The minimum of 1e-15 limits a day's e-value.
    p = np.maximum(special.stdtr(TAIL, np.stack([-scaled, scaled], axis=1)), 1e-15)[:, :, None, :]
    exponents = np.array(CALIBRATORS)[:, None]
    found: Floats = np.where(np.isnan(p), 1.0, exponents * p ** (exponents - 1))
    return found
