"""Alarms about daily values that differ from the values of earlier days."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from platform_assets.monitoring.daily.usual import FEWEST, GAP, WINDOW, judge

if TYPE_CHECKING:
    from platform_assets.monitoring.daily.usual import Floats, Judged

DAYS = WINDOW + GAP + 40
FAULT = WINDOW + GAP + 10
THRESHOLD = 10_000.0
WEEK = np.array([0.0, 0.1, 0.2, 0.1, 0.0, -2.0, -3.0])


def values(series: int = 1, spread: float = 0.1, *, weekly: bool = False) -> Floats:
    random = np.random.default_rng(5)
    found = random.normal(scale=spread, size=(DAYS, series))
    return found + WEEK[np.arange(DAYS) % 7][:, None] if weekly else found


def judged(found: Any, noise: float = 0.01, threshold: float = THRESHOLD) -> Judged:
    found = np.asarray(found, dtype=float)
    thresholds = np.full(found.shape[1], threshold)
    return judge(found, np.full(found.shape, noise), np.arange(len(found)) % 7, thresholds)


@pytest.mark.requirement("MON-1", "MON-2")
@pytest.mark.parametrize(
    ("size", "days"), [(1.5, 1), (0.7, 3), (-0.7, 3), (0.45, 6)], ids=["at once", "high", "low", "small"]
)
def test_a_lasting_change_raises_an_alarm_that_stays_open(size: float, days: int) -> None:
    found = values(50, weekly=True)
    found[FAULT:] += size
    alarms = judged(found).alarm
    assert not alarms[:FAULT].any()
    first = alarms[FAULT:].argmax(axis=0) + 1
    assert alarms[FAULT:].any(axis=0).all()
    assert np.median(first) <= days
    assert judged(found).is_open[FAULT + 6].mean() > 0.8


@pytest.mark.requirement("MON-2")
def test_a_change_that_lasts_one_day_raises_an_alarm_that_closes_again() -> None:
    found = values(20)
    found[FAULT] -= 1.2
    result = judged(found)
    assert result.alarm[FAULT].all()
    assert not result.is_open[FAULT + 4 :].any()


@pytest.mark.requirement("MON-1")
def test_series_without_changes_raise_at_most_the_budgeted_number_of_alarms() -> None:
    found = values(2_000, weekly=True)
    budget = (DAYS - GAP - FEWEST) * 2_000 / THRESHOLD
    assert judged(found).alarm.sum() <= budget


def test_weekends_are_compared_with_weekends() -> None:
    found = values(20, weekly=True)
    saturday = next(day for day in range(FAULT, DAYS) if day % 7 == 5)
    assert not judged(found).alarm[saturday].any()
    found[saturday] += 2.0  # like a weekday
    assert judged(found).alarm[saturday].all()


def test_false_alarms_of_autocorrelated_series_stay_within_the_budget() -> None:
    random = np.random.default_rng(2)
    found = np.zeros((DAYS, 500))
    for day in range(1, DAYS):
        found[day] = 0.3 * found[day - 1] + random.normal(size=500)
    assert judged(found).alarm.sum() <= DAYS * 500 / THRESHOLD


def test_missing_values_and_short_histories_give_no_evidence() -> None:
    found = values(3)
    found[FAULT:] += 5
    found[:, 0] = np.nan
    found[: FAULT - FEWEST + 1, 1] = np.nan
    result = judged(found)
    assert not result.alarm[:, 0].any()
    assert not result.alarm[: FAULT + GAP, 1].any()
    assert result.alarm[FAULT, 2]
    assert np.isfinite(result.evidence).all()


@pytest.mark.parametrize(("noise", "alarm"), [(0.5, False), (0.001, True)])
def test_a_change_in_a_constant_series_raises_an_alarm_if_it_exceeds_the_noise(noise: float, alarm: bool) -> None:
    found = np.ones((DAYS, 1))
    found[FAULT:] = 1.1
    assert judged(found, noise).alarm.any() == alarm
