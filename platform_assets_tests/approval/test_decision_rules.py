"""Who may decide what, over a real ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from platform_assets.approval.ledger_errors import DecisionRefused
from platform_assets.approval.requests import Actor, State
from platform_assets_tests.approval.proposals import (
    ANNA,
    BERT,
    CARLA,
    FAILED,
    MODEL,
    SOMEBODY,
    ledger_at,
    person,
    promote,
    proposal,
)

if TYPE_CHECKING:
    from platform_assets.approval.decision_rules import Verb
    from platform_assets.approval.ledger import Ledger


def kinds(ledger: Ledger, number: int) -> list[str]:
    return [event.kind for event in ledger.history(number)]


@pytest.mark.requirement("PRO-5", "PRO-6")
@pytest.mark.parametrize(
    ("fields", "decision", "said"),
    [
        ({}, ("approve", ANNA, ""), "say why"),
        ({}, ("reject", ANNA, " \n"), "say why"),
        ({}, ("approve", ANNA, "a\0b"), "a reason is text"),
        ({}, ("approve", ANNA, "a\ud800b"), "a reason is text"),
        ({}, ("approve", Actor("a\udfff"), "good"), "the name of who decides must be text"),
        ({}, ("approve", ANNA, "x" * 10_001), "10,000 characters at most"),
        ({}, ("approve", Actor(" "), "good"), "say who"),
        ({}, ("promote", ANNA, "good"), "'promote' is no decision"),
        ({}, ("approve", person("anna", "read", "predict"), "good"), "lacks the scope approve"),
        ({}, ("withdraw", person("anna", "read"), "good"), "lacks the scope approve"),
        ({"approvers": ("bert", "carla")}, ("approve", ANNA, "good"), "anna may not decide it; bert, carla may"),
        ({"approvers": ("bert",)}, ("reject", SOMEBODY, "good"), "anna may not decide it"),
        ({"four_eyes": True, "launched_by": "Anna "}, ("approve", ANNA, "good"), "somebody else must"),
        ({"four_eyes": True, "requested_by": "anna"}, ("approve", ANNA, "good"), "made the request"),
        ({"four_eyes": True, "launched_by": None}, ("approve", ANNA, "good"), "nobody knows who launched"),
        ({"four_eyes": True, "launched_by": "user"}, ("approve", ANNA, "good"), "nobody knows who launched"),
        ({"evidence": FAILED}, ("approve", ANNA, "good"), "did not pass the gate; the model's policy lets nobody"),
        ({"evidence": {}}, ("approve", ANNA, "good"), "did not pass the gate"),
        ({"evidence": {"verdict": {"passed": "true"}}}, ("approve", ANNA, "good"), "did not pass the gate"),
        ({"evidence": FAILED, "may_override": ("anna",)}, ("approve", ANNA, "good"), "anna may override that, and has"),
    ],
)
def test_what_the_policy_forbids_is_refused_and_not_recorded(
    ledger: Ledger, fields: dict[str, Any], decision: tuple[Verb, Actor, str], said: str
) -> None:
    request = ledger.open_request(proposal(**fields))
    with pytest.raises(DecisionRefused, match=said):
        ledger.decide(request.id, *decision)
    assert kinds(ledger, request.id) == ["request"]


@pytest.mark.parametrize(
    ("fields", "decision"),
    [
        ({"four_eyes": True, "launched_by": "bert"}, ("approve", ANNA, "good")),
        ({"four_eyes": True, "launched_by": "anna"}, ("reject", ANNA, "bad")),
        ({"four_eyes": True, "launched_by": None}, ("reject", ANNA, "bad")),
        ({"launched_by": "anna"}, ("approve", ANNA, "good")),
        ({"launched_by": None}, ("approve", SOMEBODY, "good")),
        ({"approvers": ("Anna",)}, ("approve", ANNA, "good")),
        ({"requested_by": "anna"}, ("withdraw", person("anna", "read"), "no")),
        ({"approvers": ("bert",), "launched_by": "anna"}, ("withdraw", ANNA, "no")),
        ({"evidence": FAILED}, ("reject", ANNA, "bad")),
    ],
)
def test_what_the_policy_allows_is_done(
    ledger: Ledger, fields: dict[str, Any], decision: tuple[Verb, Actor, str]
) -> None:
    request = ledger.open_request(proposal(**fields))
    assert ledger.decide(request.id, *decision).state is not State.PENDING


def test_where_identity_is_required_a_mere_name_decides_nothing(database_url: str) -> None:
    with ledger_at(database_url, require_identity=True) as ledger:
        request = ledger.open_request(proposal())
        with pytest.raises(DecisionRefused, match="PLATFORM_APPROVALS_REQUIRE_IDENTITY"):
            ledger.decide(request.id, "approve", SOMEBODY, "good")
        promote(ledger, 2)
        with pytest.raises(DecisionRefused, match="PLATFORM_APPROVALS_REQUIRE_IDENTITY"):
            ledger.rolled_back(MODEL, SOMEBODY, "bad")


@pytest.mark.requirement("PRO-5")
def test_an_override_is_for_whom_the_policy_names_and_is_marked_for_ever(ledger: Ledger) -> None:
    request = ledger.open_request(proposal(evidence=FAILED, may_override=("bert",)))
    with pytest.raises(DecisionRefused, match="anna may not override a failed verdict; only bert may"):
        ledger.decide(request.id, "approve", ANNA, "good", override=True)
    with pytest.raises(DecisionRefused, match="only an approval can override"):
        ledger.decide(request.id, "reject", BERT, "bad", override=True)
    assert ledger.decide(request.id, "approve", BERT, "we need it", override=True).state is State.APPROVED
    event = ledger.history(request.id)[-1]
    assert event.override
    assert "overriding a failed verdict: we need it" in event.told
    passed = ledger.open_request(proposal(2, may_override=("bert",)))
    with pytest.raises(DecisionRefused, match="nothing to override"):
        ledger.decide(passed.id, "approve", BERT, "good", override=True)


@pytest.mark.requirement("PRO-6")
def test_several_approvals_come_from_different_people(ledger: Ledger) -> None:
    request = ledger.open_request(proposal(approvals=3))
    assert ledger.decide(request.id, "approve", ANNA, "good").state is State.PENDING
    with pytest.raises(DecisionRefused, match="ANNA has approved it already; 3 different people must, and 1 did"):
        ledger.decide(request.id, "approve", person("ANNA"), "good")
    assert ledger.decide(request.id, "approve", BERT, "good").state is State.PENDING
    assert ledger.decide(request.id, "approve", CARLA, "good").state is State.APPROVED
    other = ledger.open_request(proposal(2, approvals=2))
    ledger.decide(other.id, "approve", ANNA, "good")
    assert ledger.decide(other.id, "reject", ANNA, "on second thoughts").state is State.REJECTED
