"""Bootstrap intervals: coverage, resampling by group, and reproducibility."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.binary_classification import (
    evaluate,
)
from platform_assets.evaluation.intervals import Estimate, grouped_bootstrap, lower_bound
from platform_assets_tests.evaluation.scored_rows import scored, values

if TYPE_CHECKING:
    from collections.abc import Callable


NAN = math.nan


def test_the_interval_contains_the_true_value_in_about_95_percent_of_samples() -> None:
    # All rows of a group have the same label, so intervals that treat rows as independent would be too narrow.
    covered = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        of_group = random.random(150) < 0.3
        groups = np.repeat(np.arange(150), 8)
        found = evaluate(of_group[groups], np.full(1200, 0.3), groups, 0.5)["base_rate"]
        covered.append(found.low <= 0.3 <= found.high)
    assert 0.85 <= np.mean(covered) <= 1.0


def test_the_interval_contains_the_middle_95_percent_of_the_resamples() -> None:
    values, groups, means = np.arange(30.0), np.arange(30) // 3, []

    def mean(weights: Any) -> dict[str, float]:
        drawn = np.ones(30) if weights is None else weights
        means.append(float(np.average(values, weights=drawn)))
        # Each resample draws ten groups of three rows.
        assert drawn.sum() == 30
        assert (drawn.reshape(10, 3) == drawn[::3, None]).all()
        return {"mean": means[-1]}

    found = grouped_bootstrap(mean, 30, groups, 100, 7)["mean"]
    assert found.value == means[0] == 14.5
    assert len(set(means)) > 30
    assert [found.low, found.high] == np.percentile(means[1:], [2.5, 97.5]).tolist()


def test_two_groups_are_enough_for_an_interval() -> None:
    found = evaluate([0, 1], [0.5, 0.5], ["a", "b"], 0.5)["base_rate"]
    assert (found.low, found.value, found.high) == (0.0, 0.5, 1.0)


def test_the_bootstrap_resamples_groups_instead_of_rows() -> None:
    labels, scores, _ = scored(2_000, 1)
    by_row = evaluate(labels, scores, np.arange(2_000), 0.1)["roc_auc"]
    doubled = (np.repeat(labels, 4), np.repeat(scores, 4), np.repeat(np.arange(2_000), 4))
    by_group = evaluate(*doubled, 0.1)["roc_auc"]
    assert (by_group.low, by_group.high) == pytest.approx((by_row.low, by_row.high))
    assert by_row.low < by_row.value < by_row.high
    as_rows = evaluate(doubled[0], doubled[1], np.arange(8_000), 0.1)["roc_auc"]
    assert as_rows.high - as_rows.low == pytest.approx((by_row.high - by_row.low) / 2, rel=0.3)


@pytest.mark.requirement("PLT-7")
def test_intervals_depend_on_the_seed_and_not_on_the_row_order() -> None:
    labels, scores, groups = scored(500, 40)
    order = np.random.default_rng(1).permutation(500)
    first = evaluate(labels, scores, groups, 0.1)
    assert evaluate(labels, scores, groups, 0.1) == first
    assert evaluate(labels[order], scores[order], groups[order].astype(str), 0.1) == first
    assert evaluate(labels, scores, groups, 0.1, seed=1) != first
    assert values(evaluate(labels, scores, groups, 0.1, seed=1)) == values(first)


def test_the_interval_of_a_count_is_the_count_itself() -> None:
    labels, scores, groups = scored(500, 40)
    found = evaluate(labels, scores, groups, 0.1)
    assert found["rows"] == Estimate(500, 500, 500)
    assert found["positives"] == Estimate(labels.sum(), labels.sum(), labels.sum())


def test_a_single_group_has_no_interval() -> None:
    found = evaluate([0, 1, 1], [0.1, 0.2, 0.3], ["a"] * 3, 0.25)["roc_auc"]
    assert found.value == 1.0
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_resamples_without_positive_rows_are_ignored() -> None:
    labels, scores = [1, *[0] * 9], [0.95, *[place / 10 for place in range(9)]]
    found = evaluate(labels, scores, range(10), 0.5)["roc_auc"]
    assert found == Estimate(1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: evaluate([0, 1], [0.5, 0.5], ["a"], 0.5), "there are 1 groups for 2 rows; pass one group per row"),
        (lambda: evaluate([0, 1], [0.5, 0.5], np.array(["a", None]), 0.5), "1 of 2 rows have no group"),
    ],
)
def test_missing_groups_are_rejected(act: Callable[[], Any], message: str) -> None:
    with pytest.raises(TrainingError) as error:
        act()
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        (Estimate(0.5, 0.25, 0.75), {"value": 0.5, "low": 0.25, "high": 0.75}),
        (Estimate(NAN, NAN, NAN), {"value": None, "low": None, "high": None}),
    ],
)
def test_an_estimate_can_be_converted_to_json(estimate: Estimate, expected: dict[str, Any]) -> None:
    assert json.loads(json.dumps(estimate.as_dict(), allow_nan=False)) == expected


@pytest.mark.requirement("SEN-4")
@pytest.mark.parametrize(
    ("successes", "trials", "bound"),
    # If all n trials succeed, the Clopper-Pearson bound is 0.05 ** (1 / n). The other expected bounds are from
    # scipy.stats.binomtest.
    [(150, 150, 0.05 ** (1 / 150)), (1, 1, 0.05), (148, 150, 0.9586250), (9, 10, 0.6058367), (0, 10, 0.0)],
)
def test_the_lower_bound_of_a_share_is_the_clopper_pearson_bound(successes: int, trials: int, bound: float) -> None:
    assert lower_bound(successes, trials) == pytest.approx(bound, abs=1e-6)


def test_the_lower_bound_for_zero_trials_is_nan() -> None:
    assert math.isnan(lower_bound(0, 0))
