"""False alarms and detection rates of the drift detectors, measured on simulated batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.monitoring.drift.evidence import FLOOR, ColumnDetector, tolerances
from platform_assets.monitoring.drift.rulers import CategoryRuler, NumberRuler
from platform_assets_tests.monitoring.drift.densities import (
    FALSE_ALARM_DAYS,
    TRAINING_ROWS,
    Watch,
    demo_history,
    fitted_to,
    watch,
)

if TYPE_CHECKING:
    from pathlib import Path

HISTORY, NEW = "sensor/historical_sensor_data.csv", "sensor/real_sensor_data.csv"
SENSORS = ["sensor_1", "sensor_2"]
SHIFTS = {"one sensor": (0.3, 0.0), "other sensor": (0.0, 0.3), "both": (0.3, 0.3), "opposite": (0.3, -0.3)}


def false_alarms(history: np.ndarray, batches: int, seed: int) -> int:
    """Return the number of alarms in daily batches of 20 to 2,000 readings without drift."""
    draw, random = fitted_to(history, seed), np.random.default_rng([seed, 1])
    detectors = watch(draw)
    return sum(bool(detectors.alarms(draw(int(random.integers(20, 2_001))))) for _ in range(batches))


@pytest.mark.requirement("SEN-8")
def test_false_alarms_stay_within_the_budget() -> None:
    assert sum(false_alarms(demo_history(), 100, seed) for seed in range(2)) <= 200 / FALSE_ALARM_DAYS


@pytest.mark.release
@pytest.mark.slow
@pytest.mark.requirement("SEN-8")
@pytest.mark.parametrize("seed", range(3))
def test_false_alarms_in_a_thousand_batches_stay_within_the_budget(real_data: Path, seed: int) -> None:
    history = pd.read_csv(real_data / HISTORY)[SENSORS].to_numpy()
    assert false_alarms(history, 1_000, seed) <= 1_000 / FALSE_ALARM_DAYS


@pytest.mark.requirement("SEN-8")
def test_the_new_readings_in_the_real_data_set_raise_an_alarm(real_data: Path) -> None:
    history = pd.read_csv(real_data / HISTORY)[SENSORS].to_numpy()
    history = np.random.default_rng(0).permutation(history)
    detectors = Watch(history[:TRAINING_ROWS], history[TRAINING_ROWS:])
    new = pd.read_csv(real_data / NEW)[SENSORS].to_numpy()
    assert detectors.alarms(new) == ["sensor_1", "sensor_2", "together"]


def power(history: np.ndarray, shift: tuple[float, float], within: int, trials: int) -> float:
    """Return the share of trials in which a shift is detected within `within` batches of 200 readings.

    Each trial begins with four batches without drift.
    """
    found = 0
    for seed in range(trials):
        draw = fitted_to(history, 100 + seed)
        detectors = watch(draw)
        for _ in range(4):
            detectors.alarms(draw(200))
        found += detectors.first_alarm(draw(200) + shift for _ in range(within)) is not None
    return found / trials


@pytest.mark.requirement("SEN-8")
@pytest.mark.parametrize(("shift", "within"), [("one sensor", 8), ("both", 3)])
def test_a_shift_is_detected_within_a_few_batches(shift: str, within: int) -> None:
    assert power(demo_history(), SHIFTS[shift], within, trials=10) >= 0.9


@pytest.mark.release
@pytest.mark.slow
@pytest.mark.requirement("SEN-8")
@pytest.mark.parametrize(("shift", "within"), [("one sensor", 6), ("other sensor", 6), ("both", 2), ("opposite", 3)])
def test_the_detection_rates_stated_in_the_documentation_are_reached(real_data: Path, shift: str, within: int) -> None:
    history = pd.read_csv(real_data / HISTORY)[SENSORS].to_numpy()
    assert power(history, SHIFTS[shift], within, trials=100) >= 0.9


@pytest.mark.requirement("SEN-8")
def test_a_shift_within_the_minimum_tolerance_raises_no_alarm_even_with_many_rows() -> None:
    random = np.random.default_rng(3)
    detector = ColumnDetector(NumberRuler(random.normal(size=100_000)), 1, FALSE_ALARM_DAYS)
    found = [detector.add(random.normal(0.06, size=100_000), 1.0) for _ in range(4)]
    assert max(one.evidence for one in found) < 5
    assert detector.add(random.normal(0.2, size=5_000), 1.0).alarm


@given(
    low=st.floats(0, 1), high=st.floats(0, 1), share=st.floats(0, 1), rows=st.integers(10, 400), seed=st.integers(0, 9)
)
def test_the_expected_gain_of_a_bet_is_not_positive_inside_the_tolerance(
    low: float, high: float, share: float, rows: int, seed: int
) -> None:
    ruler = NumberRuler(np.random.default_rng(seed).normal(size=rows))
    detector = ColumnDetector(ruler, 3, FALSE_ALARM_DAYS)
    # A score is `high` with probability `share`, and otherwise `low`. If the mean score is inside the tolerance, the
    # expected capital must not grow.
    mean = share * high + (1 - share) * low
    least, most = detector._low, detector._high
    tolerated = (least <= mean) & (mean <= most)
    for stake, sign, end in ((detector._up, 1, most), (detector._down, -1, least)):
        gains = [1 + stake * sign * (value - end) for value in (low, high)]
        assert min(gain.min() for gain in gains) > 0
        expected = share * gains[1] + (1 - share) * gains[0]
        assert (expected[:, tolerated] <= 1 + 1e-12).all()


def test_tolerances_cover_the_error_of_the_training_sample() -> None:
    random, missed = np.random.default_rng(0), 0
    for _ in range(300):
        ruler = NumberRuler(random.normal(size=150))
        scores, codes = ruler.scores(random.normal(size=20_000))
        means = np.concatenate([scores.mean(axis=0), np.bincount(codes, minlength=len(ruler.names) - 2) / len(codes)])
        low, high = tolerances(ruler, 0.05)
        missed += bool(((means < low) | (means > high)).any())
    # At most 15 misses are expected. The probability of more than 29 misses is less than 0.1 %.
    assert missed <= 29


def test_evidence_does_not_depend_on_how_rows_are_divided_into_batches() -> None:
    random = np.random.default_rng(0)
    ruler, rows = NumberRuler(random.normal(size=1_000)), random.normal(0.25, size=300)
    whole, parts = (ColumnDetector(ruler, 4, FALSE_ALARM_DAYS) for _ in range(2))
    at_once = whole.add(rows, 1.0).evidence
    one_by_one = [parts.add(part, 1.0 if number == 0 else 0.0) for number, part in enumerate(np.split(rows, 100))]
    assert one_by_one[-1].evidence == pytest.approx(at_once)


def test_a_detector_continues_with_stored_evidence() -> None:
    random = np.random.default_rng(0)
    ruler = NumberRuler(random.normal(size=1_000))
    batches = [random.normal(0.2, size=50) for _ in range(6)]
    straight = ColumnDetector(ruler, 4, FALSE_ALARM_DAYS)
    expected = [straight.add(batch, 0.5) for batch in batches]
    capital, found = None, []
    for batch in batches:
        detector = ColumnDetector(ruler, 4, FALSE_ALARM_DAYS, capital)
        found.append(detector.add(batch, 0.5))
        capital = detector.stored()
    assert found == expected


def test_a_long_pause_adds_no_more_budget_than_one_day() -> None:
    ruler = NumberRuler(np.random.default_rng(0).normal(size=500))
    batch = np.random.default_rng(1).normal(size=30)
    day, year = (ColumnDetector(ruler, 1, FALSE_ALARM_DAYS).add(batch, days).evidence for days in (1.0, 365.0))
    assert day == year


def test_an_alarm_resets_the_evidence() -> None:
    random = np.random.default_rng(0)
    detector = ColumnDetector(NumberRuler(random.normal(size=500)), 1, FALSE_ALARM_DAYS)
    assert detector.add(random.normal(3, size=100), 1.0).alarm
    assert not detector.add(random.normal(3, size=100), 0.0).alarm
    assert detector.add(random.normal(3, size=100), 0.5).alarm


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (["red"] * 60 + ["blue"] * 20 + ["green"] * 20, "share of other values is 0.2"),
        (["red"] * 60 + ["blue"] * 20 + [None] * 20, "share of missing values is 0.2"),
        (["red"] * 95 + ["blue"] * 5, "share of 'red' is 0.95"),
        ([True] * 100, "share of other values is 1.0"),
    ],
)
def test_a_changed_share_of_a_category_raises_an_alarm(new: list[object], told: str) -> None:
    known = np.random.default_rng(0).permutation(np.array(["red"] * 350 + ["blue"] * 150, dtype=object))
    detector = ColumnDetector(CategoryRuler(known), 1, FALSE_ALARM_DAYS)
    assert not detector.add(known[:300], 1.0).alarm
    found = detector.add(np.array(new, dtype=object), 1.0)
    assert found.alarm
    assert found.told.startswith(told)
    assert found.effect > FLOOR


def test_more_missing_values_raise_an_alarm_about_the_share_of_missing_values() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=400)
    detector = ColumnDetector(NumberRuler(values), 1, FALSE_ALARM_DAYS)
    found = detector.add(np.where(random.random(400) < 0.3, np.nan, values), 1.0)
    assert found.alarm
    assert found.told.startswith("share of missing values is 0.2")
    assert found.effect < 0.05
