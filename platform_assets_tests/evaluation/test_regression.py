"""Metrics of regression models: their values, their intervals, and comparisons of two models."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.gate import Criterion, NotWorse, judge, keeps_up
from platform_assets.evaluation.judged import Judged
from platform_assets.evaluation.metric_catalogue import metric_named, ordered
from platform_assets.evaluation.regression import by_subgroup, compare, evaluate, most_wrong
from platform_assets.evaluation.regression_metrics import METRICS, Errors

BASELINES = ("naive",)


def judged(rows: int = 240, *, error: float = 10.0, seed: int = 1) -> Judged:
    """Return hourly rows of ten days. Errors within a day are similar. The first day has no baseline."""
    random = np.random.default_rng(seed)
    day = np.arange(rows) // 24
    truth = 1_000 + 100 * np.sin(np.arange(rows) / 24 * 2 * np.pi) + random.normal(0, 5, rows)
    value = truth + error * random.normal(0, 1, day.max() + 1)[day] + random.normal(0, 1, rows)
    naive = np.where(day == 0, np.nan, truth + 30)
    frame = pd.DataFrame(
        {"day": [f"2024-01-{1 + one:02}" for one in day], "naive": naive, "hour": np.arange(rows) % 24}
    )
    return Judged(frame, "day", truth, np.column_stack([value, value - 15, value + 15]))


@pytest.mark.requirement("ESI-7")
def test_metrics_equal_those_of_scikit_learn() -> None:
    rows = judged()
    truth, value = rows.labels, rows.scores
    weights = np.random.default_rng(2).integers(0, 3, len(truth)).astype(float)
    for weight in (None, weights):
        found = Errors(truth, rows.found, {"naive": rows.examples["naive"]}).metrics(weight)
        of: Any = {"sample_weight": weight}
        assert found["mae"] == pytest.approx(sklearn_metrics.mean_absolute_error(truth, value, **of))
        assert found["rmse"] == pytest.approx(sklearn_metrics.root_mean_squared_error(truth, value, **of))
        assert found["mape"] == pytest.approx(sklearn_metrics.mean_absolute_percentage_error(truth, value, **of))
        assert found["r2"] == pytest.approx(sklearn_metrics.r2_score(truth, value, **of))
        assert found["bias"] == pytest.approx(np.average(value - truth, weights=weight))
        inside = np.abs(value - truth) <= 15
        assert found["interval_coverage"] == pytest.approx(np.average(inside, weights=weight))
    known = np.arange(len(truth)) >= 24
    naive = 1 - np.abs(value - truth)[known].mean() / 30
    found = Errors(truth, rows.found, {"naive": rows.examples["naive"]}).metrics()
    assert found["skill_over_naive"] == pytest.approx(naive)
    assert found["wape"] == pytest.approx(np.abs(value - truth).sum() / np.abs(truth).sum())
    assert found["interval_width"] == pytest.approx(30)
    assert set(found) == {*METRICS, "skill_over_naive"}


def test_metrics_that_cannot_be_computed_are_nan() -> None:
    nothing = Errors([], np.empty((0, 3)), {"naive": []}).metrics()
    assert nothing.pop("rows") == 0
    assert all(math.isnan(value) for value in nothing.values())
    with_zero = Errors([0.0, 2.0], np.array([1.0, 2.0]), {"naive": [np.nan, np.nan]}).metrics()
    assert math.isnan(with_zero["mape"])
    assert math.isnan(with_zero["skill_over_naive"])
    assert with_zero["wape"] == 0.5
    assert math.isnan(Errors([3.0, 3.0], np.array([1.0, 2.0])).metrics()["r2"])
    assert "interval_coverage" not in with_zero


@pytest.mark.parametrize(
    ("labels", "found", "said"),
    [
        ([1.0, math.nan], np.zeros(2), "1 of 2 labels are NaN or infinite"),
        ([1.0, 2.0], np.array([0.0, math.inf]), "1 of 2 values are NaN or infinite"),
        ([1.0, 2.0], np.zeros(3), "there are 2 labels, but the predictions have shape (3,)"),
        (["many", 2.0], np.zeros(2), "the labels are not all numbers"),
    ],
)
def test_rows_that_cannot_be_evaluated_are_rejected(labels: Any, found: Any, said: str) -> None:
    with pytest.raises(TrainingError) as error:
        Errors(labels, found)
    assert said in str(error.value)


@pytest.mark.requirement("ESI-7")
def test_intervals_from_resampled_blocks_are_wider_than_those_from_resampled_rows() -> None:
    rows = judged()
    by_day = evaluate(rows, BASELINES)["mae"]
    alone = Judged(rows.examples.assign(day=np.arange(240)), "day", rows.labels, rows.found)
    by_row = evaluate(alone, BASELINES)["mae"]
    assert by_day.value == by_row.value
    assert by_day.low < by_day.value < by_day.high
    assert by_day.high - by_day.low > 2 * (by_row.high - by_row.low)


@pytest.mark.requirement("ESI-7", "PRO-2")
def test_a_paired_comparison_detects_a_difference_smaller_than_the_intervals_of_the_models() -> None:
    champion = judged()
    better = champion.found.copy()
    better[:, 0] = champion.labels + 0.95 * (champion.scores - champion.labels)
    challenger = Judged(champion.examples, "day", champion.labels, better)
    own, other = evaluate(challenger, BASELINES)["mae"], evaluate(champion, BASELINES)["mae"]
    assert own.high > other.low
    difference = compare(challenger, champion, BASELINES)
    assert difference["mae"].high < 0
    assert difference["skill_over_naive"].low > 0
    assert keeps_up(NotWorse("mae", by=0), difference).passed
    assert not keeps_up(NotWorse("mae", by=0), compare(champion, challenger, BASELINES)).passed
    # If the champion has no prediction intervals, only the metrics that both models have are compared.
    assert "interval_width" not in compare(
        challenger, Judged(champion.examples, "day", champion.labels, better[:, 0]), ()
    )


def test_subgroups_are_evaluated_and_the_largest_errors_are_returned() -> None:
    rows = judged()
    found = by_subgroup(rows, BASELINES, rows.examples["hour"])
    assert len(found) == 24
    assert found["3"]["rows"].value == 10
    high, low = most_wrong(rows, 2)
    errors = rows.scores - rows.labels
    assert errors[high].tolist() == sorted(errors, reverse=True)[:2]
    assert errors[low].tolist() == sorted(errors)[:2]


def test_criteria_on_regression_metrics_are_evaluated_and_invalid_criteria_refused() -> None:
    estimates = evaluate(judged(), BASELINES)
    verdict = judge(
        estimates, (Criterion("skill_over_naive", at_least=0.1), Criterion("interval_coverage", at_least=0.99))
    )
    assert [reason.name for reason in verdict.reasons] == [
        "skill_over_naive_is_at_least_0_1",
        "interval_coverage_is_at_least_0_99",
    ]
    assert [reason.passed for reason in verdict.reasons] == [True, False]
    with pytest.raises(TrainingError, match="bias cannot be compared"):
        NotWorse("bias")
    with pytest.raises(TrainingError, match="cannot test a lower bound"):
        Criterion("mape", at_least=0.1, lower_bound=True)


def test_metrics_of_all_tasks_have_a_fixed_order_and_unknown_names_are_refused() -> None:
    assert metric_named("skill_over_naive").label == "Skill over naive"
    assert ordered(["unheard", "skill_over_b", "mae", "roc_auc", "skill_over_a"]) == [
        "roc_auc",
        "mae",
        "skill_over_a",
        "skill_over_b",
        "unheard",
    ]
    with pytest.raises(TrainingError, match="unknown metric skill_over_; use one of"):
        metric_named("skill_over_")
