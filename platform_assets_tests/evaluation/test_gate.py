"""The quality gate: names of checks, criteria, the comparison with the champion, and the verdict."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.binary_classification import (
    compare,
    evaluate,
)
from platform_assets.evaluation.gate import Criterion, NotWorse, Reason, Verdict, judge, keeps_up
from platform_assets.evaluation.intervals import Estimate
from platform_assets_tests.evaluation.scored_rows import scored

if TYPE_CHECKING:
    from collections.abc import Callable


NAN = math.nan
CHECK_NAME = re.compile(r"^[A-Za-z0-9_]+$")  # allowed by Dagster


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
            Criterion("recall", at_least=0.95, why="A missed failure is expensive.", lower_bound=True),
            "recall_lower_bound_is_at_least_0_95",
            "Recall's lower bound (one-sided 95 %, Clopper-Pearson) is at least 0.95. A missed failure is expensive.",
        ),
        (
            NotWorse("roc_auc", by=0.02, why="Smaller differences are noise."),
            "roc_auc_is_not_worse_than_champion",
            "ROC AUC is not worse than the champion's by more than 0.02. Smaller differences are noise.",
        ),
    ],
)
def test_the_name_and_the_description_of_a_check_state_its_bound(
    demand: Criterion | NotWorse, name: str, description: str
) -> None:
    assert (demand.name, demand.description) == (name, description)
    assert CHECK_NAME.match(demand.name)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda: Criterion("magic", at_least=1).description,
            "unknown metric magic; use one of: roc_auc, ",
        ),
        (
            lambda: Criterion("recall"),
            "the criterion for recall needs exactly one finite bound: set at_least or at_most",
        ),
        (lambda: Criterion("recall", 0.1, 0.2), "needs exactly one finite bound"),
        (lambda: Criterion("recall", at_least=NAN), "needs exactly one finite bound"),
        (
            lambda: Criterion("recall", at_most=0.5, lower_bound=True),
            "the criterion for recall cannot test a lower bound; lower_bound=True requires at_least and one of the",
        ),
        (lambda: Criterion("precision", at_least=0.5, lower_bound=True), "for precision cannot test a lower bound"),
        (lambda: NotWorse("magic").description, "unknown metric magic"),
        (
            lambda: NotWorse("flagged"),
            "flagged cannot be compared with the champion's, because neither higher nor lower is better",
        ),
        (lambda: NotWorse("recall", by=-0.1), "the margin for recall is -0.1; it must be finite and 0 or above"),
    ],
)
def test_invalid_declarations_are_rejected(act: Callable[[], Any], message: str) -> None:
    with pytest.raises(TrainingError) as error:
        act()
    assert message in str(error.value)


@pytest.mark.requirement("PRO-2")
@pytest.mark.parametrize(
    ("criterion", "estimate", "passed", "told"),
    [
        (
            Criterion("roc_auc", at_least=0.65),
            Estimate(0.503, 0.489, 0.517),
            False,
            "ROC AUC is 0.503 (0.489 to 0.517), no better than chance (0.5); required: at least 0.65",
        ),
        (
            Criterion("roc_auc", at_least=0.65),
            Estimate(0.65, 0.6, 0.7),
            True,
            "ROC AUC is 0.650 (0.600 to 0.700); required: at least 0.65",
        ),
        (
            Criterion("roc_auc", at_least=0.65),
            Estimate(0.64996, 0.6, 0.7),
            False,
            "ROC AUC is 0.64996 (0.600 to 0.700); required: at least 0.65",
        ),
        (
            Criterion("brier", at_most=0.05),
            Estimate(0.0501, 0.04, 0.06),
            False,
            "Brier score is 0.0501 (0.040 to 0.060); required: at most 0.05",
        ),
        (
            Criterion("brier", at_most=0.05),
            Estimate(0.05, 0.04, 0.06),
            True,
            "Brier score is 0.050 (0.040 to 0.060); required: at most 0.05",
        ),
        (
            Criterion("brier", at_most=0.0005),
            Estimate(0.0002, 0.0001, 0.0003),
            True,
            "Brier score is 0.0002 (0.0001 to 0.0003); required: at most 0.0005",
        ),
        (
            Criterion("rows", at_least=1000),
            Estimate(12_345, 12_345, 12_345),
            True,
            "Number of rows is 12,345; required: at least 1000",
        ),
        (
            Criterion("lift_top_decile", at_least=1.5),
            Estimate(1.25, 1.125, 2),
            False,
            "Lift of the top decile is 1.250 (1.125 to 2); required: at least 1.5",
        ),
        (
            Criterion("recall", at_least=0.5),
            Estimate(0.6, NAN, NAN),
            True,
            "Recall is 0.600 (no interval); required: at least 0.5",
        ),
        (
            Criterion("precision", at_least=0.5),
            Estimate(NAN, NAN, NAN),
            False,
            "Precision is undefined, because there are no flagged rows; required: at least 0.5",
        ),
        (
            Criterion("roc_auc", at_least=0.65),
            Estimate(0.537, 0.48, 0.596),
            False,
            "ROC AUC is 0.537 (0.480 to 0.596), no better than chance (0.5); required: at least 0.65",
        ),
        (
            Criterion("roc_auc", at_most=0.99),
            Estimate(NAN, NAN, NAN),
            False,
            "ROC AUC is undefined, because there are no rows of one of the classes; required: at most 0.99",
        ),
    ],
)
def test_a_criterion_tests_the_value_and_not_the_interval(
    criterion: Criterion, estimate: Estimate, passed: bool, told: str
) -> None:
    verdict = judge({criterion.metric: estimate}, [criterion])
    assert verdict.reasons == (Reason(criterion.name, passed, told),)
    assert verdict.passed == passed


@pytest.mark.requirement("PRO-2", "SEN-4")
@pytest.mark.parametrize(
    ("caught", "positives", "passed", "told"),
    [
        (150, 150, True, "Recall is 1.000 (0.9 to 1); its lower bound (one-sided 95 %, Clopper-Pearson) is 0.980; "),
        (148, 150, True, "Recall is 0.987 (0.9 to 1); its lower bound (one-sided 95 %, Clopper-Pearson) is 0.959; "),
        (147, 150, False, "Recall is 0.980 (0.9 to 1); its lower bound (one-sided 95 %, Clopper-Pearson) is 0.949; "),
        (20, 20, False, "Recall is 1.000 (0.9 to 1); its lower bound (one-sided 95 %, Clopper-Pearson) is 0.861; "),
        (0, 150, False, "Recall is 0.000 (0.9 to 1); its lower bound (one-sided 95 %, Clopper-Pearson) is 0.000; "),
        (0, 0, False, "Recall is undefined, because there are no positive rows; "),
    ],
)
def test_a_criterion_can_test_the_exact_lower_bound(caught: int, positives: int, told: str, *, passed: bool) -> None:
    criterion = Criterion("recall", at_least=0.95, lower_bound=True)
    recall = Estimate(caught / positives, 0.9, 1.0) if positives else Estimate(NAN, NAN, NAN)
    estimates = {"recall": recall, "positives": Estimate(positives, positives, positives)}
    [reason] = judge(estimates, [criterion]).reasons
    assert reason == Reason(
        criterion.name, passed, f"{told.replace('0.9 to 1', '0.900 to 1.000')}required: at least 0.95"
    )


@pytest.mark.requirement("PRO-2")
@pytest.mark.parametrize(
    ("demand", "difference", "passed", "told"),
    [
        (
            NotWorse("roc_auc"),
            Estimate(-0.003, -0.008, 0.002),
            True,
            (
                "ROC AUC differs from the champion's by -0.003 (-0.008 to +0.002); "
                "the interval's lower bound must be at least -0.01"
            ),
        ),
        (
            NotWorse("roc_auc"),
            Estimate(0.03, -0.0101, 0.07),
            False,
            (
                "ROC AUC differs from the champion's by +0.030 (-0.0101 to +0.070); "
                "the interval's lower bound must be at least -0.01"
            ),
        ),
        (
            NotWorse("roc_auc", by=0),
            Estimate(0.0, 0.0, 0.0),
            True,
            (
                "ROC AUC differs from the champion's by +0.000 (+0.000 to +0.000); "
                "the interval's lower bound must be at least 0"
            ),
        ),
        (
            NotWorse("brier"),
            Estimate(0.004, -0.05, 0.009),
            True,
            (
                "Brier score differs from the champion's by +0.004 (-0.050 to +0.009); "
                "the interval's upper bound must be at most 0.01"
            ),
        ),
        (
            NotWorse("brier"),
            Estimate(0.004, -0.05, 0.02),
            False,
            (
                "Brier score differs from the champion's by +0.004 (-0.050 to +0.020); "
                "the interval's upper bound must be at most 0.01"
            ),
        ),
        (
            NotWorse("recall"),
            Estimate(NAN, NAN, NAN),
            False,
            (
                "Recall cannot be compared with the champion's, because there are no positive rows; "
                "the interval's lower bound must be at least -0.01"
            ),
        ),
        (
            NotWorse("roc_auc"),
            Estimate(0.2, NAN, NAN),
            False,
            (
                "ROC AUC differs from the champion's by +0.200 (no interval); "
                "the interval's lower bound must be at least -0.01"
            ),
        ),
    ],
)
def test_the_comparison_uses_the_worse_end_of_the_confidence_interval(
    demand: NotWorse, difference: Estimate, passed: bool, told: str
) -> None:
    verdict = judge({}, [], keeps_up(demand, {demand.metric: difference}))
    assert verdict.reasons == (Reason(demand.name, passed, told),)
    assert verdict.passed == passed


@pytest.mark.requirement("PRO-2")
def test_a_worse_challenger_fails_and_an_equal_one_passes() -> None:
    labels, scores, groups = scored(4_000, 400)
    noise = np.random.default_rng(2).random(4_000)
    for challenger, passed in ((scores, True), (np.clip(scores + 0.3 * noise, 0, 1), False)):
        estimates = evaluate(labels, challenger, groups, 0.1)
        difference = compare(labels, groups, (challenger, 0.1), (scores, 0.1))
        verdict = judge(estimates, [Criterion("rows", at_least=100)], keeps_up(NotWorse("roc_auc"), difference))
        assert [reason.passed for reason in verdict.reasons] == [True, passed]
        assert verdict.passed == passed


def test_a_verdict_without_reasons_does_not_pass() -> None:
    assert not Verdict(()).passed


def test_a_verdict_can_be_converted_to_json() -> None:
    verdict = Verdict((Reason("a_is_b", passed=True, told="A is B"), Reason("c_is_d", passed=False, told="C is E")))
    assert json.loads(json.dumps(verdict.as_dict())) == {
        "passed": False,
        "reasons": [
            {"name": "a_is_b", "passed": True, "told": "A is B"},
            {"name": "c_is_d", "passed": False, "told": "C is E"},
        ],
    }
