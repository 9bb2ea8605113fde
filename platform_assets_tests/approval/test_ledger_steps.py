"""State transitions are tried in any order and concurrently. The database accepts only valid transitions."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING

import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.types.json import Jsonb

from platform_assets.approval.ledger import Ledger
from platform_assets.approval.ledger_errors import AlreadyDecided
from platform_assets.approval.policy import ApprovalPolicy, policy_as_json
from platform_assets.approval.requests import OPEN, State
from platform_assets_tests.approval.proposals import (
    PASSED,
    ledger_at,
    owner_at,
    person,
    proposal,
    register,
)
from platform_assets_tests.postgres import empty_databases

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

    from platform_assets.database.connections import Database


# Concurrent decisions

_ROUNDS, _WORKERS = 1_000, 4
_meeting: list[Barrier] = []


def _meet(barrier: Barrier) -> None:
    _meeting.append(barrier)


def _decide_all(url: str, name: str, numbers: list[int]) -> list[tuple[str, str]]:
    """Decide on each request as one person, and return two texts for each request.

    The first text is `won` if this decision was recorded, otherwise `told`. The second text is the recorded decision.
    """
    outcomes = []
    with psycopg.connect(url) as connection:
        ledger = Ledger(lambda: nullcontext(connection))
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
def test_processes_that_decide_concurrently_record_one_decision(database_url: str) -> None:
    with ledger_at(database_url) as ledger:
        numbers = [ledger.open_request(proposal(model=f"model_{number}", plots={})).id for number in range(_ROUNDS)]
        with owner_at(database_url) as owner:
            register(owner, *map(person, "abcd"))
        # Each process has its own connection and waits at a barrier before every request.
        forking = multiprocessing.get_context("forkserver")
        # Import the modules once for all processes, because importing takes longer than deciding.
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


# State transitions in any order

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
TRANSITIONS = [(kind, before, after) for kind, pairs in STEPS.items() for before, after in pairs]
NEEDS_REASON = {"approve", "reject", "withdraw", "fail", "roll_back"}


@pytest.mark.requirement("PRO-5")
def test_invalid_state_transitions_are_refused(postgres_server: Database) -> None:
    """A trigger refuses invalid transitions even if the owner's role inserts events without the ledger's functions."""
    done: set[tuple[str, State | None, State]] = set()
    with empty_databases(postgres_server) as url, owner_at(url) as connection:

        class Steps(RuleBasedStateMachine):
            @initialize()
            def begin(self) -> None:
                self.states: dict[int, State | None] = {}
                self.versions: dict[int, int] = {}
                # Each example has its own model, so that it does not see requests of other examples.
                row = connection.execute("select count(*) from platform.approval_requests").fetchone()
                self.model = f"model_{row[0] if row else 0}"

            # Few requests, so that many steps belong to the same request.
            @precondition(lambda self: len(self.states) < 3)
            @rule(version=st.integers(1, 2))
            def ask(self, version: int) -> None:
                row = connection.execute(
                    "insert into platform.approval_requests (model, version, digest, threshold, created_at, expires_at,"
                    " policy, evidence, plots) values (%s, %s, 'd', 0.5, '2000-01-01', '2000-01-01', %s, %s, '{}')"
                    " returning id, expires_at > now()",
                    [self.model, version, Jsonb(policy_as_json(ApprovalPolicy())), Jsonb(PASSED)],
                ).fetchone()
                assert row is not None
                assert row[1]
                self.states[row[0]], self.versions[row[0]] = None, version

            @precondition(lambda self: self.states)
            @rule(data=st.data(), why=st.sampled_from(["because", " ", None]))
            def step(self, data: st.DataObject, why: str | None) -> None:
                number = data.draw(st.sampled_from(sorted(self.states)))
                # Random steps are mostly invalid, so draw valid ones half of the time if this state has any.
                steps = st.tuples(st.sampled_from(sorted(STEPS)), st.sampled_from(State))
                if valid := [(kind, after) for kind, before, after in TRANSITIONS if before == self.states[number]]:
                    steps = st.sampled_from(valid) | steps
                kind, state = data.draw(steps)
                open_ones = {self.versions[one] for one, standing in self.states.items() if standing in OPEN}
                allowed = (
                    (self.states[number], state) in STEPS[kind]
                    and (kind not in NEEDS_REASON or why == "because")
                    and (kind != "request" or self.versions[number] not in open_ones)
                )
                try:
                    connection.execute(
                        "insert into platform.approval_events values"
                        " (99, %s, %s, %s, 'unverified: x', false, %s, false, null, %s, '2000-01-01', '', '', '')",
                        [number, state, kind, why, Jsonb({"claimed": "x"})],
                    )
                    code = None
                except psycopg.errors.DatabaseError as error:
                    code = error.sqlstate
                assert code == (None if allowed else "PA001")
                if allowed:
                    done.add((kind, self.states[number], state))
                    self.states[number] = state

            @invariant()
            def the_ledger_agrees(self) -> None:
                if not getattr(self, "states", None):
                    return
                ledger = Ledger(lambda: nullcontext(connection))
                there = {one.id: one.state for one in ledger.requests(self.model)}
                assert there == {number: state for number, state in self.states.items() if state}

        run_state_machine_as_test(Steps, settings=settings(max_examples=100, stateful_step_count=40))
        assert done == set(TRANSITIONS)
        with ledger_at(url) as ledger:
            # The owner's role can insert rows directly, which bypasses the rules of the ledger's functions. The audit
            # reports each violation. It reports no altered event, because no event was altered.
            told = {finding.told for finding in ledger.audit()}
        assert sorted(told) == [
            "all of its events are missing",
            "approved a second time",
            "made the request PENDING with 1 of 1 approvals",
            "opened a request with a policy that was not in force",
            "rolled back a version that was not the champion, or had no predecessor",
        ]
