"""How the evidence of a request is displayed: criteria, differences, and missing parts."""

from __future__ import annotations

from typing import Any

import pytest

from platform_assets.approval.comparison import NOTHING, Bar, Cell, Standing, comparisons, outcomes, subgroups
from platform_assets.evaluation.gate import Criterion, NotWorse, keeps_up
from platform_assets.evaluation.intervals import Estimate
from platform_assets.web.number_formats import number, signed
from platform_assets_tests.approval.evidence_proposals import estimate, evidence

MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("value", "shown", "with_sign"),
    [
        (None, "undefined", "undefined"),
        (0, "0", "0"),
        (0.0, "0", "0"),
        (1.0, "1", "+1"),
        (0.12345, "0.123", "+0.123"),
        (-0.0021, f"{MINUS}0.0021", f"{MINUS}0.0021"),
        (12034.0, "12,034", "+12,034"),
        (1e-9, f"1e{MINUS}09", f"+1e{MINUS}09"),
    ],
)
def test_numbers_are_formatted_for_display(value: float | None, shown: str, with_sign: str) -> None:
    assert number(value) == shown
    assert signed(value) == with_sign


@pytest.mark.parametrize(
    ("metric", "difference", "reading"),
    [
        ("roc_auc", estimate(0.02, 0.01, 0.03), "better"),
        ("roc_auc", estimate(-0.02, -0.03, -0.01), "worse"),
        ("roc_auc", estimate(0.02, -0.01, 0.05), "no clear difference"),
        ("roc_auc", estimate(0.02, 0.0, 0.05), "no clear difference"),
        ("brier", estimate(0.02, 0.01, 0.03), "worse"),
        ("brier", estimate(-0.02, -0.03, -0.01), "better"),
        ("flagged", estimate(0.02, 0.01, 0.03), "higher"),
        ("flagged", estimate(-0.02, -0.03, -0.01), "lower"),
        ("of_another_time", estimate(0.02, 0.01, 0.03), "higher"),
        ("rows", estimate(0.0, 0.0, 0.0), "no difference"),
        ("roc_auc", estimate(0.02), "no clear difference"),
        ("roc_auc", estimate(None), "undefined"),
    ],
)
def test_difference_is_clear_only_if_its_interval_excludes_0(
    metric: str, difference: dict[str, Any], reading: str
) -> None:
    (found,) = comparisons({"metrics": {metric: estimate(0.5)}, "difference": {metric: difference}})
    assert found.reading == reading


def test_challenger_and_champion_are_compared_by_metric() -> None:
    auc, brier, *_ = comparisons(evidence())[:2]
    assert (auc.champion, auc.challenger, auc.interval) == ("0.75", "0.77", "0.75 to 0.79")
    assert (auc.difference, auc.difference_interval) == ("+0.02", "+0.01 to +0.03")
    assert auc.bar == Bar(value=63.3, low=31.7, high=95.0)
    assert brier.bar is not None
    assert brier.bar.high == 95.0


def test_a_comparison_without_a_champion_has_no_difference() -> None:
    found = comparisons(evidence(difference=None))
    assert {(one.champion, one.difference, one.reading, one.bar) for one in found} == {(NOTHING, "", "", None)}


def test_unknown_metrics_are_listed_after_known_metrics() -> None:
    metrics = {name: estimate(0.1) for name in ("zeta", "recall", "alpha", "roc_auc")}
    found = comparisons({"metrics": metrics})
    assert [one.name for one in found] == ["roc_auc", "recall", "alpha", "zeta"]
    assert [one.label for one in found][2:] == ["Alpha", "Zeta"]


def test_subgroups_have_metrics_with_intervals() -> None:
    (found,) = subgroups(evidence())
    assert found.column == "site"
    assert found.headings == ("Number of rows", "ROC AUC", "Recall", "Precision")
    assert found.rows[0] == (
        "north",
        (Cell("1,200"), Cell("0.77", "0.75 to 0.79"), Cell("0.8", "0.77 to 0.83"), Cell("undefined")),
    )


def test_a_subgroup_may_lack_a_metric() -> None:
    (found,) = subgroups({"subgroups": {"site": {"north": {"recall": estimate(0.5)}, "south": {}}}})
    assert found.rows == (("north", (Cell("0.5"),)), ("south", (Cell(NOTHING),)))


def test_unmet_criteria_are_listed_first() -> None:
    assert [one.passed for one in outcomes(evidence(passed=False))] == [False, True]


@pytest.mark.requirement("PRO-4")
@pytest.mark.parametrize(
    ("name", "passed", "interval", "standing"),
    [
        ("recall_is_at_least_0_75", True, (0.76, 0.83), Standing.MET),
        ("recall_is_at_least_0_75", True, (0.75, 0.83), Standing.UNCERTAIN),
        ("recall_is_at_least_0_75", True, (0.70, 0.83), Standing.UNCERTAIN),
        ("recall_is_at_least_0_75", False, (0.70, 0.83), Standing.UNCERTAIN),
        ("recall_is_at_least_0_75", False, (0.60, 0.74), Standing.NOT_MET),
        ("recall_is_at_most_0_75", True, (0.60, 0.74), Standing.MET),
        ("recall_is_at_most_1", True, (0.9, 1.2), Standing.UNCERTAIN),
        ("recall_is_at_least_minus_0_5", True, (-0.6, 0.1), Standing.UNCERTAIN),
        ("recall_is_at_least_minus_0_5", True, (-0.4, 0.1), Standing.MET),
        ("recall_is_at_least_0_75", True, (None, None), Standing.MET),
        ("recall_is_at_least_0_75", True, (0.75, 0.75), Standing.MET),
        ("another_criterion", False, (0.70, 0.83), Standing.NOT_MET),
    ],
)
def test_a_criterion_is_uncertain_if_the_interval_contains_its_bound(
    name: str, passed: bool, interval: tuple[float | None, float | None], standing: Standing
) -> None:
    verdict = {"reasons": [{"name": name, "passed": passed, "told": "told"}]}
    (found,) = outcomes({"metrics": {"recall": estimate(0.7, *interval)}, "verdict": verdict})
    assert found.standing is standing


@pytest.mark.requirement("PRO-4")
@pytest.mark.parametrize(
    ("passed", "difference", "standing"),
    [
        (True, None, Standing.NOT_APPLICABLE),
        (True, estimate(0.01, -0.004, 0.03), Standing.MET),
        (False, estimate(0.0, -0.02, 0.02), Standing.UNCERTAIN),
        (False, estimate(-0.1, -0.2, -0.05), Standing.NOT_MET),
        (False, estimate(None), Standing.NOT_MET),
    ],
)
def test_the_margin_of_a_criterion_is_parsed_from_its_message(
    passed: bool, difference: dict[str, Any] | None, standing: Standing
) -> None:
    told = keeps_up(NotWorse("recall", by=0.01), {"recall": Estimate(0.0, -0.02, 0.02)}).told
    # Messages of earlier releases contain "lower end" instead of "interval's lower bound".
    for message in (told, told.replace("interval's lower bound", "lower end")):
        reason = {"name": NotWorse("recall").name, "passed": passed, "told": message}
        frozen = {"difference": difference and {"recall": difference}, "verdict": {"reasons": [reason]}}
        (found,) = outcomes(frozen)
        assert found.standing is standing


def test_the_bound_is_parsed_from_the_name_of_a_criterion() -> None:
    for bound in (0.65, 1, 0, 1e-5, -0.5, 12.5):
        for criterion in (Criterion("recall", at_least=bound), Criterion("recall", at_most=bound)):
            verdict = {"reasons": [{"name": criterion.name, "passed": True, "told": ""}]}
            metrics = {"recall": estimate(bound, bound - 1e-6, bound + 1e-6)}
            (found,) = outcomes({"metrics": metrics, "verdict": verdict})
            assert found.standing is Standing.UNCERTAIN, criterion.name


@pytest.mark.parametrize("found", [{}, {"metrics": None, "difference": None, "verdict": None, "subgroups": None}])
def test_nothing_is_displayed_for_missing_evidence(found: dict[str, Any]) -> None:
    assert comparisons(found) == []
    assert subgroups(found) == []
    assert outcomes(found) == []
