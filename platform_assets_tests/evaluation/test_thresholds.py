"""Threshold rules: minimum recall, maximum F1, and a limit on false alarms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.binary_classification import (
    measure,
)
from platform_assets.evaluation.thresholds import best_f1, bounding_false_alarms, reaching_recall
from platform_assets_tests.evaluation.scored_rows import ROWS, columns

if TYPE_CHECKING:
    from collections.abc import Callable


@given(ROWS, st.floats(0.01, 1))
def test_reaching_recall_chooses_the_highest_threshold_with_the_required_recall(
    rows: list[tuple[int, float, int]], share: float
) -> None:
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
def test_reaching_recall_gives_the_threshold_of_a_worked_example(share: float, threshold: float) -> None:
    labels, scores = [1, 1, 0, 1, 1, 0, 1, 0], [0.9, 0.7, 0.6, 0.5, 0.5, 0.3, 0.1, 0.0]
    assert reaching_recall(share).choose(labels, scores) == threshold


@given(ROWS)
def test_best_f1_chooses_the_highest_threshold_with_maximum_f1(rows: list[tuple[int, float, int]]) -> None:
    labels, scores, _ = columns(rows)
    assume(labels.any())
    threshold = best_f1().choose(labels, scores)
    reached = measure(labels, scores, threshold)["f1"]
    others = {score: measure(labels, scores, score)["f1"] for score in scores}
    assert reached == max(others.values())
    assert threshold == max(score for score, f1 in others.items() if f1 == reached)


@pytest.mark.requirement("SEN-4")
@given(ROWS, st.floats(0, 0.99))
def test_bounding_false_alarms_chooses_the_lowest_threshold_within_the_bound(
    rows: list[tuple[int, float, int]], share: float
) -> None:
    labels, scores, _ = columns(rows)
    assume(not all(labels))
    threshold = bounding_false_alarms(share).choose(labels, scores)
    assert measure(labels, scores, threshold)["false_positive_rate"] <= share
    lower = [score for score in scores if score < threshold]
    assert all(measure(labels, scores, score)["false_positive_rate"] > share for score in lower)


@pytest.mark.parametrize(("share", "threshold"), [(0, 0.8), (0.24, 0.8), (0.25, 0.5), (0.5, 0.3), (0.99, 0.1)])
def test_bounding_false_alarms_gives_the_threshold_of_a_worked_example(share: float, threshold: float) -> None:
    labels, scores = [1, 1, 0, 1, 0, 1, 0, 1, 0], [0.9, 0.8, 0.7, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
    assert bounding_false_alarms(share).choose(labels, scores) == threshold


def test_no_row_is_flagged_if_even_the_highest_score_gives_too_many_false_alarms() -> None:
    threshold = bounding_false_alarms(0.15).choose([0, 1], [1.0, 1.0])
    assert measure([0, 1], [1.0, 1.0], threshold)["flagged"] == 0


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: reaching_recall(0), "the target recall is 0; it must be above 0 and at most 1"),
        (lambda: reaching_recall(1.1), "the target recall is 1.1"),
        (lambda: reaching_recall(0.5).choose([0, 0], [0.1, 0.2]), "no row is positive, so recall is undefined"),
        (lambda: bounding_false_alarms(1), "the false-positive rate is 1; it must be 0 or above, and below 1"),
        (lambda: bounding_false_alarms(-0.1), "the false-positive rate is -0.1"),
        (lambda: bounding_false_alarms(0.5).choose([1, 1], [0.1, 0.2]), "no row is negative"),
        (lambda: best_f1().choose([0, 0], [0.1, 0.2]), "no row is positive, so F1 is undefined"),
    ],
)
def test_invalid_limits_and_rows_of_a_single_class_are_rejected(act: Callable[[], Any], message: str) -> None:
    with pytest.raises(TrainingError) as error:
        act()
    assert message in str(error.value)


def test_rules_have_fixed_names_parameters_and_descriptions() -> None:
    assert best_f1().description == "The threshold at which F1 is highest."
    # Names and parameters must not change, because the fingerprints of training runs contain them.
    assert (best_f1().name, best_f1().parameters) == ("best_f1", {})
    assert (reaching_recall(0.8).name, reaching_recall(0.8).parameters) == ("recall", {"at_least": 0.8})
    bounding = bounding_false_alarms(0.15)
    assert (bounding.name, bounding.parameters) == ("false_positive_rate", {"at_most": 0.15})
    assert bounding.description == "The lowest threshold with a false-positive rate of at most 0.15."
    assert best_f1() == best_f1() != reaching_recall(0.9)
    assert reaching_recall(0.8).description == "The highest threshold that reaches a recall of 0.8."
    assert reaching_recall(0.8) == reaching_recall(0.8) != reaching_recall(0.9)
