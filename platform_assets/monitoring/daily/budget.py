"""Budget of false alarms of the whole platform, and each check's share of it.

All checks of all models and tables together may raise one false alarm in `PLATFORM_FALSE_ALARM_DAYS` days. The rates of
false alarms of the checks add up, even if the checks are dependent, so each check gets a share of the budget:

- Drift is measured row by row in streams of rows. Each stream may raise one false alarm in
  `PLATFORM_DRIFT_FALSE_ALARM_DAYS` days.
- All checks get equal shares of the rest. A check divides its share among its series.
"""

from __future__ import annotations

import math

from platform_assets.base.errors import PlatformError

DRIFT_SHARE = 0.8
"""Largest share of the budget that all streams together may use."""


def days_per_check(false_alarm_days: float, drift_false_alarm_days: float, streams: int, checks: int) -> float:
    """Return the mean number of days between two false alarms of a check.

    Parameters
    ----------
    false_alarm_days
        Mean number of days between two false alarms of the whole platform.
    drift_false_alarm_days
        Mean number of days between two false alarms of each stream whose drift is measured.
    streams
        Number of streams whose drift is measured.
    checks
        Number of checks that share the rest of the budget.

    Raises
    ------
    PlatformError
        The streams use more than 80 % of the budget.
    """
    if streams * false_alarm_days > DRIFT_SHARE * drift_false_alarm_days:
        least = math.ceil(streams * false_alarm_days / DRIFT_SHARE)
        raise PlatformError(
            f"PLATFORM_DRIFT_FALSE_ALARM_DAYS={drift_false_alarm_days:g} is too low: drift checks of {streams} streams "
            f"would cause more than {DRIFT_SHARE:.0%} of the allowed false alarms "
            f"(PLATFORM_FALSE_ALARM_DAYS allows one every {false_alarm_days:g} days); "
            f"set PLATFORM_DRIFT_FALSE_ALARM_DAYS to at least {least}"
        )
    return max(checks, 1) / (1 / false_alarm_days - streams / drift_false_alarm_days)
