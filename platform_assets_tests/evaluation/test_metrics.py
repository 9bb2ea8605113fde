"""Metrics equal scikit-learn's, intervals cover the truth, and a verdict says why."""

from __future__ import annotations

import json
import math
import re
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
from platform_assets.evaluation.metrics import (
    METRICS,
    UNKNOWN,
    Criterion,
    Estimate,
    NotWorse,
    Reason,
    Verdict,
    best_f1,
    by_subgroup,
    compare,
    evaluate,
    judge,
    keeps_up,
    measure,
    most_wrong,
    reaching_recall,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

NAN = math.nan
CHECK_NAME = re.compile(r"^[A-Za-z0-9_]+$")  # what Dagster takes
# Few distinct scores make many ties.
SCORES = st.one_of(st.integers(0, 6).map(lambda tenth: tenth / 10), st.floats(0, 1))
ROWS = st.lists(st.tuples(st.integers(0, 1), SCORES, st.integers(0, 3)), min_size=1, max_size=60)


def scored(rows: int, groups: int, seed: int = 0, base_rate: float = 0.05) -> tuple[NDArray[Any], ...]:
    """Labels, scores with some skill, and groups."""
    random = np.random.default_rng(seed)
    labels = (random.random(rows) < base_rate).astype(np.int64)
    scores = np.clip(random.beta(1, 15, rows) + 0.05 * labels * random.random(rows), 0, 1)
    return labels, scores, random.integers(0, groups, rows)


def columns(rows: list[tuple[int, float, int]]) -> Any:
    return [np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)]


def values(estimates: dict[str, Estimate]) -> dict[str, float]:
    return {name: estimate.value for name, estimate in estimates.items()}


# Metrics


def test_an_example_by_hand() -> None:
    labels = [1, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    scores = [0.9, 0.8, 0.8, 0.4, 0.3, 0.3, 0.2, 0.2, 0.1, 0.0]
    assert measure(labels, scores, 0.8) == pytest.approx(
        {
            "roc_auc": (8 + 7.5) / 16,
            "average_precision": 0.5 * 1 + 0.5 * 2 / 3,
            "base_rate": 0.2,
            "brier": (0.01 + 0.64 + 0.04 + 0.16 + 0.09 + 0.09 + 0.04 + 0.04 + 0.01) / 10,
            # Ten rows and ten bins: one each, but for ties, which share the bin of their middle.
            "calibration_error": (0.1 + 0.6 + 0.4 + 0.6 + 0.4 + 0.1) / 10,
            "recall": 1.0,
            "precision": 2 / 3,
            "f1": 0.8,
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
def test_a_weight_counts_a_row_so_often(rows: list[tuple[int, float, int]], threshold: float) -> None:
    labels, scores, weights = columns(rows)
    often = weights.astype(int)
    unweighted = measure(np.repeat(labels, often), np.repeat(scores, often), threshold)
    weighted = measure(labels, scores, threshold, weights)
    assert weighted == pytest.approx(unweighted, rel=1e-9, abs=1e-12, nan_ok=True)


@given(ROWS, st.floats(0, 1), st.randoms(use_true_random=False))
def test_the_order_of_rows_says_nothing(rows: list[tuple[int, float, int]], threshold: float, random: Any) -> None:
    one, other = columns(rows), columns(random.sample(rows, len(rows)))
    assert str(measure(one[0], one[1], threshold, one[2])) == str(measure(other[0], other[1], threshold, other[2]))


def test_bins_are_those_of_scikit_learn_where_no_scores_tie() -> None:
    labels, scores, _ = scored(1_000, 10)
    share, mean = calibration_curve(labels, scores, n_bins=10, strategy="quantile")
    assert len(mean) == 10
    assert measure(labels, scores, 0.5)["calibration_error"] == pytest.approx(np.abs(share - mean).mean())


@pytest.mark.parametrize(
    ("labels", "scores", "lift"),
    [
        pytest.param([1, *[0] * 9], [0.9, *[0.1] * 9], 10.0, id="found"),
        pytest.param([1, *[0] * 9], [0.0, *[0.1] * 9], 0.0, id="missed"),
        pytest.param([1, *[0] * 9], [0.5] * 10, 1.0, id="all tie: as good as chance"),
        pytest.param([1, 0, *[0] * 8], [0.9, 0.9, *[0.1] * 8], 5.0, id="two tie for one place"),
        pytest.param([1, 0, 0, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.5], 2.5, id="half a row is the tenth"),
    ],
)
def test_the_lift_takes_its_part_of_tied_rows(labels: list[int], scores: list[float], lift: float) -> None:
    assert measure(labels, scores, 0.5)["lift_top_decile"] == pytest.approx(lift)


@pytest.mark.parametrize(
    ("labels", "scores", "threshold", "undefined"),
    [
        pytest.param(
            [0, 0], [0.1, 0.9], 0.5, {"roc_auc", "average_precision", "recall", "f1", "lift_top_decile"}, id="no 1"
        ),
        pytest.param([1, 1], [0.1, 0.9], 0.5, {"roc_auc"}, id="no 0"),
        pytest.param([0, 1], [0.1, 0.9], 1.5, {"precision"}, id="none flagged"),
        pytest.param([], [], 0.5, set(METRICS) - {"rows", "positives"}, id="no rows"),
        pytest.param([1, 0], [0.4, 0.4], 0.4, set(), id="one score"),
    ],
)
def test_what_is_undefined_is_nan_without_a_warning(
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
        (lambda: measure([0, 2], [0.5, 0.5], 0.5), "labels must be 0 or 1; there are others: 1 of 2, the first 2"),
        (lambda: measure([0, NAN], [0.5, 0.5], 0.5), "labels must be 0 or 1; there are others: 1 of 2, the first nan"),
        (lambda: measure([0, 1], [0.5, 1.5], 0.5), "scores must lie between 0 and 1; there are others: 1 of 2"),
        (lambda: measure([0, 1], [NAN, 0.5], 0.5), "scores must lie between 0 and 1; there are others: 1 of 2"),
        (lambda: measure([[0, 1]], [0.5, 0.5], 0.5), "the labels have shape (1, 2); one for each row is needed"),
        (lambda: measure(["no"], [0.5], 0.5), "the labels are not all numbers"),
        (lambda: measure([0, 1], [0.5, 0.5], NAN), "the threshold is NaN"),
        (lambda: measure([0], [0.5], 0.5, [-1]), "weights must be finite numbers of 0 or above, one for each row"),
        (lambda: measure([0], [0.5], 0.5, [NAN]), "weights must be finite numbers"),
        (lambda: measure([0], [0.5], 0.5, [1, 1]), "weights must be finite numbers"),
        (lambda: evaluate([0, 1], [0.5, 0.5], ["a"], 0.5), "there are 1 groups for 2 rows"),
        (lambda: evaluate([0, 1], [0.5, 0.5], np.array(["a", None]), 0.5), "1 of 2 rows have no group"),
        (lambda: compare([0, 1], [1, 2], ([0.5, 0.5], 0.5), ([0.5], 0.5)), "there are 2 labels and 1 scores"),
        (lambda: by_subgroup([0, 1], [0.5, 0.5], [1, 2], 0.5, ["a"]), "2 groups and 1 values"),
        (lambda: reaching_recall(0), "the recall to reach is 0; it must lie above 0 and be at most 1"),
        (lambda: reaching_recall(1.1), "the recall to reach is 1.1"),
        (lambda: reaching_recall(0.5).choose([0, 0], [0.1, 0.2]), "no row is positive"),
        (lambda: best_f1().choose([0, 0], [0.1, 0.2]), "no row is positive, so that F1 is undefined"),
        (lambda: Criterion("magic", at_least=1), "there is no metric magic; there are roc_auc, average_precision"),
        (lambda: Criterion("recall"), "the criterion for recall needs one finite bound, at_least or at_most"),
        (lambda: Criterion("recall", 0.1, 0.2), "needs one finite bound"),
        (lambda: Criterion("recall", at_least=NAN), "needs one finite bound"),
        (lambda: NotWorse("magic"), "there is no metric magic"),
        (lambda: NotWorse("flagged"), "neither a higher nor a lower flagged is better"),
        (lambda: NotWorse("recall", by=-0.1), "the margin for recall is -0.1; it must be 0 or above"),
    ],
)
def test_what_makes_no_sense_is_refused(act: Callable[[], Any], message: str) -> None:
    with pytest.raises(TrainingError) as error:
        act()
    assert message in str(error.value)


# Intervals


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # Rows come in groups of one label each: intervals that took rows for independent would be too narrow.
    covered = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        of_group = random.random(150) < 0.3
        groups = np.repeat(np.arange(150), 8)
        found = evaluate(of_group[groups], np.full(1200, 0.3), groups, 0.5)["base_rate"]
        covered.append(found.low <= 0.3 <= found.high)
    assert 0.85 <= np.mean(covered) <= 1.0


def test_whole_groups_are_drawn() -> None:
    labels, scores, _ = scored(2_000, 1)
    by_row = evaluate(labels, scores, np.arange(2_000), 0.1)["roc_auc"]
    doubled = (np.repeat(labels, 4), np.repeat(scores, 4), np.repeat(np.arange(2_000), 4))
    by_group = evaluate(*doubled, 0.1)["roc_auc"]
    assert (by_group.low, by_group.high) == pytest.approx((by_row.low, by_row.high))
    assert by_row.low < by_row.value < by_row.high
    as_rows = evaluate(doubled[0], doubled[1], np.arange(8_000), 0.1)["roc_auc"]
    assert as_rows.high - as_rows.low == pytest.approx((by_row.high - by_row.low) / 2, rel=0.3)


@pytest.mark.requirement("PLT-7")
def test_intervals_are_the_same_again_in_any_order() -> None:
    labels, scores, groups = scored(500, 40)
    order = np.random.default_rng(1).permutation(500)
    first = evaluate(labels, scores, groups, 0.1)
    assert evaluate(labels, scores, groups, 0.1) == first
    assert evaluate(labels[order], scores[order], groups[order].astype(str), 0.1) == first
    assert evaluate(labels, scores, groups, 0.1, seed=1) != first
    assert values(evaluate(labels, scores, groups, 0.1, seed=1)) == values(first)


def test_values_are_those_of_measure() -> None:
    labels, scores, groups = scored(500, 40)
    assert values(evaluate(labels, scores, groups, 0.1, resamples=2)) == measure(labels, scores, 0.1)


def test_counts_are_facts() -> None:
    labels, scores, groups = scored(500, 40)
    found = evaluate(labels, scores, groups, 0.1)
    assert found["rows"] == Estimate(500, 500, 500)
    assert found["positives"] == Estimate(labels.sum(), labels.sum(), labels.sum())


def test_a_single_group_has_no_interval() -> None:
    found = evaluate([0, 1, 1], [0.1, 0.2, 0.3], ["a"] * 3, 0.25)["roc_auc"]
    assert found.value == 1.0
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_a_resample_without_positives_does_not_count() -> None:
    labels, scores = [1, *[0] * 9], [0.95, *[place / 10 for place in range(9)]]
    found = evaluate(labels, scores, range(10), 0.5)["roc_auc"]
    assert found == Estimate(1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        (Estimate(0.5, 0.25, 0.75), {"value": 0.5, "low": 0.25, "high": 0.75}),
        (Estimate(NAN, NAN, NAN), {"value": None, "low": None, "high": None}),
    ],
)
def test_an_estimate_goes_into_json(estimate: Estimate, expected: dict[str, Any]) -> None:
    assert json.loads(json.dumps(estimate.as_dict(), allow_nan=False)) == expected


# Challenger and champion


def test_differences_are_paired() -> None:
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


def test_the_same_model_differs_by_nothing() -> None:
    labels, scores, groups = scored(500, 40)
    found = compare(labels, groups, (scores, 0.1), (scores, 0.1))
    assert set(found.values()) == {Estimate(0.0, 0.0, 0.0)}


def test_each_is_measured_at_its_own_threshold() -> None:
    found = compare([0, 1, 1, 0], [1, 2, 3, 4], ([0.1, 0.6, 0.7, 0.2], 0.5), ([0.1, 0.6, 0.7, 0.2], 0.65))
    assert found["recall"].value == 0.5
    assert found["roc_auc"].value == 0.0


# Subgroups


def test_each_subgroup_is_evaluated_alone() -> None:
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
        (pd.Series(["x", pd.NA, "y"], dtype="category", index=[7, 8, 9]), [UNKNOWN, "x", "y"]),
    ],
)
def test_subgroups_are_named_by_their_values(given_values: Any, names: list[str]) -> None:
    assert list(by_subgroup([0, 1, 1], [0.1, 0.5, 0.6], [1, 2, 3], 0.5, given_values, resamples=2)) == names


# Thresholds


@given(ROWS, st.floats(0.01, 1))
def test_the_highest_threshold_that_reaches_the_recall(rows: list[tuple[int, float, int]], share: float) -> None:
    labels, scores, _ = columns(rows)
    assume(labels.any())
    rule = reaching_recall(share)
    threshold = rule.choose(labels, scores)
    assert measure(labels, scores, threshold)["recall"] >= share
    higher = [score for score in scores if score > threshold]
    assert all(measure(labels, scores, score)["recall"] < share for score in higher)


@pytest.mark.parametrize(
    ("share", "threshold"), [(0.2, 0.9), (0.21, 0.7), (0.6, 0.5), (0.61, 0.5), (0.8, 0.5), (1, 0.1)]
)
def test_a_threshold_by_hand(share: float, threshold: float) -> None:
    labels, scores = [1, 1, 0, 1, 1, 0, 1, 0], [0.9, 0.7, 0.6, 0.5, 0.5, 0.3, 0.1, 0.0]
    assert reaching_recall(share).choose(labels, scores) == threshold


@given(ROWS)
def test_no_other_threshold_has_a_higher_f1(rows: list[tuple[int, float, int]]) -> None:
    labels, scores, _ = columns(rows)
    assume(labels.any())
    threshold = best_f1().choose(labels, scores)
    reached = measure(labels, scores, threshold)["f1"]
    others = {score: measure(labels, scores, score)["f1"] for score in scores}
    assert reached == max(others.values())
    assert threshold == max(score for score, f1 in others.items() if f1 == reached)


def test_the_errors_that_a_classifier_is_most_sure_of_come_first() -> None:
    labels, scores = [0, 1, 0, 1, 1, 0, 0, 1], [0.9, 0.1, 0.5, 0.4, 0.6, 0.9, 0.2, 0.1]
    false_alarms, missed = most_wrong(labels, scores, 0.5, 2)
    assert (false_alarms.tolist(), missed.tolist()) == ([0, 5], [1, 7])
    false_alarms, missed = most_wrong(labels, scores, 0.5, 9)
    assert (false_alarms.tolist(), missed.tolist()) == ([0, 5, 2], [1, 7, 3])
    assert [found.tolist() for found in most_wrong([0, 1], [0.1, 0.9], 0.5, 9)] == [[], []]


def test_a_threshold_rule_says_what_it_does() -> None:
    assert best_f1().description == "The threshold at which F1 is highest."
    assert best_f1() == best_f1() != reaching_recall(0.9)
    assert reaching_recall(0.8).description == "The highest threshold that reaches a recall of 0.8."
    assert reaching_recall(0.8) == reaching_recall(0.8) != reaching_recall(0.9)


# Verdict


@pytest.mark.parametrize(
    ("demand", "name", "description"),
    [
        (Criterion("roc_auc", at_least=0.65), "roc_auc_is_at_least_0_65", "ROC AUC is at least 0.65."),
        (
            Criterion("calibration_error", at_most=1e-05, why="Scores are shown as probabilities."),
            "calibration_error_is_at_most_0_00001",
            "Calibration error is at most 0.00001. Scores are shown as probabilities.",
        ),
        (Criterion("rows", at_least=1000), "rows_is_at_least_1000", "Number of rows is at least 1000."),
        (Criterion("brier", at_least=-0.5), "brier_is_at_least_minus_0_5", "Brier score is at least -0.5."),
        (
            NotWorse("roc_auc", by=0.02, why="Less is noise."),
            "roc_auc_is_not_worse_than_champion",
            "ROC AUC is not worse than the champion's by more than 0.02. Less is noise.",
        ),
    ],
)
def test_a_demand_is_named_as_a_fact(demand: Criterion | NotWorse, name: str, description: str) -> None:
    assert (demand.name, demand.description) == (name, description)
    assert CHECK_NAME.match(demand.name)


@pytest.mark.requirement("PRO-2")
@pytest.mark.parametrize(
    ("criterion", "estimate", "passed", "told"),
    [
        (
            Criterion("roc_auc", at_least=0.65),
            Estimate(0.503, 0.489, 0.517),
            False,
            "ROC AUC is 0.503 (0.489 to 0.517), no better than chance (0.5), at least 0.65 is needed",
        ),
        (
            Criterion("roc_auc", at_least=0.65),
            Estimate(0.65, 0.6, 0.7),
            True,
            "ROC AUC is 0.650 (0.600 to 0.700), at least 0.65 is needed",
        ),
        (
            Criterion("roc_auc", at_least=0.65),
            Estimate(0.64996, 0.6, 0.7),
            False,
            "ROC AUC is 0.64996 (0.600 to 0.700), at least 0.65 is needed",
        ),
        (
            Criterion("brier", at_most=0.05),
            Estimate(0.0501, 0.04, 0.06),
            False,
            "Brier score is 0.0501 (0.040 to 0.060), at most 0.05 is allowed",
        ),
        (
            Criterion("brier", at_most=0.05),
            Estimate(0.05, 0.04, 0.06),
            True,
            "Brier score is 0.050 (0.040 to 0.060), at most 0.05 is allowed",
        ),
        (
            Criterion("brier", at_most=0.0005),
            Estimate(0.0002, 0.0001, 0.0003),
            True,
            "Brier score is 0.0002 (0.0001 to 0.0003), at most 0.0005 is allowed",
        ),
        (
            Criterion("rows", at_least=1000),
            Estimate(12_345, 12_345, 12_345),
            True,
            "Number of rows is 12,345, at least 1000 is needed",
        ),
        (
            Criterion("recall", at_least=0.5),
            Estimate(0.6, NAN, NAN),
            True,
            "Recall is 0.600 (no interval), at least 0.5 is needed",
        ),
        (
            Criterion("precision", at_least=0.5),
            Estimate(NAN, NAN, NAN),
            False,
            "Precision is undefined, for there are no flagged rows; at least 0.5 is needed",
        ),
        (
            Criterion("roc_auc", at_least=0.65),
            Estimate(0.537, 0.48, 0.596),
            False,
            "ROC AUC is 0.537 (0.480 to 0.596), no better than chance (0.5), at least 0.65 is needed",
        ),
        (
            Criterion("roc_auc", at_most=0.99),
            Estimate(NAN, NAN, NAN),
            False,
            "ROC AUC is undefined, for there are no rows of both classes; at most 0.99 is allowed",
        ),
    ],
)
def test_a_criterion_judges_the_value(criterion: Criterion, estimate: Estimate, passed: bool, told: str) -> None:
    verdict = judge({criterion.metric: estimate}, [criterion])
    assert verdict.reasons == (Reason(criterion.name, passed, told),)
    assert verdict.passed == passed


@pytest.mark.requirement("PRO-2")
@pytest.mark.parametrize(
    ("demand", "difference", "passed", "told"),
    [
        (
            NotWorse("roc_auc"),
            Estimate(-0.003, -0.008, 0.002),
            True,
            "ROC AUC differs from the champion's by -0.003 (-0.008 to +0.002); the lower end must be at least -0.01",
        ),
        (
            NotWorse("roc_auc"),
            Estimate(0.03, -0.0101, 0.07),
            False,
            "ROC AUC differs from the champion's by +0.030 (-0.0101 to +0.070); the lower end must be at least -0.01",
        ),
        (
            NotWorse("roc_auc", by=0),
            Estimate(0.0, 0.0, 0.0),
            True,
            "ROC AUC differs from the champion's by +0.000 (+0.000 to +0.000); the lower end must be at least 0",
        ),
        (
            NotWorse("brier"),
            Estimate(0.004, -0.05, 0.009),
            True,
            "Brier score differs from the champion's by +0.004 (-0.050 to +0.009); the upper end must be at most 0.01",
        ),
        (
            NotWorse("brier"),
            Estimate(0.004, -0.05, 0.02),
            False,
            "Brier score differs from the champion's by +0.004 (-0.050 to +0.020); the upper end must be at most 0.01",
        ),
        (
            NotWorse("recall"),
            Estimate(NAN, NAN, NAN),
            False,
            (
                "Recall cannot be compared with the champion's, for there are no positive rows; "
                "the lower end must be at least -0.01"
            ),
        ),
        (
            NotWorse("roc_auc"),
            Estimate(0.2, NAN, NAN),
            False,
            "ROC AUC differs from the champion's by +0.200 (no interval); the lower end must be at least -0.01",
        ),
    ],
)
def test_the_comparison_judges_the_worse_end(demand: NotWorse, difference: Estimate, passed: bool, told: str) -> None:
    verdict = judge({}, [], keeps_up(demand, {demand.metric: difference}))
    assert verdict.reasons == (Reason(demand.name, passed, told),)
    assert verdict.passed == passed


@pytest.mark.requirement("PRO-2")
def test_a_worse_challenger_is_found_and_an_equal_one_passes() -> None:
    labels, scores, groups = scored(4_000, 400)
    noise = np.random.default_rng(2).random(4_000)
    for challenger, passed in ((scores, True), (np.clip(scores + 0.3 * noise, 0, 1), False)):
        estimates = evaluate(labels, challenger, groups, 0.1)
        difference = compare(labels, groups, (challenger, 0.1), (scores, 0.1))
        verdict = judge(estimates, [Criterion("rows", at_least=100)], keeps_up(NotWorse("roc_auc"), difference))
        assert [reason.passed for reason in verdict.reasons] == [True, passed]
        assert verdict.passed == passed


def test_nothing_demanded_is_nothing_passed() -> None:
    assert not Verdict(()).passed


def test_a_verdict_goes_into_json() -> None:
    verdict = Verdict((Reason("a_is_b", passed=True, told="A is B"), Reason("c_is_d", passed=False, told="C is E")))
    assert json.loads(json.dumps(verdict.as_dict())) == {
        "passed": False,
        "reasons": [
            {"name": "a_is_b", "passed": True, "told": "A is B"},
            {"name": "c_is_d", "passed": False, "told": "C is E"},
        ],
    }


def test_every_metric_is_described() -> None:
    assert set(measure([0, 1], [0.1, 0.9], 0.5)) == set(METRICS)
    assert all(metric.label and metric.description.endswith(".") for metric in METRICS.values())
