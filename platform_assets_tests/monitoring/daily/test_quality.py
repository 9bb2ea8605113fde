"""Agreement of predictions with labels: alarms about too many disagreements, and confidence intervals."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from platform_assets.monitoring.daily.prediction_powered import Proxy, from_labels, prediction_powered
from platform_assets.monitoring.daily.quality import (
    Disagreements,
    agreement_points,
    evidence,
    judged_agreement,
    tolerated_share,
)

TOLERATED = tolerated_share(0.9)
DAYS = 10_000.0


def counts(per_day: int, share: float, days: int) -> list[Disagreements]:
    return [Disagreements(per_day * day, round(share * per_day * day)) for day in range(1, days + 1)]


@pytest.mark.requirement("MON-1")
def test_flipped_labels_are_detected_the_next_day_after_months_of_normal_agreement() -> None:
    healthy = counts(20, 0.1, 90)
    assert evidence(healthy, TOLERATED) < 10
    last = healthy[-1]
    flipped = Disagreements(last.labelled + 20, last.disagreeing + 18)
    assert evidence([*healthy, flipped], TOLERATED) > DAYS


def test_a_tolerated_share_of_disagreements_raises_no_alarm_even_after_labels_are_corrected() -> None:
    assert evidence(counts(40, TOLERATED, 90), TOLERATED) < 50
    assert evidence([Disagreements(100, 10), Disagreements(90, 5), Disagreements(100, 6)], TOLERATED) < 3
    # At first, most labels disagreed; later, most of the disagreeing labels were corrected.
    assert evidence([Disagreements(100, 90), Disagreements(120, 5)], TOLERATED) < 3
    assert tolerated_share(1.0) == 0.025
    assert tolerated_share(0.0) < 1


def labelled(labels: Any, scores: Any, outputs: Any = None) -> Any:
    scores = np.asarray(scores, dtype=float)
    outputs = scores if outputs is None else np.asarray(outputs, dtype=float)
    return SimpleNamespace(labels=np.asarray(labels, dtype=float), scores=scores, outputs=outputs)


@pytest.mark.requirement("MON-1", "MON-5")
def test_a_champion_that_disagrees_with_its_labels_raises_an_alarm() -> None:
    found = labelled([1] * 30, [0.1] * 30)
    points = agreement_points(found, 0.5, Proxy(1_000, 0.1, 0.01))
    by_name = {point.series: point for point in judged_agreement(points, [], TOLERATED, DAYS)}
    assert by_name["agreement"].is_open
    assert by_name["agreement"].told == (
        "30 of 30 labelled predictions disagree with their label; "
        "a share of up to 12.5% does not count as worse than the share on the holdout"
    )
    assert by_name["calibration_gap"].value == pytest.approx(0.9)


@pytest.mark.requirement("MON-1")
def test_a_value_agrees_with_its_label_if_its_interval_covers_the_label() -> None:
    outputs = [[5, 4, 6]] * 40
    points = agreement_points(labelled([5.5] * 30 + [7] * 10, [5] * 40, outputs), None, Proxy(0, 0, 0))
    by_name = {point.series: point.value for point in points}
    assert (by_name["labelled"], by_name["disagreeing"], by_name["agreement"]) == (40, 10, 0.75)
    without = agreement_points(labelled([5.5], [5]), None, Proxy(0, 0, 0))
    assert [point.series for point in without] == ["calibration_gap"]


@pytest.mark.requirement("MON-1")
def test_prediction_powered_intervals_are_narrower_with_the_same_coverage() -> None:
    random = np.random.default_rng(1)
    runs, inside, widths = 400, np.zeros(2), np.zeros(2)
    for _ in range(runs):
        risk = random.beta(0.3, 0.9, 5_000)
        flagged = risk >= 0.5
        losses = (flagged != (random.random(5_000) < risk)).astype(float)
        estimated = np.clip(np.where(flagged, 1 - risk, risk) + 0.05, 0, 1)  # a biased estimate
        every = Proxy(5_000, float(estimated.mean()), float(estimated.var(ddof=1)))
        truth = float(np.where(flagged, 1 - risk, risk).mean())
        for place, one in enumerate(
            (from_labels(losses[:200]), prediction_powered(losses[:200], estimated[:200], every))
        ):
            inside[place] += one.low <= truth <= one.high
            widths[place] += one.high - one.low
    assert (inside / runs > 0.92).all()
    assert widths[1] < 0.95 * widths[0]


def test_too_few_labels_give_no_interval() -> None:
    few = np.ones(19)
    assert np.isnan(prediction_powered(few, few, Proxy(10, 0.5, 0.1)).low)
    assert np.isnan(from_labels(np.empty(0)).value)
    same = np.array([0.0, 1.0] * 20)
    assert prediction_powered(same, np.full(40, 0.3), Proxy(10, 0.3, 0.0)) == from_labels(same)
