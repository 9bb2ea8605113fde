"""All checks of the platform share one budget of false alarms."""

from __future__ import annotations

import pytest

from platform_assets.base.errors import PlatformError
from platform_assets.monitoring.daily.budget import days_per_check


@pytest.mark.requirement("MON-1", "MON-2")
def test_all_streams_and_checks_together_use_exactly_the_budget() -> None:
    each = days_per_check(90, 2_000, streams=6, checks=200)
    assert 6 / 2_000 + 200 / each == pytest.approx(1 / 90)


def test_the_error_for_streams_that_exceed_the_budget_names_the_setting_to_raise() -> None:
    with pytest.raises(
        PlatformError,
        match=r"PLATFORM_DRIFT_FALSE_ALARM_DAYS=500 is too low: .* set PLATFORM_DRIFT_FALSE_ALARM_DAYS to at least 675",
    ):
        days_per_check(90, 500, streams=6, checks=200)
    assert days_per_check(90, 675, streams=6, checks=200) > 0
