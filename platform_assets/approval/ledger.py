"""The ledger: the permanent record of requests for approval and of decisions, with person, time, reason and evidence.

The ledger decides which version is the champion; the registry's aliases are a copy (`reconciliation.py`). Every write
is a call of a database function (`database/migrations/ledger`), which finds the person behind a secret, applies the
policy and chains the event by hashes. The service's role can call these functions, but not insert, alter or delete.
`audit.py` finds what the tables' owner altered. Reading stands in `ledger_queries.py`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, get_args

from platform_assets.approval.ledger_errors import AlreadyDecided, DecisionRefused, LedgerError
from platform_assets.approval.ledger_events import closing_event
from platform_assets.approval.ledger_queries import (
    LedgerQueries,
    select_events,
    select_request,
    select_stale,
)
from platform_assets.approval.policy import policy_as_json
from platform_assets.approval.refusals import Verb, refusal
from platform_assets.base.printable_text import unprintable
from platform_assets.base.visible_text import is_visible
from platform_assets.database.policies import policy_in_force, write_policies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    import psycopg

    from platform_assets.approval.ledger_events import Event
    from platform_assets.approval.policy import ApprovalPolicy
    from platform_assets.approval.requests import Actor, Proposal, Request

    Connection = psycopg.Connection[Any]

_DUE = """
select exists (
    select from platform.approval_requests r where r.expires_at <= clock_timestamp() and (
        select state from platform.approval_events where request_id = r.id order by sequence desc limit 1
    ) = 'PENDING'
)
"""
_OPEN = "select platform.open_request(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s::text[], %s::bytea[], %s, %s)"


class Ledger(LedgerQueries):
    """The record of requests and decisions.

    Parameters
    ----------
    connect
        Lends a connection to the platform's database; uncommitted work on it is rolled back afterwards.
    owner
        Lends a connection of the tables' owner, to record a model's policy that differs from its declaration; None in
        production, where only `platform-assets migrate` records policies.
    keep_heads
        Called after each write, to keep the heads of the chains outside the database; None to keep none.
    pages
        Address of the pages of requests, for links; empty if unknown.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[Connection]],
        *,
        owner: Callable[[], AbstractContextManager[Connection]] | None = None,
        keep_heads: Callable[[], None] | None = None,
        pages: str = "",
    ) -> None:
        super().__init__(connect)
        self._owner = owner
        self._pages = pages
        self._keep_heads = keep_heads or (lambda: None)

    def page(self, number: int) -> str:
        """Return the address of a request's page; empty if unknown."""
        return f"{self._pages}/{number}" if self._pages else ""

    def settle_policy(self, model: str, policy: ApprovalPolicy) -> None:
        """Check that the database has a model's declared policy; in development, record it.

        Raises
        ------
        LedgerError
            The database has no or another policy, and only `platform-assets migrate` may record it.
        """
        with self._reading() as connection:
            found = policy_in_force(connection, model)
        if found == policy_as_json(policy):
            return
        if self._owner is None:
            raise refusal({"why": "no_policy" if found is None else "other_policy", "name": model}, model)
        with self._owner() as owner:
            write_policies(owner, {model: policy_as_json(policy)})

    def open_request(self, proposal: Proposal) -> Request:
        """Open a request for approval, or return the open one for the same version.

        Pending requests of the model for older versions, or for another artifact of this version, are superseded.

        Raises
        ------
        LedgerError
            The version is the champion, or the database has another policy of the model.
        DecisionRefused
            The person who makes the request is not authenticated, and must be.
        """
        self.settle_policy(proposal.model, proposal.policy)
        outcome = self._open(proposal)
        if "why" in outcome:
            raise refusal(outcome, f"{proposal.model} version {proposal.version}")
        self._keep_heads()
        return self.request(outcome["request"])

    def decide(
        self,
        number: int,
        decision: Verb,
        actor: Actor,
        reason: str,
        *,
        override: bool = False,
        delivery: str | None = None,
    ) -> Request:
        """Record a person's decision.

        If the policy needs several approvals, the request stays pending until the last one. One rejection closes it.

        Parameters
        ----------
        number
            The request.
        decision
            `approve`, `reject` or `withdraw`.
        actor
            Who decides.
        reason
            Why.
        override
            Approve despite a failed gate; recorded with the decision.
        delivery
            Idempotency key: the same decision sent again with it is recorded once.

        Raises
        ------
        NoSuchRequest
            No request has this number.
        DecisionRefused
            The policy does not allow it.
        AlreadyDecided
            The request is closed; names the event that closed it.
        """
        if decision not in get_args(Verb):
            raise refusal({"why": "no_verb"}, f"request {number}")
        secret, claimed, reason = _stated(actor, reason, f"request {number}")
        _refuse_delivery(delivery, f"request {number}")
        with self._writing() as connection:
            select_request(connection, number)
            arguments = [number, decision, secret, claimed, reason, override, delivery]
            outcome = _call(connection, "select platform.decide(%s, %s, %s, %s, %s, %s, %s)", arguments)
            request = select_request(connection, number)
            history = select_events(connection, "request_id = %s", [number])
        # After the commit, because a late decision records the expiry.
        self._keep_heads()
        if outcome["outcome"] == "closed":
            raise AlreadyDecided(request, closing_event(history) or history[-1])
        if outcome.get("why") == "other_delivery":
            known = next(event for event in history if event.sequence == outcome["event"])
            raise DecisionRefused(f"{request.called}: {delivery!r} was the delivery of another decision: {known.told}")
        if outcome["outcome"] == "refused":
            raise refusal(outcome, request.called, request)
        return request

    def promoted(self, number: int) -> Event:
        """Record that an approved request's version is the champion from now on.

        Raises
        ------
        LedgerError
            It is not approved or expired, or the champion changed since the comparison; see `stale`.
        """
        with self._writing() as connection:
            request = select_request(connection, number)
            why = select_stale(connection, request)
            outcome = _call(connection, "select platform.promote(%s)", [number])
            event = _event(connection, outcome)
        if event is None:
            raise (
                LedgerError(f"{request.called} cannot be promoted: {why}")
                if why
                else refusal(outcome, request.called, request)
            )
        self._keep_heads()
        return event

    def failed(self, number: int, reason: str) -> Event:
        """Record that an approved request cannot be promoted any more.

        Raises
        ------
        LedgerError
            It is not approved.
        """
        with self._writing() as connection:
            request = select_request(connection, number)
            outcome = _call(connection, "select platform.fail_request(%s, %s)", [number, reason])
            event = _event(connection, outcome)
        if event is None:
            raise refusal(outcome, request.called, request)
        self._keep_heads()
        return event

    def rolled_back(self, model: str, actor: Actor, reason: str, *, delivery: str | None = None) -> Event:
        """Record that the previous champion is the champion again.

        Parameters
        ----------
        model
            The model.
        actor
            Who decides.
        reason
            Why.
        delivery
            Idempotency key: the same rollback sent again with it is recorded once.

        Raises
        ------
        DecisionRefused
            The person may not, or gives no reason.
        LedgerError
            There is no previous champion.
        """
        thing = f"the rollback of {model}"
        secret, claimed, reason = _stated(actor, reason, thing)
        _refuse_delivery(delivery, thing)
        with self._writing() as connection:
            arguments = [model, secret, claimed, reason, delivery]
            outcome = _call(connection, "select platform.roll_back(%s, %s, %s, %s, %s)", arguments)
            event = _event(connection, outcome)
        if outcome.get("why") == "no_previous":
            only = outcome["version"]
            found = f"version {only} is its only one so far" if only else "there is none"
            raise LedgerError(f"the champion of {model} cannot be rolled back: {found}; approve another version")
        if event is None:
            raise refusal(outcome, thing)
        self._keep_heads()
        return event

    def expire(self) -> list[Request]:
        """Record which pending requests have expired, by the database's clock; return those."""
        with self._reading() as connection:
            if connection.execute(_DUE.encode()).fetchone() == (False,):
                return []
        with self._writing() as connection:
            numbers = _call(connection, "select platform.expire_requests()", [])
            expired = [select_request(connection, number) for number in numbers]
        self._keep_heads()
        return expired

    def projected(self, sequence: int) -> None:
        """Record that the registry shows an event."""
        with self._writing() as connection:
            connection.execute("select platform.mark_projected(%s)", [sequence])
        self._keep_heads()

    def _open(self, proposal: Proposal) -> dict[str, Any]:
        from psycopg.types.json import Jsonb

        requester = proposal.requested_by
        version, digest = proposal.champion or (None, None)
        with self._writing() as connection:
            arguments = [
                *(proposal.model, proposal.version, proposal.digest, proposal.threshold, proposal.launched_by),
                *((requester.secret or None, requester.name) if requester else (None, None)),
                Jsonb(policy_as_json(proposal.policy)),
                Jsonb(dict(proposal.evidence)),
                *([*proposal.plots], [*proposal.plots.values()]),
                *(version, digest),
            ]
            opened: dict[str, Any] = _call(connection, _OPEN, arguments)
        return opened

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A transaction for one call; each statement sees what others committed before it got the ledger's lock."""
        with self._transaction() as connection:
            connection.execute("set transaction isolation level read committed")
            yield connection


def _call(connection: Connection, statement: str, arguments: list[Any]) -> Any:
    row = connection.execute(statement.encode(), arguments).fetchone()
    assert row is not None  # noqa: S101 - narrows the type
    return row[0]


def _event(connection: Connection, outcome: Mapping[str, Any]) -> Event | None:
    """The event that a function recorded; None if it refused."""
    number = outcome.get("event")
    return select_events(connection, "sequence = %s", [number])[0] if number else None


def _stated(actor: Actor, reason: str, thing: str) -> tuple[str | None, str, str]:
    """Secret, claimed name and reason as the functions take them.

    Raises
    ------
    DecisionRefused
        One of them holds invisible characters, or characters that PostgreSQL cannot store.
    """
    reason = reason.replace("\r\n", "\n").strip()
    for what, text, lines in (("the reason", reason, True), ("the name", actor.name, False)):
        if odd := unprintable(text, lines=lines):
            raise DecisionRefused(f"{thing}: {what} holds control or invisible characters ({', '.join(odd)})")
    if not is_visible(reason):
        raise refusal({"why": "no_reason"}, thing)
    if unprintable(actor.secret):
        raise refusal({"why": "unknown_key"}, thing)
    return actor.secret or None, actor.name, reason


def _refuse_delivery(delivery: str | None, thing: str) -> None:
    if delivery is not None and unprintable(delivery):
        raise DecisionRefused(f"{thing}: the delivery holds control or invisible characters; use plain text")
