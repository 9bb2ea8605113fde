"""Evidence that a daily value differs from the earlier values of its series, within a budget of false alarms.

Each value is predicted from earlier values. The predicted mean is the mean of earlier values on the same weekday, and
the predicted standard deviation is that of the earlier values around their weekdays' means. The deviation of the value
from the prediction is converted to a p-value, and the p-value to an e-value. The e-values of consecutive days are
multiplied.

Half of the budget is for alarms about single days, which are raised if one p-value is very small.

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
"""Maximum number of earlier values with which a value is compared."""
GAP = 7
"""Number of values before the tested value that are left out of the comparison.

Without this gap, the first values during a fault would soon shift the mean with which later values are compared.
"""
FEWEST = 28
"""Minimum number of earlier values for a test. With fewer values, there would be too many false alarms."""
TAIL = 6
"""Degrees of freedom of Student's t-distribution. Its heavy tails allow for outliers that are not faults."""
CORRELATION = 0.05
"""Amount added to the estimated correlation between consecutive days, because the estimate can be too low."""
MOST_CORRELATION = 0.8
CALIBRATORS = (0.1, 0.4, 0.7)
"""Values of `k` in the e-value `k * p ** (k - 1)`. A small `k` detects large deviations; a large `k`, small ones."""
AT_ONCE = 0.5
"""Share of the budget for alarms about the deviation of a single day."""
WEEK = 7


@dataclass(frozen=True, eq=False)
class Judged:
    """Results for each value of one or more series.

    Attributes
    ----------
    evidence
        Test statistic after each day, (days, series). Its unit is days, because the threshold is the mean number of
        days between two false alarms.
    alarm
        True if the evidence reached the threshold on the day, (days, series).
    is_open
        True from an alarm until the first day whose value is not evidence of a change, (days, series).
    """

    evidence: Floats
    alarm: Bools
    is_open: Bools


def judge(values: Floats, noise: Floats, weekdays: NDArray[np.int64], thresholds: Floats) -> Judged:
    """Test each value against the values before it.

    Parameters
    ----------
    values
        Values, (days, series), on a scale where increases and decreases are equally likely; NaN for a missing value.
    noise
        Minimum standard deviation to assume for each value, (days, series): the larger of its sampling error and a
        negligible change.
    weekdays
        Weekday of each day, 0 to 6, (days,).
    thresholds
        Mean number of days between two false alarms, (series,).
    """
    return judge_deviations(*deviations(values, noise, weekdays), thresholds)


def judge_deviations(alone: Floats, combined: Floats, thresholds: Floats) -> Judged:
    """Test deviations. `alone` and `combined` are the results of `deviations`; `thresholds` is as for `judge`."""
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
    """Return each value's deviation from its prediction, in standard deviations; NaN for values that are not tested.

    Returns
    -------
    alone
        Deviations for tests of single days, (days, series).
    combined
        Deviations for evidence that is combined over days, (days, series). They are smaller if consecutive days are
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

    Without a change, deviations are assumed to follow Student's t-distribution, scaled to variance 1.
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
        Predicted mean and standard deviation, (series,).
    factor
        Factor by which the correlation of consecutive days increases the standard deviation, (series,).
    count
        Number of values from which the mean was computed, (series,); 0 if there are too few values for a test.
    """
    import numpy as np

    known = ~np.isnan(earlier)
    filled = np.where(known, earlier, 0.0)
    total = known.sum(axis=0)
    in_week = (weekdays[:, None] == np.arange(WEEK)).astype(float)
    counts = in_week.T @ known
    with np.errstate(invalid="ignore", divide="ignore"):
        overall = filled.sum(axis=0) / total
        # If there are no values for the weekday, use the mean over all weekdays.
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
    """Return the e-values of each day, (days, 2, calibrators, series); 1 for values that are not tested.

    Each calibrator gives two e-values: evidence that the value is too high, and evidence that it is too low.
    """
    import numpy as np
    from scipy import special

    scaled = combined * np.sqrt(TAIL / (TAIL - 2))
    # `stdtr` is the distribution function of Student's t-distribution. The minimum of 1e-15 limits a day's e-value.
    p = np.maximum(special.stdtr(TAIL, np.stack([-scaled, scaled], axis=1)), 1e-15)[:, :, None, :]
    exponents = np.array(CALIBRATORS)[:, None]
    found: Floats = np.where(np.isnan(p), 1.0, exponents * p ** (exponents - 1))
    return found
