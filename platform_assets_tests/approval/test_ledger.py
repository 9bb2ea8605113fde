"""The ledger on a real PostgreSQL, with the role that the platform connects with."""

from __future__ import annotations

import multiprocessing
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from psycopg.types.json import Jsonb

from platform_assets.approval.ledger import (
    OPEN,
    Actor,
    AlreadyDecided,
    DecisionRefused,
    Finding,
    Ledger,
    LedgerError,
    NoSuchRequest,
    State,
    Verb,
)
from platform_assets.database.opening import open_database
from platform_assets.training.model_spec import ApprovalPolicy
from platform_assets_tests.approval.proposals import (
    ANNA,
    BERT,
    CARLA,
    FAILED,
    MODEL,
    PASSED,
    PLOTS,
    SOMEBODY,
    ledger_at,
    person,
    promote,
    proposal,
)
from platform_assets_tests.postgres import empty_databases

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.synchronize import Barrier
    from pathlib import Path

    from platform_assets.database.connections import Database


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    with ledger_at(database_url) as ledger:
        yield ledger


def kinds(ledger: Ledger, number: int) -> list[str]:
    return [event.kind for event in ledger.history(number)]


# Requests


@pytest.mark.requirement("PRO-5")
def test_a_request_freezes_what_was_known(ledger: Ledger) -> None:
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


def test_a_request_that_is_open_is_not_made_again(ledger: Ledger) -> None:
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
def test_a_version_that_was_turned_down_can_be_asked_for_again(ledger: Ledger, ending: Verb) -> None:
    first = ledger.open_request(proposal())
    ledger.decide(first.id, ending, ANNA, "not now")
    second = ledger.open_request(proposal())
    assert (second.id > first.id, second.state) == (True, State.PENDING)


@pytest.mark.requirement("PRO-6")
def test_a_newer_challenger_supersedes_what_is_pending_and_older_and_nothing_else(ledger: Ledger) -> None:
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


def test_the_champion_is_not_asked_for_again(ledger: Ledger) -> None:
    promote(ledger, 1)
    with pytest.raises(LedgerError, match="credit_risk_model version 1 is the champion already"):
        ledger.open_request(proposal(1))


def test_a_request_that_is_not_there_is_told(ledger: Ledger) -> None:
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
def test_a_decision_is_recorded_with_who_when_and_why(ledger: Ledger, verb: Verb, state: State) -> None:
    request = ledger.open_request(proposal())
    assert ledger.decide(request.id, verb, ANNA, "  because 😀 ").state is state
    event = ledger.history(request.id)[-1]
    assert (event.kind, event.state, event.actor, event.authenticated) == (verb, state, "anna", True)
    assert (event.reason, event.override, event.sequence) == ("because 😀", False, 2)
    assert request.created_at < event.at < request.expires_at
    assert ledger.champion(MODEL) is None


@pytest.mark.requirement("PRO-5")
@pytest.mark.parametrize("verb", ["approve", "reject", "withdraw"])
def test_a_second_decision_is_told_which_one_stands(ledger: Ledger, verb: Verb) -> None:
    request = ledger.open_request(proposal())
    ledger.decide(request.id, "reject", SOMEBODY, "worse in the north")
    with pytest.raises(AlreadyDecided) as error:
        ledger.decide(request.id, verb, BERT, "good")
    assert (error.value.request.state, error.value.event.actor) == (State.REJECTED, "anna")
    assert str(error.value).startswith(
        f"request {request.id} (credit_risk_model version 1) is closed: rejected by anna (no key proved who) at "
    )
    assert str(error.value).endswith("UTC: worse in the north")
    assert kinds(ledger, request.id) == ["request", "reject"]


def test_after_promotion_the_approval_is_what_stands(ledger: Ledger) -> None:
    number = promote(ledger, 1)
    with pytest.raises(AlreadyDecided, match="approved by anna"):
        ledger.decide(number, "reject", BERT, "no")


def test_a_decision_that_is_delivered_twice_is_one(ledger: Ledger) -> None:
    request = ledger.open_request(proposal(approvals=2))
    first = ledger.decide(request.id, "approve", ANNA, "good", delivery="a")
    assert ledger.decide(request.id, "approve", ANNA, "good", delivery="a") == first
    done = ledger.decide(request.id, "approve", BERT, "good", delivery="b")
    assert ledger.decide(request.id, "approve", BERT, " good ", delivery="b") == done
    assert (done.state, kinds(ledger, request.id)) == (State.APPROVED, ["request", "approve", "approve"])
    with pytest.raises(DecisionRefused, match="'b' was the delivery of another decision: approved by bert"):
        ledger.decide(request.id, "reject", BERT, "good", delivery="b")
    with pytest.raises(DecisionRefused, match="named by text"):
        ledger.decide(request.id, "reject", BERT, "good", delivery="\0")
    # Another request's deliveries are its own.
    other = ledger.open_request(proposal(2))
    assert ledger.decide(other.id, "approve", ANNA, "good", delivery="a").state is State.APPROVED


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


@pytest.mark.parametrize(
    "fields",
    [
        {"approvals": 0},
        {"lifetime": timedelta(seconds=-1)},
        {"approvers": "anna"},
        {"approvers": ("anna", "anna"), "approvals": 2},
    ],
)
def test_a_policy_that_nobody_could_keep_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="approv"):
        ApprovalPolicy(**fields)


# Time


@pytest.mark.requirement("PRO-6")
@pytest.mark.parametrize(("microseconds", "expired"), [(-1, False), (0, True), (1, True)])
def test_a_request_is_expired_from_its_very_end_on(ledger: Ledger, microseconds: int, expired: bool) -> None:
    request = ledger.open_request(proposal())
    assert request.is_expired(request.expires_at + timedelta(microseconds=microseconds)) is expired


@pytest.mark.requirement("PRO-6")
def test_no_vote_counts_that_comes_at_the_end_or_later(ledger: Ledger) -> None:
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
def test_whoever_notices_records_that_a_request_expired(ledger: Ledger) -> None:
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
def test_what_was_approved_must_be_promoted_before_it_expires(ledger: Ledger) -> None:
    request = ledger.open_request(proposal(lifetime=timedelta(milliseconds=250)))
    ledger.decide(request.id, "approve", ANNA, "good")
    while ledger.stale(request.id) is None:
        pass
    with pytest.raises(LedgerError, match="it expired at .* UTC, before it was promoted"):
        ledger.promoted(request.id, ANNA)
    assert ledger.failed(request.id, "expired").state is State.FAILED


# Champions


@pytest.mark.requirement("PRO-3", "PRO-7")
def test_the_ledger_alone_says_who_is_champion(ledger: Ledger) -> None:
    assert (ledger.champion(MODEL), ledger.previous_champion(MODEL)) == (None, None)
    with pytest.raises(LedgerError, match="there is none"):
        ledger.rolled_back(MODEL, ANNA, "bad")
    first = promote(ledger, 1)
    with pytest.raises(LedgerError, match="version 1 is its only one so far"):
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
def test_nothing_is_promoted_that_nobody_approved_or_that_saw_another_champion(ledger: Ledger) -> None:
    first, second = ledger.open_request(proposal(1)), ledger.open_request(proposal(2, model=MODEL))
    with pytest.raises(LedgerError, match="it is SUPERSEDED, and must be APPROVED"):
        ledger.promoted(first.id, ANNA)
    with pytest.raises(LedgerError, match="it is PENDING, and must be APPROVED"):
        ledger.promoted(second.id, ANNA)
    ledger.decide(second.id, "approve", ANNA, "good")
    promote(ledger, 3)
    with pytest.raises(LedgerError, match="the champion is version 3, and whoever approved it saw none"):
        ledger.promoted(second.id, ANNA)


def test_what_the_registry_does_not_show_yet_is_known(ledger: Ledger) -> None:
    promote(ledger, 1)
    promote(ledger, 2)
    first, second = ledger.unprojected(MODEL)
    ledger.projected(first.sequence)
    ledger.projected(first.sequence)
    assert ledger.unprojected(MODEL) == [second]
    assert ledger.unprojected("other_model") == []
    back = ledger.rolled_back(MODEL, ANNA, "bad")
    assert ledger.unprojected(MODEL) == [second, back]


# Two at the same moment

_ROUNDS, _WORKERS = 1_000, 4
_meeting: list[Barrier] = []


def _meet(barrier: Barrier) -> None:
    _meeting.append(barrier)


def _decide_all(url: str, name: str, numbers: list[int]) -> list[tuple[str, str]]:
    """What became of this person's decision on each request, and whose stands."""
    outcomes = []
    with ledger_at(url) as ledger:
        for number in numbers:
            _meeting[0].wait()
            try:
                request = ledger.decide(number, "approve" if name < "c" else "reject", person(name), f"{name} says so")
                outcomes.append(("won", f"{name} {request.state}"))
            except AlreadyDecided as error:
                outcomes.append(("told", f"{error.event.actor} {error.event.state}"))
    return outcomes


@pytest.mark.slow
@pytest.mark.requirement("PRO-5")
def test_of_people_who_decide_at_the_same_moment_one_wins_and_the_others_are_told(database_url: str) -> None:
    with ledger_at(database_url) as ledger:
        numbers = [ledger.open_request(proposal(model=f"model_{number}", plots={})).id for number in range(_ROUNDS)]
        # Whole processes, each with a connection of its own, that meet before every request.
        forking = multiprocessing.get_context("forkserver")
        # Once for all of them, for these imports take longer than the rounds.
        forking.set_forkserver_preload([__name__])
        barrier = forking.Barrier(_WORKERS)
        with ProcessPoolExecutor(_WORKERS, forking, _meet, (barrier,)) as pool:
            people = [pool.submit(_decide_all, database_url, name, numbers) for name in "abcd"]
            rounds = list(zip(*(one.result() for one in people), strict=True))
        assert len(rounds) == _ROUNDS
        for outcomes in rounds:
            assert sorted(kind for kind, _ in outcomes) == ["told", "told", "told", "won"]
            assert len({stands for _, stands in outcomes}) == 1
        winners = {stands for outcomes in rounds for kind, stands in outcomes if kind == "won"}
        assert len(winners) > 1
        assert ledger.audit() == []
        assert all(len(ledger.history(number)) == 2 for number in numbers)


# What nobody may do

LEDGER_TABLES = ("approval_requests", "approval_plots", "approval_events", "approval_projections")
CHANGES = [
    *(
        f"update platform.{table} set {column} = {column}"
        for table, column in (
            ("approval_requests", "model"),
            ("approval_plots", "name"),
            ("approval_events", "reason"),
            ("approval_projections", "sequence"),
            ("api_keys", "hash"),
            ("api_key_revocations", "hash"),
        )
    ),
    *(
        change.format(f"platform.{table}")
        for table in (*LEDGER_TABLES, "api_keys", "api_key_revocations")
        for change in (
            "delete from {}",
            "truncate {} cascade",
            "drop table {} cascade",
            "alter table {} disable trigger all",
            "alter table {} disable trigger append_only",
            "drop trigger append_only on {}",
        )
    ),
    "alter table platform.approval_events disable trigger chain_event",
    "create or replace function platform.refuse_change() returns trigger language plpgsql as 'begin return null; end'",
    "create table platform.approval_copies (id int)",
    "create schema elsewhere",
    "set session_replication_role = replica",
    "set role platform_owner",
    "select * from platform.approval_events for update",
    "update platform.alembic_version set version_num = '0001'",
]


@pytest.fixture(params=["embedded", "external"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = request.getfixturevalue("database_url") if request.param == "external" else ""
    home = tmp_path if url else request.getfixturevalue("embedded_home")
    with closing(open_database(url, home)) as database:
        yield database


@pytest.mark.requirement("PRO-5")
def test_the_platform_cannot_alter_what_was_recorded(database: Database) -> None:
    ledger = Ledger(database.pooled)
    number = promote(ledger, 1)
    before = ledger.history(number)
    done = []
    with closing(database.connect("platform")) as connection:
        for change in CHANGES:
            try:
                connection.execute(change.encode())
                done.append(change)
            except psycopg.errors.InsufficientPrivilege:
                continue
    assert done == []
    assert ledger.history(number) == before
    assert ledger.audit() == []


@pytest.mark.requirement("PRO-5")
@pytest.mark.parametrize(
    "change",
    [
        "update platform.approval_events set reason = 'x'",
        "delete from platform.approval_plots",
        "truncate platform.approval_events cascade",
    ],
)
def test_even_the_owner_must_first_disable_a_trigger(database_url: str, owner_url: str, change: str) -> None:
    with ledger_at(database_url) as ledger:
        promote(ledger, 1)
    with psycopg.connect(owner_url) as owner, pytest.raises(psycopg.errors.InsufficientPrivilege, match="for ever"):
        owner.execute(change.encode())


# What an owner did all the same


@pytest.mark.requirement("PRO-5")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("update {events} set reason = 'x' where sequence = 2", ["event 2"]),
        ("update {events} set actor = 'bert' where sequence = 2", ["event 2"]),
        ("update {events} set authenticated = false where sequence = 3", ["event 3"]),
        ("update {events} set override = true where sequence = 2", ["event 2"]),
        ("update {events} set at = at - interval '1 us' where sequence = 1", ["event 1"]),
        ("update {events} set details = '{{\"a\": 1}}' where sequence = 3", ["event 3"]),
        ("update {events} set reason = null where sequence = 2", ["event 2"]),
        ("update {events} set hash = repeat('a', 64) where sequence = 4", ["event 4", "event 5"]),
        ("update {requests} set evidence = evidence || '{{\"a\": 1}}' where id = 1", ["request 1"]),
        ("update {requests} set threshold = 0.9 where id = 2", ["request 2"]),
        ("update {requests} set launched_by = null where id = 1", ["request 1"]),
        ("update {requests} set expires_at = expires_at + interval '1 us' where id = 1", ["request 1"]),
        ("update {plots} set png = 'x' where request_id = 2 and name = 'roc.png'", ["plot roc.png of request 2"]),
        ("delete from {plots} where request_id = 1 and name = 'roc.png'", ["plot roc.png of request 1"]),
        ("delete from {events} where sequence = 2", ["event 2"]),
        ("delete from {events} where sequence in (2, 3)", ["events 2 to 3", "event 3"]),
        ("delete from {events} where sequence >= 6", ["event 6"]),
        ("delete from {events} where sequence >= 5", ["event 6"]),
        ("delete from {events} where request_id = 2", ["request 2", "event 6"]),
        ("truncate {events} cascade", ["request 1", "request 2", "event 3", "event 6"]),
    ],
)
def test_what_an_owner_altered_is_found_and_named(
    database_url: str, owner_url: str, change: str, expected: list[str]
) -> None:
    with ledger_at(database_url) as ledger:
        first, second = promote(ledger, 1), promote(ledger, 2)
        heads = {f"version {number}": ledger.history(number)[-1].head for number in (first, second)}
        assert ledger.audit(heads) == []
    names = {name: f"platform.approval_{name}" for name in ("events", "requests", "plots", "projections")}
    with psycopg.connect(owner_url) as owner:
        for table in names.values():
            owner.execute(f"alter table {table} disable trigger all".encode())
        owner.execute(change.format(**names).encode())
        for table in names.values():
            owner.execute(f"alter table {table} enable trigger all".encode())
    with ledger_at(database_url) as ledger:
        findings = ledger.audit(heads)
    assert [finding.row for finding in findings] == expected


@pytest.mark.requirement("PRO-5")
def test_a_chain_that_was_computed_anew_is_found_by_who_saw_the_old_one(database_url: str, owner_url: str) -> None:
    with ledger_at(database_url) as ledger:
        number = promote(ledger, 1)
        heads = {"credit_risk_model version 1": ledger.history(number)[-1].head}
    with psycopg.connect(owner_url) as owner:
        owner.execute("alter table platform.approval_events disable trigger append_only")
        owner.execute("delete from platform.approval_events where sequence >= 2")
    with ledger_at(database_url) as ledger:
        ledger.decide(number, "approve", BERT, "it was me")
        ledger.promoted(number, BERT)
        assert ledger.audit() == []
        assert ledger.audit({"somebody": "nonsense"}) == [
            Finding("somebody", "names no event of the ledger: 'nonsense'")
        ]
        assert ledger.audit(heads) == [
            Finding(
                "event 3",
                "credit_risk_model version 1 has seen another one: the ledger was written anew from there, or earlier",
            )
        ]


def test_no_two_rows_are_written_alike(database_url: str) -> None:
    """Hashes of Python and PostgreSQL agree on text that could be taken for two fields."""
    with ledger_at(database_url) as ledger:
        for version, (name, reason) in enumerate([("a,1:b", "c"), ("a", "1:b,1:c"), ("é😀", "-"), ("-", "5:x")]):
            request = ledger.open_request(proposal(version + 1))
            ledger.decide(request.id, "approve", person(name), reason)
        assert ledger.audit() == []


# Any order of steps

STEPS: dict[str, list[tuple[State | None, State]]] = {
    "request": [(None, State.PENDING)],
    "approve": [(State.PENDING, State.PENDING), (State.PENDING, State.APPROVED)],
    "reject": [(State.PENDING, State.REJECTED)],
    "withdraw": [(State.PENDING, State.WITHDRAWN)],
    "expire": [],
    "supersede": [(State.PENDING, State.SUPERSEDED)],
    "promote": [(State.APPROVED, State.PROMOTED)],
    "fail": [(State.APPROVED, State.FAILED)],
    "roll_back": [(State.PROMOTED, State.ROLLED_BACK)],
}
NEEDS_REASON = {"approve", "reject", "withdraw", "fail", "roll_back"}


@pytest.mark.requirement("PRO-5")
def test_no_order_of_steps_leads_anywhere_it_should_not(postgres_server: Database) -> None:
    """Rows written past the ledger, by the platform's own role: the database refuses each step that does not follow."""
    with empty_databases(postgres_server) as url, psycopg.connect(url, autocommit=True) as connection:

        class Steps(RuleBasedStateMachine):
            @initialize()
            def begin(self) -> None:
                self.states: dict[int, State | None] = {}
                self.versions: dict[int, int] = {}
                # Models are told apart, so that no example sees another's requests.
                row = connection.execute("select count(*) from platform.approval_requests").fetchone()
                self.model = f"model_{row[0] if row else 0}"

            @rule(version=st.integers(1, 2))
            def ask(self, version: int) -> None:
                row = connection.execute(
                    "insert into platform.approval_requests (model, version, digest, threshold, created_at, expires_at,"
                    " policy, evidence, plots) values (%s, %s, 'd', 0.5, '2000-01-01', '2000-01-01', %s, %s, '{}')"
                    " returning id, expires_at > now()",
                    [self.model, version, Jsonb({"lifetime_seconds": 3600}), Jsonb(PASSED)],
                ).fetchone()
                assert row is not None
                assert row[1]
                self.states[row[0]], self.versions[row[0]] = None, version

            @rule(
                data=st.data(),
                kind=st.sampled_from(sorted(STEPS)),
                state=st.sampled_from(State),
                why=st.sampled_from(["because", " ", None]),
            )
            def step(self, data: st.DataObject, kind: str, state: State, why: str | None) -> None:
                if not self.states:
                    return
                number = data.draw(st.sampled_from(sorted(self.states)))
                open_ones = {self.versions[one] for one, standing in self.states.items() if standing in OPEN}
                allowed = (
                    (self.states[number], state) in STEPS[kind]
                    and (kind not in NEEDS_REASON or why == "because")
                    and (kind != "request" or self.versions[number] not in open_ones)
                )
                try:
                    connection.execute(
                        "insert into platform.approval_events values"
                        " (99, %s, %s, %s, 'x', false, %s, false, null, '{}', '2000-01-01', '', '', '')",
                        [number, state, kind, why],
                    )
                    code = None
                except psycopg.errors.DatabaseError as error:
                    code = error.sqlstate
                assert code == (None if allowed else "PA001")
                if allowed:
                    self.states[number] = state

            @invariant()
            def the_ledger_agrees(self) -> None:
                if not getattr(self, "states", None):
                    return
                ledger = Ledger(lambda: nullcontext(connection))
                there = {one.id: one.state for one in ledger.requests(self.model)}
                assert there == {number: state for number, state in self.states.items() if state}

        run_state_machine_as_test(Steps, settings=settings(max_examples=40, stateful_step_count=25))
        with ledger_at(url) as ledger:
            assert [finding for finding in ledger.audit() if "none of its events" not in finding.told] == []
