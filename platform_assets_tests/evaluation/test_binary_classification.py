"""Metrics of binary classifiers: agreement with scikit-learn, paired comparison, subgroups and errors."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.binary_classification import (
    by_subgroup,
    compare,
    evaluate,
    measure,
    most_wrong,
)
from platform_assets.evaluation.intervals import Estimate
from platform_assets.evaluation.judged import UNKNOWN
from platform_assets.evaluation.metrics import METRICS
from platform_assets_tests.evaluation.scored_rows import ROWS, columns, scored, values

if TYPE_CHECKING:
    from collections.abc import Callable


NAN = math.nan


def test_all_metrics_of_a_worked_example_are_correct() -> None:
    labels = [1, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    scores = [0.9, 0.8, 0.8, 0.4, 0.3, 0.3, 0.2, 0.2, 0.1, 0.0]
    assert measure(labels, scores, 0.8) == pytest.approx(
        {
            "roc_auc": (8 + 7.5) / 16,
            "average_precision": 0.5 * 1 + 0.5 * 2 / 3,
            "base_rate": 0.2,
            "brier": (0.01 + 0.64 + 0.04 + 0.16 + 0.09 + 0.09 + 0.04 + 0.04 + 0.01) / 10,
            # The ten rows are divided into ten bins of one row each, except that tied rows share a bin.
            "calibration_error": (0.1 + 0.6 + 0.4 + 0.6 + 0.4 + 0.1) / 10,
            "recall": 1.0,
            "precision": 2 / 3,
            "f1": 0.8,
            "f2": 5 * 2 / (4 * 2 + 3),
            "false_positive_rate": 1 / 8,
            "accuracy": 0.9,
            "lift_top_decile": 5.0,
            "flagged": 0.3,
            "rows": 10,
            "positives": 2,
        }
    )


def reference(labels: Any, scores: Any, threshold: float, weights: Any) -> dict[str, float]:
    flags, options = scores >= threshold, {"sample_weight": weights}
    return {
        "roc_auc": sklearn_metrics.roc_auc_score(labels, scores, **options),
        "average_precision": sklearn_metrics.average_precision_score(labels, scores, **options),
        "base_rate": np.average(labels, weights=weights),
        "brier": sklearn_metrics.brier_score_loss(labels, scores, **options),
        "recall": sklearn_metrics.recall_score(labels, flags, zero_division=np.nan, **options),
        "precision": sklearn_metrics.precision_score(labels, flags, zero_division=np.nan, **options),
        "f1": sklearn_metrics.f1_score(labels, flags, zero_division=np.nan, **options),
        "accuracy": sklearn_metrics.accuracy_score(labels, flags, **options),
        "flagged": np.average(flags, weights=weights),
        "rows": weights.sum(),
        "positives": (weights * labels).sum(),
    }


@given(ROWS, st.floats(0, 1), st.booleans())
def test_metrics_equal_those_of_scikit_learn(rows: list[tuple[int, float, int]], threshold: float, whole: bool) -> None:
    labels, scores, weights = columns(rows)
    weights = weights if whole else weights * 0.37
    assume(0 < (weights * labels).sum() < weights.sum())
    found = measure(labels, scores, threshold, weights)
    expected = reference(labels, scores, threshold, weights)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)


@given(ROWS, st.floats(0, 1))
def test_an_integer_weight_has_the_same_effect_as_repeating_the_row(
    rows: list[tuple[int, float, int]], threshold: float
) -> None:
    labels, scores, weights = columns(rows)
    often = weights.astype(int)
    unweighted = measure(np.repeat(labels, often), np.repeat(scores, often), threshold)
    weighted = measure(labels, scores, threshold, weights)
    assert weighted == pytest.approx(unweighted, rel=1e-9, abs=1e-12, nan_ok=True)


@given(ROWS, st.floats(0, 1), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows: list[tuple[int, float, int]], threshold: float, random: Any) -> None:
    one, other = columns(rows), columns(random.sample(rows, len(rows)))
    assert str(measure(one[0], one[1], threshold, one[2])) == str(measure(other[0], other[1], threshold, other[2]))


def test_without_ties_the_calibration_bins_equal_those_of_scikit_learn() -> None:
    labels, scores, _ = scored(1_000, 10)
    share, mean = calibration_curve(labels, scores, n_bins=10, strategy="quantile")
    assert len(mean) == 10
    assert measure(labels, scores, 0.5)["calibration_error"] == pytest.approx(np.abs(share - mean).mean())


@pytest.mark.parametrize(
    ("labels", "scores", "lift"),
    [
        pytest.param([1, *[0] * 9], [0.9, *[0.1] * 9], 10.0, id="found"),
        pytest.param([1, *[0] * 9], [0.0, *[0.1] * 9], 0.0, id="missed"),
        pytest.param([1, *[0] * 9], [0.5] * 10, 1.0, id="all tied"),
        pytest.param([1, 0, *[0] * 8], [0.9, 0.9, *[0.1] * 8], 5.0, id="two tied at the boundary"),
        pytest.param([1, 0, 0, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.5], 2.5, id="the tenth is half a row"),
    ],
)
def test_lift_counts_tied_rows_proportionally(labels: list[int], scores: list[float], lift: float) -> None:
    assert measure(labels, scores, 0.5)["lift_top_decile"] == pytest.approx(lift)


@pytest.mark.parametrize(
    ("labels", "scores", "threshold", "undefined"),
    [
        pytest.param(
            [0, 0],
            [0.1, 0.9],
            0.5,
            {"roc_auc", "average_precision", "recall", "f1", "f2", "lift_top_decile"},
            id="no 1",
        ),
        pytest.param([1, 1], [0.1, 0.9], 0.5, {"roc_auc", "false_positive_rate"}, id="no 0"),
        pytest.param([0, 1], [0.1, 0.9], 1.5, {"precision"}, id="none flagged"),
        pytest.param([], [], 0.5, set(METRICS) - {"rows", "positives"}, id="no rows"),
        pytest.param([1, 0], [0.4, 0.4], 0.4, set(), id="one score"),
    ],
)
def test_undefined_metrics_are_nan_without_a_warning(
    labels: list[int], scores: list[float], threshold: float, undefined: set[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measure(labels, scores, threshold)
        estimates = evaluate(labels, scores, range(len(labels)), threshold)
    assert {name for name, value in found.items() if math.isnan(value)} == undefined
    assert {name for name, one in estimates.items() if math.isnan(one.value)} == undefined
    assert {name for name, metric in METRICS.items() if metric.needs != "nothing"} >= undefined


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: measure([0, 1], [0.5], 0.5), "there are 2 labels and 1 scores"),
        (lambda: measure([0, 2], [0.5, 0.5], 0.5), "labels must be 0 or 1, but 1 of 2 are not; the first is 2"),
        (lambda: measure([0, NAN], [0.5, 0.5], 0.5), "labels must be 0 or 1, but 1 of 2 are not; the first is nan"),
        (lambda: measure([0, 1], [0.5, 1.5], 0.5), "scores must be between 0 and 1, but 1 of 2 are not"),
        (lambda: measure([0, 1], [NAN, 0.5], 0.5), "scores must be between 0 and 1, but 1 of 2 are not"),
        (lambda: measure([[0, 1]], [0.5, 0.5], 0.5), "the labels have shape (1, 2); pass one per row, shape (n,)"),
        (lambda: measure(["no"], [0.5], 0.5), "the labels are not all numbers"),
        (lambda: measure([0, 1], [0.5, 0.5], NAN), "the threshold is NaN"),
        (lambda: measure([0], [0.5], 0.5, [-1]), "weights must be finite and 0 or above, one per row"),
        (lambda: measure([0], [0.5], 0.5, [NAN]), "weights must be finite"),
        (lambda: measure([0], [0.5], 0.5, [1, 1]), "weights must be finite"),
        (lambda: compare([0, 1], [1, 2], ([0.5, 0.5], 0.5), ([0.5], 0.5)), "there are 2 labels and 1 scores"),
        (lambda: most_wrong(["no"], [0.5], 0.5, 1), "the labels are not all numbers"),
        (lambda: most_wrong([0], ["no"], 0.5, 1), "the scores are not all numbers"),
        (lambda: by_subgroup([0], ["no"], [1], 0.5, ["a"]), "the scores are not all numbers"),
        (lambda: by_subgroup([0, 1], [0.5, 0.5], [1], 0.5, ["a"]), "1 groups and 1 subgroup values"),
        (lambda: by_subgroup([0, 1], [0.5, 0.5], [1], 0.5, ["a", "b"]), "1 groups and 2 subgroup values"),
        (lambda: by_subgroup([0, 1], [0.5, 0.5], [1, 2], 0.5, ["a", "b", "c"]), "2 groups and 3 subgroup values"),
        (lambda: by_subgroup([0, 1], [0.5, 0.5], [1, 2], 0.5, ["a"]), "2 groups and 1 subgroup values"),
    ],
)
def test_invalid_rows_are_rejected(act: Callable[[], Any], message: str) -> None:
    with pytest.raises(TrainingError) as error:
        act()
    assert message in str(error.value)


def test_every_metric_has_a_label_and_a_description() -> None:
    assert set(measure([0, 1], [0.1, 0.9], 0.5)) == set(METRICS)
    assert all(metric.label and metric.description.endswith(".") for metric in METRICS.values())


def test_the_attribute_higher_is_better_is_true_if_a_perfect_classifier_scores_higher() -> None:
    labels = np.array([0, 1] * 10)
    perfect, wrong = measure(labels, labels, 0.5), measure(labels, 1 - labels, 0.5)
    directions = {name: None if perfect[name] == wrong[name] else perfect[name] > wrong[name] for name in METRICS}
    assert {name: metric.higher_is_better for name, metric in METRICS.items()} == directions


def test_the_chance_level_of_a_metric_is_its_value_for_constant_scores() -> None:
    found = measure([0, 0, 0, 1] * 10, [0.5] * 40, 0.5)
    chance = {name: metric.chance for name, metric in METRICS.items() if metric.chance is not None}
    assert chance == {name: found[name] for name in ("roc_auc", "lift_top_decile")}


def test_evaluate_returns_the_values_of_measure() -> None:
    labels, scores, groups = scored(500, 40)
    assert values(evaluate(labels, scores, groups, 0.1, resamples=2)) == measure(labels, scores, 0.1)


def test_compare_uses_the_same_resamples_for_both_models() -> None:
    labels, scores, groups = scored(3_000, 200)
    better = np.clip(scores + 0.01 * labels, 0, 1)
    found = compare(labels, groups, (better, 0.1), (scores, 0.1))["roc_auc"]
    alone = evaluate(labels, better, groups, 0.1)["roc_auc"]
    ours, theirs = (measure(labels, column, 0.1)["roc_auc"] for column in (better, scores))
    assert found.value == ours - theirs
    assert found.low > 0
    assert found.high - found.low < (alone.high - alone.low) / 3
    turned = compare(labels, groups, (scores, 0.1), (better, 0.1))["roc_auc"]
    assert (turned.value, turned.low, turned.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_the_difference_between_a_model_and_itself_is_zero() -> None:
    labels, scores, groups = scored(500, 40)
    found = compare(labels, groups, (scores, 0.1), (scores, 0.1))
    assert set(found.values()) == {Estimate(0.0, 0.0, 0.0)}


def test_compare_uses_the_threshold_of_each_model() -> None:
    found = compare([0, 1, 1, 0], [1, 2, 3, 4], ([0.1, 0.6, 0.7, 0.2], 0.5), ([0.1, 0.6, 0.7, 0.2], 0.65))
    assert found["recall"].value == 0.5
    assert found["roc_auc"].value == 0.0


def test_each_subgroup_is_evaluated_separately() -> None:
    labels, scores, groups = scored(600, 60)
    kinds = np.array(["car", "no car", None], dtype=object)[np.arange(600) % 3]
    found = by_subgroup(labels, scores, groups, 0.1, kinds)
    assert list(found) == ["car", "no car", UNKNOWN]
    chosen = kinds == "car"
    assert found["car"] == evaluate(labels[chosen], scores[chosen], groups[chosen], 0.1)
    assert sum(one["rows"].value for one in found.values()) == 600


@pytest.mark.parametrize(
    ("given_values", "names"),
    [
        ([1, 0, 1], ["0", "1"]),
        ([1.0, NAN, 0.0], ["0", "1", UNKNOWN]),
        ([0.5, 1_234_567.0, 1_234_568.0], ["0.5", "1234567", "1234568"]),
        (["b", None, UNKNOWN], ["b", UNKNOWN]),
        ([True, False, True], ["False", "True"]),
        (["a", "a\0", "a"], ["a", "a\0"]),
        (pd.Series(["x", pd.NA, "y"], dtype="category", index=[7, 8, 9]), [UNKNOWN, "x", "y"]),
    ],
)
def test_the_name_of_a_subgroup_is_its_value_as_text(given_values: Any, names: list[str]) -> None:
    assert list(by_subgroup([0, 1, 1], [0.1, 0.5, 0.6], [1, 2, 3], 0.5, given_values, resamples=2)) == names


def test_most_wrong_returns_the_misclassified_rows_sorted_by_score() -> None:
    # The scores of the third row (false positive) and the last row (true positive) are at the threshold.
    labels, scores = [0, 1, 0, 1, 1, 0, 0, 1, 1], [0.9, 0.1, 0.5, 0.4, 0.6, 0.9, 0.2, 0.1, 0.5]
    false_alarms, missed = most_wrong(labels, scores, 0.5, 2)
    assert (false_alarms.tolist(), missed.tolist()) == ([0, 5], [1, 7])
    false_alarms, missed = most_wrong(labels, scores, 0.5, 9)
    assert (false_alarms.tolist(), missed.tolist()) == ([0, 5, 2], [1, 7, 3])
    assert [found.tolist() for found in most_wrong([0, 1], [0.1, 0.9], 0.5, 9)] == [[], []]
