"""The ledger on a real PostgreSQL, with the service role."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

import pytest

from platform_assets.approval.ledger_errors import AlreadyDecided, DecisionRefused, LedgerError, NoSuchRequest
from platform_assets.approval.requests import State
from platform_assets_tests.approval.proposals import (
    ANNA,
    BERT,
    FAILED,
    MODEL,
    PASSED,
    PLOTS,
    SOMEBODY,
    person,
    promote,
    proposal,
)

if TYPE_CHECKING:
    from platform_assets.approval.ledger import Ledger
    from platform_assets.approval.refusals import Verb


def kinds(ledger: Ledger, number: int) -> list[str]:
    return [event.kind for event in ledger.history(number)]


# Requests


@pytest.mark.requirement("PRO-5")
def test_request_is_stored_with_unchanged_evidence_and_policy(ledger: Ledger) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    evidence = {**PASSED, "note": "é 😀", "deep": {"list": [1, 2.5, None]}}
    given = proposal(3, evidence=evidence, champion=(2, "c" * 64), approvers=("anna",), lifetime=timedelta(hours=36))
    request = ledger.open_request(given)
    assert ledger.request(request.id) == request
    assert (request.model, request.version, request.digest, request.threshold) == (MODEL, 3, given.digest, 0.1 + 0.2)
    assert (request.evidence, request.policy, request.champion) == (evidence, given.policy, (2, "c" * 64))
    assert request.expires_at - request.created_at == timedelta(hours=36)
    assert before < request.created_at < datetime.now(UTC) + timedelta(seconds=1)
    assert (request.state, request.passed) == (State.PENDING, True)
    assert ledger.plots(request.id) == PLOTS
    assert set(request.plot_digests) == set(PLOTS)
    assert [(event.kind, event.actor, event.state) for event in ledger.history(request.id)] == [
        ("request", "platform", State.PENDING)
    ]


def test_a_second_request_for_a_version_returns_the_open_one(ledger: Ledger) -> None:
    first = ledger.open_request(proposal())
    assert ledger.open_request(proposal(evidence=FAILED)) == first
    ledger.decide(first.id, "approve", ANNA, "good")
    assert ledger.open_request(proposal()).state is State.APPROVED
    other = ledger.open_request(proposal(model="other_model"))
    assert [request.id for request in ledger.requests()] == [other.id, first.id]
    assert [request.id for request in ledger.requests(MODEL)] == [first.id]
    assert ledger.requests(MODEL, [State.PENDING]) == []
    assert [request.id for request in ledger.requests(states=[State.PENDING])] == [other.id]


@pytest.mark.parametrize("ending", ["reject", "withdraw"])
def test_a_version_can_be_requested_again_after_its_request_was_closed(ledger: Ledger, ending: Verb) -> None:
    first = ledger.open_request(proposal())
    ledger.decide(first.id, ending, ANNA, "not now")
    second = ledger.open_request(proposal())
    assert (second.id > first.id, second.state) == (True, State.PENDING)


@pytest.mark.requirement("PRO-6")
def test_newer_version_supersedes_only_older_pending_requests(ledger: Ledger) -> None:
    approved = ledger.open_request(proposal(1))
    ledger.decide(approved.id, "approve", ANNA, "good")
    pending = ledger.open_request(proposal(2))
    elsewhere = ledger.open_request(proposal(1, model="other_model"))
    newer = ledger.open_request(proposal(4))
    older = ledger.open_request(proposal(3))
    states = {request.id: request.state for request in ledger.requests()}
    assert states == {
        approved.id: State.APPROVED,
        pending.id: State.SUPERSEDED,
        elsewhere.id: State.PENDING,
        newer.id: State.PENDING,
        older.id: State.PENDING,
    }
    event = ledger.history(pending.id)[-1]
    assert (event.kind, event.actor, event.details) == ("supersede", "platform", {"by": newer.id})


def test_champion_is_not_requested_again(ledger: Ledger) -> None:
    promote(ledger, 1)
    with pytest.raises(LedgerError, match="credit_risk_model version 1 is already the champion"):
        ledger.open_request(proposal(1))


def test_missing_request_is_reported(ledger: Ledger) -> None:
    for ask in (ledger.request, ledger.history):
        with pytest.raises(NoSuchRequest, match="there is no request 7"):
            ask(7)
    with pytest.raises(NoSuchRequest):
        ledger.decide(7, "approve", ANNA, "good")


# Decisions


@pytest.mark.requirement("PRO-5")
@pytest.mark.parametrize(
    ("verb", "state"), [("approve", State.APPROVED), ("reject", State.REJECTED), ("withdraw", State.WITHDRAWN)]
)
def test_decision_is_recorded_with_person_time_and_reason(ledger: Ledger, verb: Verb, state: State) -> None:
    request = ledger.open_request(proposal())
    assert ledger.decide(request.id, verb, ANNA, "  because 😀 ").state is state
    event = ledger.history(request.id)[-1]
    assert (event.kind, event.state, event.actor, event.authenticated) == (verb, state, "anna", True)
    assert (event.reason, event.override, event.sequence) == ("because 😀", False, 2)
    assert request.created_at < event.at < request.expires_at
    assert ledger.champion(MODEL) is None


@pytest.mark.requirement("PRO-5")
@pytest.mark.parametrize("verb", ["approve", "reject", "withdraw"])
def test_the_refusal_of_a_second_decision_names_the_first(ledger: Ledger, verb: Verb) -> None:
    request = ledger.open_request(proposal())
    ledger.decide(request.id, "reject", SOMEBODY, "worse in the north")
    with pytest.raises(AlreadyDecided) as error:
        ledger.decide(request.id, verb, BERT, "good")
    assert (error.value.request.state, error.value.event.actor) == (State.REJECTED, "unverified: anna")
    assert str(error.value).startswith(
        f"request {request.id} (credit_risk_model version 1) is closed: rejected by anna (identity not verified) at "
    )
    assert str(error.value).endswith("UTC: worse in the north")
    assert kinds(ledger, request.id) == ["request", "reject"]


def test_after_promotion_the_approval_is_the_closing_event(ledger: Ledger) -> None:
    number = promote(ledger, 1)
    with pytest.raises(AlreadyDecided, match="approved by anna"):
        ledger.decide(number, "reject", BERT, "no")


def test_repeated_delivery_of_a_decision_is_recorded_once(ledger: Ledger) -> None:
    request = ledger.open_request(proposal(approvals=2))
    first = ledger.decide(request.id, "approve", ANNA, "good", delivery="a")
    assert ledger.decide(request.id, "approve", ANNA, "good", delivery="a") == first
    done = ledger.decide(request.id, "approve", BERT, "good", delivery="b")
    assert ledger.decide(request.id, "approve", BERT, " good ", delivery="b") == done
    assert (done.state, kinds(ledger, request.id)) == (State.APPROVED, ["request", "approve", "approve"])
    with pytest.raises(
        DecisionRefused, match="the idempotency key 'b' was already used for another decision .approved by bert"
    ):
        ledger.decide(request.id, "reject", BERT, "good", delivery="b")
    with pytest.raises(DecisionRefused, match="the idempotency key contains control or invisible"):
        ledger.decide(request.id, "reject", BERT, "good", delivery="\0")
    # The same delivery can be used for another request.
    other = ledger.open_request(proposal(2))
    assert ledger.decide(other.id, "approve", ANNA, "good", delivery="a").state is State.APPROVED


# Time


@pytest.mark.requirement("PRO-6")
@pytest.mark.parametrize(("microseconds", "expired"), [(-1, False), (0, True), (1, True)])
def test_request_expires_at_its_expiry_time(ledger: Ledger, microseconds: int, expired: bool) -> None:
    request = ledger.open_request(proposal())
    assert request.is_expired(request.expires_at + timedelta(microseconds=microseconds)) is expired


@pytest.mark.requirement("PRO-6")
def test_approvals_at_or_after_the_expiry_are_refused(ledger: Ledger) -> None:
    request = ledger.open_request(proposal(approvals=100_000, lifetime=timedelta(milliseconds=300)))
    voters = (person(f"voter {number}") for number in count())
    with pytest.raises(LedgerError, match="expired"):
        deque(ledger.decide(request.id, "approve", voter, "good") for voter in voters)
    ledger.expire()
    *votes, end = ledger.history(request.id)
    assert len(votes) > 1
    assert end.kind == "expire"
    assert votes[-1].at < request.expires_at <= end.at


@pytest.mark.requirement("PRO-6")
def test_expiry_is_recorded_by_the_next_call(ledger: Ledger) -> None:
    now = timedelta(0)
    first = ledger.open_request(proposal(lifetime=now))
    with pytest.raises(AlreadyDecided, match="is closed: expired by platform at"):
        ledger.decide(first.id, "approve", ANNA, "good")
    assert ledger.request(first.id).state is State.EXPIRED
    second = ledger.open_request(proposal(lifetime=now))
    third = ledger.open_request(proposal(lifetime=now))
    assert (second.id != third.id, ledger.request(second.id).state) == (True, State.EXPIRED)
    assert [request.id for request in ledger.expire()] == [third.id]
    assert ledger.expire() == []
    assert kinds(ledger, third.id) == ["request", "expire"]


@pytest.mark.requirement("PRO-6")
def test_approved_request_must_be_promoted_before_expiry(ledger: Ledger) -> None:
    request = ledger.open_request(proposal(lifetime=timedelta(milliseconds=250)))
    ledger.decide(request.id, "approve", ANNA, "good")
    while ledger.stale(request.id) is None:
        pass
    with pytest.raises(LedgerError, match="it expired at .* UTC, before it was promoted"):
        ledger.promoted(request.id)
    assert ledger.failed(request.id, "expired").state is State.FAILED


# Champions


@pytest.mark.requirement("PRO-3", "PRO-7")
def test_promotions_and_rollbacks_determine_the_champion(ledger: Ledger) -> None:
    assert (ledger.champion(MODEL), ledger.previous_champion(MODEL)) == (None, None)
    with pytest.raises(LedgerError, match="there is no champion yet"):
        ledger.rolled_back(MODEL, ANNA, "bad")
    first = promote(ledger, 1)
    with pytest.raises(LedgerError, match="version 1 is the only champion so far"):
        ledger.rolled_back(MODEL, ANNA, "bad")
    promote(ledger, 2)
    promote(ledger, 3)
    champion, previous = ledger.champion(MODEL), ledger.previous_champion(MODEL)
    assert champion is not None
    assert previous is not None
    assert (champion.version, champion.threshold, previous.version) == (3, 0.1 + 0.2, 2)
    event = ledger.rolled_back(MODEL, ANNA, "it flags everybody")
    assert (event.state, event.reason, event.details["version"]) == (State.ROLLED_BACK, "it flags everybody", 2)
    assert ledger.champion(MODEL) == previous
    ledger.rolled_back(MODEL, BERT, "this one too")
    back = ledger.champion(MODEL)
    assert back is not None
    assert (back.version, back.request_id) == (1, first)
    promote(ledger, 2)
    ledger.rolled_back(MODEL, ANNA, "again")
    assert ledger.champion(MODEL) == back
    assert ledger.audit() == []


@pytest.mark.requirement("PRO-3")
def test_promotion_needs_an_approval_and_an_unchanged_champion(ledger: Ledger) -> None:
    first, second = ledger.open_request(proposal(1)), ledger.open_request(proposal(2, model=MODEL))
    with pytest.raises(LedgerError, match="it is SUPERSEDED, but must be APPROVED"):
        ledger.promoted(first.id)
    with pytest.raises(LedgerError, match="it is PENDING, but must be APPROVED"):
        ledger.promoted(second.id)
    ledger.decide(second.id, "approve", ANNA, "good")
    promote(ledger, 3)
    with pytest.raises(
        LedgerError, match="the champion is version 3, but the approved version was compared with no champion"
    ):
        ledger.promoted(second.id)


def test_events_that_the_registry_does_not_show_are_listed(ledger: Ledger) -> None:
    promote(ledger, 1)
    promote(ledger, 2)
    first, second = ledger.unprojected(MODEL)
    ledger.projected(first.sequence)
    ledger.projected(first.sequence)
    assert ledger.unprojected(MODEL) == [second]
    assert ledger.unprojected("other_model") == []
    back = ledger.rolled_back(MODEL, ANNA, "bad")
    assert ledger.unprojected(MODEL) == [second, back]
