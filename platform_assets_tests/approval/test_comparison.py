"""Frozen evidence in words: what a difference means, and that whatever is missing is left out."""

from __future__ import annotations

from typing import Any

import pytest

from platform_assets.approval.comparison import NOTHING, Bar, Cell, comparisons, reasons, subgroups
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
def test_numbers(value: float | None, shown: str, with_sign: str) -> None:
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
def test_a_difference_is_clear_when_its_interval_leaves_out_0(
    metric: str, difference: dict[str, Any], reading: str
) -> None:
    (found,) = comparisons({"metrics": {metric: estimate(0.5)}, "difference": {metric: difference}})
    assert found.reading == reading


def test_challenger_and_champion_side_by_side() -> None:
    auc, brier, *_ = comparisons(evidence())[:2]
    assert (auc.champion, auc.challenger, auc.interval) == ("0.75", "0.77", "0.75 to 0.79")
    assert (auc.difference, auc.difference_interval) == ("+0.02", "+0.01 to +0.03")
    assert auc.bar == Bar(value=63.3, low=31.7, high=95.0)
    assert brier.bar is not None
    assert brier.bar.high == 95.0


def test_without_a_champion_there_is_no_difference() -> None:
    found = comparisons(evidence(difference=None))
    assert {(one.champion, one.difference, one.reading, one.bar) for one in found} == {(NOTHING, "", "", None)}


def test_metrics_come_in_the_order_of_their_definition_and_unknown_ones_last() -> None:
    metrics = {name: estimate(0.1) for name in ("zeta", "recall", "alpha", "roc_auc")}
    found = comparisons({"metrics": metrics})
    assert [one.name for one in found] == ["roc_auc", "recall", "alpha", "zeta"]
    assert [one.label for one in found][2:] == ["Alpha", "Zeta"]


def test_subgroups() -> None:
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


def test_demands_that_were_not_met_come_first() -> None:
    assert [one["passed"] for one in reasons(evidence(passed=False))] == [False, True]


@pytest.mark.parametrize("found", [{}, {"metrics": None, "difference": None, "verdict": None, "subgroups": None}])
def test_whatever_is_missing_is_left_out(found: dict[str, Any]) -> None:
    assert comparisons(found) == []
    assert subgroups(found) == []
    assert reasons(found) == []
