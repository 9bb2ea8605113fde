"""Which decisions the policy allows, and the messages for refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from platform_assets.approval.ledger_errors import DecisionRefused
from platform_assets.approval.requests import Actor, State
from platform_assets.database.policies import write_rules
from platform_assets_tests.approval.proposals import (
    ANNA,
    BERT,
    CARLA,
    FAILED,
    MODEL,
    SOMEBODY,
    ledger_at,
    owner_at,
    person,
    promote,
    proposal,
)

if TYPE_CHECKING:
    from platform_assets.approval.ledger import Ledger
    from platform_assets.approval.refusals import Verb


def kinds(ledger: Ledger, number: int) -> list[str]:
    return [event.kind for event in ledger.history(number)]


@pytest.mark.requirement("PRO-5", "PRO-6")
@pytest.mark.parametrize(
    ("fields", "decision", "said"),
    [
        ({}, ("approve", ANNA, ""), "give a reason"),
        ({}, ("reject", ANNA, " \n"), "give a reason"),
        ({}, ("approve", ANNA, "a\0b"), r"the reason contains control or invisible characters \(U\+0000\)"),
        ({}, ("approve", ANNA, "a\ud800b"), r"\(U\+D800\)"),
        ({}, ("approve", ANNA, "good\x1b[2K"), r"\(U\+001B\)"),
        ({}, ("approve", ANNA, "\u202edoog"), r"\(U\+202E\)"),
        ({}, ("approve", Actor("a\udfff"), "good"), r"the name contains .* \(U\+DFFF\)"),
        ({}, ("approve", ANNA, "x" * 10_001), "longer than 10,000 characters"),
        ({}, ("approve", Actor(" "), "good"), "give the name"),
        ({}, ("promote", ANNA, "good"), "must be approve, reject or withdraw"),
        ({}, ("approve", person("anna", "read", "predict"), "good"), "lacks the scope `approve`"),
        ({}, ("withdraw", person("anna", "read"), "good"), "lacks the scope `approve`"),
        (
            {"approvers": ("bert", "carla")},
            ("approve", ANNA, "good"),
            "anna is not one of the policy's approvers: bert, carla",
        ),
        (
            {"approvers": ("anna",)},
            ("reject", SOMEBODY, "good"),
            r"anna \(identity not verified\) is not one of the policy's approvers: anna",
        ),
        ({"four_eyes": True, "launched_by": "Anna "}, ("approve", ANNA, "good"), "another person must approve it"),
        (
            {"four_eyes": True, "requested_by": "anna"},
            ("approve", ANNA, "good"),
            "made the request, and the policy is four-eyes",
        ),
        (
            {"four_eyes": True, "launched_by": None},
            ("approve", ANNA, "good"),
            "it is unknown who launched the training",
        ),
        (
            {"four_eyes": True, "launched_by": "user"},
            ("approve", ANNA, "good"),
            "it is unknown who launched the training",
        ),
        ({"evidence": FAILED}, ("approve", ANNA, "good"), "did not pass the gate; under the policy, no one may"),
        ({"evidence": {}}, ("approve", ANNA, "good"), "did not pass the gate"),
        ({"evidence": {"verdict": {"passed": "true"}}}, ("approve", ANNA, "good"), "did not pass the gate"),
        (
            {"evidence": FAILED, "may_override": ("anna",)},
            ("approve", ANNA, "good"),
            "anna may approve it with an override",
        ),
    ],
)
def test_a_decision_that_the_policy_forbids_is_not_recorded(
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
        ({"requested_by": SOMEBODY}, ("withdraw", SOMEBODY, "no")),
        ({"approvers": ("Anna",)}, ("approve", ANNA, "good")),
        ({"approvers": ("stra\u00dfe",)}, ("approve", person("  STRASSE "), "good")),
        ({"requested_by": "anna"}, ("withdraw", person("anna", "read"), "no")),
        ({"approvers": ("bert",), "launched_by": "anna"}, ("withdraw", ANNA, "no")),
        ({"evidence": FAILED}, ("reject", ANNA, "bad")),
    ],
)
def test_decision_allowed_by_the_policy_is_recorded(
    ledger: Ledger, fields: dict[str, Any], decision: tuple[Verb, Actor, str]
) -> None:
    request = ledger.open_request(proposal(**fields))
    assert ledger.decide(request.id, *decision).state is not State.PENDING


@pytest.mark.requirement("PRO-5", "PRO-9")
def test_unverified_name_is_refused_if_identity_is_required(database_url: str) -> None:
    with owner_at(database_url) as owner:
        write_rules(owner, identity_required=True)
    with ledger_at(database_url) as ledger:
        request = ledger.open_request(proposal())
        with pytest.raises(DecisionRefused, match="anna is not authenticated, and PLATFORM_APPROVALS_REQUIRE_IDENTITY"):
            ledger.decide(request.id, "approve", SOMEBODY, "good")
        promote(ledger, 2)
        with pytest.raises(DecisionRefused, match="PLATFORM_APPROVALS_REQUIRE_IDENTITY"):
            ledger.rolled_back(MODEL, SOMEBODY, "bad")
        with pytest.raises(DecisionRefused, match="PLATFORM_APPROVALS_REQUIRE_IDENTITY"):
            ledger.open_request(proposal(3, requested_by=SOMEBODY))


@pytest.mark.requirement("PRO-6", "PRO-9")
@pytest.mark.parametrize("policy", [{"four_eyes": True}, {"approvals": 2}])
def test_unverified_approval_is_refused_if_the_policy_requires_different_people(
    ledger: Ledger, policy: dict[str, Any]
) -> None:
    request = ledger.open_request(proposal(**policy))
    with pytest.raises(DecisionRefused, match="needs the identity of each approver, so an approval needs a key"):
        ledger.decide(request.id, "approve", SOMEBODY, "good")


@pytest.mark.requirement("PRO-6")
@pytest.mark.parametrize("name", ["anna", "ANNA"])
def test_four_eyes_policy_refuses_an_approval_by_an_unverified_requester(ledger: Ledger, name: str) -> None:
    request = ledger.open_request(proposal(four_eyes=True, requested_by=Actor(name)))
    with pytest.raises(DecisionRefused, match="another person must approve it"):
        ledger.decide(request.id, "approve", ANNA, "good")


@pytest.mark.requirement("PRO-5")
def test_an_override_is_recorded_if_the_policy_allows_it(ledger: Ledger) -> None:
    request = ledger.open_request(proposal(evidence=FAILED, may_override=("bert",)))
    with pytest.raises(DecisionRefused, match="anna may not override a failed gate; bert may"):
        ledger.decide(request.id, "approve", ANNA, "good", override=True)
    with pytest.raises(DecisionRefused, match="only an approval can override a failed gate"):
        ledger.decide(request.id, "reject", BERT, "bad", override=True)
    assert ledger.decide(request.id, "approve", BERT, "we need it", override=True).state is State.APPROVED
    event = ledger.history(request.id)[-1]
    assert event.override
    assert "overriding a failed gate: we need it" in event.told
    passed = ledger.open_request(proposal(2, may_override=("bert",)))
    with pytest.raises(DecisionRefused, match="there is nothing to override"):
        ledger.decide(passed.id, "approve", BERT, "good", override=True)


@pytest.mark.requirement("PRO-6")
def test_several_approvals_must_come_from_different_people(ledger: Ledger) -> None:
    request = ledger.open_request(proposal(approvals=3))
    assert ledger.decide(request.id, "approve", ANNA, "good").state is State.PENDING
    with pytest.raises(DecisionRefused, match="ANNA has already approved it; it has 1 of 3 approvals"):
        ledger.decide(request.id, "approve", person("ANNA"), "good")
    assert ledger.decide(request.id, "approve", BERT, "good").state is State.PENDING
    assert ledger.decide(request.id, "approve", CARLA, "good").state is State.APPROVED
    other = ledger.open_request(proposal(2, approvals=2))
    ledger.decide(other.id, "approve", ANNA, "good")
    assert ledger.decide(other.id, "reject", ANNA, "on second thoughts").state is State.REJECTED
