"""Tests of the widths of prediction intervals: the quantile, the width per group, and the resulting coverage."""

from __future__ import annotations

import numpy as np
import pytest

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.conformal import Intervals, widths


@pytest.mark.parametrize(
    ("count", "level", "expected"),
    # The rank is ceil((n + 1) * level): 28 of 30, 90 of 99, 91 of 100.
    [(30, 0.9, 28.0), (99, 0.9, 90.0), (100, 0.9, 91.0), (199, 0.5, 100.0)],
)
def test_the_half_width_is_the_conformal_quantile(count: int, level: float, expected: float) -> None:
    residuals = np.arange(1.0, count + 1) * np.where(np.arange(count) % 2, 1, -1)
    assert widths(residuals, None, Intervals(level)).of_all == expected


@pytest.mark.requirement("ESI-7")
def test_each_group_has_its_own_width_if_it_has_enough_residuals() -> None:
    hours = np.repeat([0.0, 1.0, 2.0], [50, 50, 5])
    residuals = np.where(hours == 1, 10.0, 1.0)
    found = widths(residuals, hours, Intervals(0.9, by="hour"))
    assert found.of_group == {0.0: 1.0, 1.0: 10.0}
    assert found.of([0.0, 1.0, 2.0, 7.0, np.nan], 5).tolist() == [1.0, 10.0, *[found.of_all] * 3]


@pytest.mark.requirement("ESI-7")
def test_coverage_of_new_rows_reaches_the_level_in_each_group() -> None:
    random = np.random.default_rng(5)
    hours = np.tile([0.0, 1.0], 100)
    covered = []
    for _ in range(300):
        residuals, new = random.normal(0, 1 + 9 * hours), random.normal(0, 1 + 9 * hours)
        half = widths(residuals, hours, Intervals(0.9, by="hour")).of(hours, 200)
        covered.append([np.mean((np.abs(new) <= half)[hours == hour]) for hour in (0, 1)])
    # The expected coverage is between 90 % and 90 % + 1 / (n + 1), which is 91 % for the 100 residuals of a group.
    assert np.mean(covered, axis=0) == pytest.approx([0.905, 0.905], abs=0.01)


def test_a_level_that_the_residuals_cannot_reach_is_rejected() -> None:
    with pytest.raises(TrainingError, match="must be a share above 0 and below 1"):
        Intervals(1.0)
    with pytest.raises(TrainingError, match="30 residuals are too few for a level of 0.99; set Intervals.fewest to 99"):
        Intervals(0.99)
    with pytest.raises(TrainingError, match="10 out-of-fold residuals are too few"):
        widths(np.ones(10), None, Intervals())
