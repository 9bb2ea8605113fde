"""Plots of learning curves, fit times and decision surfaces, for ordinary and degenerate values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from platform_assets.evaluation.decision_surface_plot import decision_surface
from platform_assets.evaluation.learning_plots import exponent, fit_times, learning_curve
from platform_assets_tests.evaluation.pictures import MODEL, THRESHOLD, demand_good, near


def points(candidates: list[str], sizes: list[int], power: float = 3.0) -> list[dict[str, Any]]:
    return [
        {"candidate": name, "examples": n, "mean": 1 - 1 / n, "deviation": 0.01, "fit_seconds": 1e-9 * n**power}
        for name in candidates
        for n in sizes
    ]


CURVES = {
    "two candidates": points(["exact", "approximation"], [100, 200, 400, 800]),
    "nine candidates, odd names": points([f"$\\no{{$ {place} {'n' * 40}" for place in range(9)], [10, 1_000_000]),
    "one size": points(["one"], [100]),
    "none": [],
}


@pytest.mark.requirement("SEN-3", "SEN-7")
@pytest.mark.parametrize("case", CURVES)
def test_learning_curves_and_fit_times_can_be_drawn(case: str) -> None:
    for picture in (learning_curve(CURVES[case], "roc_auc"), fit_times(CURVES[case])):
        demand_good(picture)
        assert (near(picture, MODEL) > 20) == bool(CURVES[case])


@pytest.mark.requirement("SEN-9")
@pytest.mark.parametrize("power", [0.0, 1.0, 2.7])
def test_the_exponent_of_a_power_law_is_estimated(power: float) -> None:
    sizes = np.array([100, 200, 500, 800])
    assert exponent(sizes, 3e-4 * sizes**power) == pytest.approx(power)
    noise = np.random.default_rng(1).normal(1, 0.02, 4)
    assert exponent(sizes, 3e-4 * sizes**power * noise) == pytest.approx(power, abs=0.1)
    assert np.isnan(exponent([100], [0.1]))


@pytest.mark.requirement("SEN-7")
@pytest.mark.parametrize(("scale", "threshold", "line"), [(1.0, 0.5, True), (1.0, 1.5, False), (0.0, 0.5, False)])
def test_a_decision_surface_shows_the_threshold_and_both_classes(scale: float, threshold: float, *, line: bool) -> None:
    across, up = np.linspace(-2, 2, 30), np.linspace(-1, 1, 30)
    scores = np.clip(scale * (across[None, :] + up[:, None]) / 6 + 0.5 * scale, 0, 1)
    random = np.random.default_rng(1)
    rows, labels = random.normal(size=(3_000, 2)) / 2, random.integers(0, 2, 3_000)
    picture = decision_surface(["sensor_1", "sensor_2"], (across, up, scores), rows, labels, threshold)
    demand_good(picture)
    assert (near(picture, THRESHOLD) > 300) == line
    assert near(picture, MODEL) > 300
    none = labels[:0]
    demand_good(decision_surface(["a", "b"], (across, up, scores), rows[:0], none, threshold))
