"""Costs of errors: the cost at each threshold, and the threshold with the lowest cost."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.binary_classification import measure
from platform_assets.evaluation.costs import Costs
from platform_assets_tests.evaluation.scored_rows import ROWS, columns

COSTS = Costs(20, why="Planners said so.")


@pytest.mark.requirement("SEN-4")
def test_the_costs_of_a_worked_example_are_correct() -> None:
    labels, scores = [1, 0, 1, 0], [0.9, 0.8, 0.4, 0.1]
    thresholds, costs = COSTS.curve(labels, scores)
    assert thresholds.tolist() == [math.inf, 0.9, 0.8, 0.4, 0.1]
    # Errors in the 4 rows at these thresholds, in this order: 2 missed positives; 1 missed; 1 missed and 1 false alarm;
    # 1 false alarm; 2 false alarms.
    assert costs.tolist() == [1_000, 500, 525, 25, 50]
    assert COSTS.found(labels, scores, 0.5) == {
        "missed": 20,
        "why": "Planners said so.",
        "per_100_rows": 525,
        "lowest_per_100_rows": 25,
        "lowest_at": 0.4,
    }
    # A threshold above all scores flags nothing.
    assert COSTS.found(labels, scores, 2.0)["per_100_rows"] == 1_000
    assert Costs(0.1, why="").found([0, 0], [0.5, 0.6], 0.5)["lowest_at"] is None


@given(ROWS, st.floats(0, 1))
def test_the_cost_of_a_threshold_is_the_total_cost_of_the_errors_at_that_threshold(
    rows: list[tuple[int, float, int]], threshold: float
) -> None:
    labels, scores, _ = columns(rows)
    flagged = [score >= threshold for score in scores]
    missed = sum(label and not flag for label, flag in zip(labels, flagged, strict=True))
    alarms = sum(flag and not label for label, flag in zip(labels, flagged, strict=True))
    found = COSTS.found(labels, scores, threshold)
    assert found["per_100_rows"] == pytest.approx(100 * (20 * missed + alarms) / len(labels))
    assert found["lowest_per_100_rows"] <= found["per_100_rows"]
    if found["lowest_at"] is not None:
        at = measure(labels, scores, found["lowest_at"])
        cost = 20 * at["positives"] * (1 - at["recall"] if at["positives"] else 0)
        cost += (at["flagged"] * at["rows"]) - at["positives"] * (at["recall"] if at["positives"] else 0)
        assert found["lowest_per_100_rows"] == pytest.approx(100 * cost / len(labels))


@pytest.mark.parametrize("missed", [0, -1, math.nan, math.inf])
def test_a_cost_that_is_not_positive_is_refused(missed: float) -> None:
    with pytest.raises(TrainingError, match="set Costs.missed above 0"):
        Costs(missed, why="")
