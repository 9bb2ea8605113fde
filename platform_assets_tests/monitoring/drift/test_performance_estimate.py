"""Estimated performance, compared with the performance on simulated labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, fbeta_score, precision_score, recall_score

from platform_assets.monitoring.drift.performance_estimate import METRICS, estimate_performance

INSIDE = np.zeros(1_000, dtype=bool)


@pytest.mark.requirement("SEN-8", "MON-1")
@pytest.mark.parametrize("rows", [60, 2_000])
def test_about_95_percent_of_intervals_contain_the_real_performance(rows: int) -> None:
    random, covered = np.random.default_rng(rows), dict.fromkeys(METRICS, 0)
    trials = 100
    for _ in range(trials):
        scores = random.beta(0.4, 0.6, rows)
        labels = random.random(rows) < scores
        estimate = estimate_performance(scores, 0.4, np.zeros(rows, dtype=bool))
        assert estimate.metrics is not None
        real = {
            "recall": recall_score(labels, scores >= 0.4),
            "precision": precision_score(labels, scores >= 0.4),
            "f2": fbeta_score(labels, scores >= 0.4, beta=2),
            "accuracy": accuracy_score(labels, scores >= 0.4),
        }
        for name, one in estimate.metrics.items():
            assert one.low <= one.value <= one.high
            covered[name] += one.low <= real[name] <= one.high
    # Of 100 intervals, 95 are expected to contain the value. The probability of fewer than 88 is 0.2 %.
    assert min(covered.values()) >= 88


@pytest.mark.requirement("SEN-8")
@pytest.mark.parametrize(("outside", "known"), [(0, True), (10, True), (11, False), (1_000, False)])
def test_performance_is_unknown_if_too_many_rows_are_outside_the_training_range(outside: int, known: bool) -> None:
    estimate = estimate_performance(np.full(1_000, 0.7), 0.5, np.arange(1_000) < outside)
    assert estimate.outside == outside / 1_000
    assert (estimate.metrics is not None) == known
    assert estimate.told().startswith("recall 1.000" if known else "unknown: ")
    if not known:
        assert f"{outside / 1_000:.1%} of the rows are outside the training range" in estimate.told()


def test_performance_is_unknown_without_a_training_range_or_if_rows_have_no_score() -> None:
    assert estimate_performance(np.full(10, 0.7), 0.5, None).told() == (
        "unknown: the training range of this model version is not stored"
    )
    scores = np.where(np.arange(1_000) < 30, np.nan, 0.7)
    assert estimate_performance(scores, 0.5, INSIDE).outside == 0.03


def test_metrics_without_flagged_rows_are_undefined() -> None:
    estimate = estimate_performance(np.full(1_000, 0.01), 0.5, INSIDE)
    assert estimate.metrics is not None
    assert math.isnan(estimate.metrics["precision"].value)
    assert "precision undefined" in estimate.told()
    assert estimate.metrics["recall"].value == 0
    assert estimate.metrics["accuracy"].value == pytest.approx(0.99)


def test_millions_of_rows_are_sampled() -> None:
    scores = np.random.default_rng(0).beta(0.4, 0.6, 300_000)
    whole = estimate_performance(scores, 0.4, np.zeros(300_000, dtype=bool))
    part = estimate_performance(scores[:50_000], 0.4, np.zeros(50_000, dtype=bool))
    assert whole.metrics is not None
    assert part.metrics is not None
    assert whole.metrics["recall"].value == pytest.approx(part.metrics["recall"].value, abs=0.01)
