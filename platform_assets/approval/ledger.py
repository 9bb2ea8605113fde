"""The ledger: the permanent record of approval requests and decisions, with person, time, reason and evidence.

The ledger decides which version is the champion. The registry's alias `champion` is a copy (`reconciliation.py`).
Every write calls a database function (`database/migrations/ledger`), which identifies the person by the key, applies
the policy and adds the event to the hash chain. The service role can call these functions, but cannot insert, update
or delete rows itself. `audit.py` detects alterations by the owner role. `ledger_queries.py` reads the ledger.
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
from platform_assets.base.printable_text import is_visible, unprintable
from platform_assets.database.policies import policy_in_force, write_policies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
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
        Context manager that yields a connection to the platform's database and rolls back uncommitted work.
    owner
        Context manager that yields a connection as the owner role, to record a policy whose declaration has changed.
        None in production, where only `platform-assets migrate` records policies.
    keep_heads
        Function that is called after each write, to copy the heads of the hash chains to a place outside the database;
        None for no copy.
    pages
        Base address of the requests' pages, for links; empty if unknown.
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
        self.keep_heads = keep_heads or (lambda: None)

    def page(self, number: int) -> str:
        """Return the address of a request's page; empty if unknown."""
        return f"{self._pages}/{number}" if self._pages else ""

    def settle_policy(self, model: str, policy: ApprovalPolicy) -> None:
        """Check that the database has the declared policy of a model.

        In development, record the declared policy if the stored one is missing or different.

        Raises
        ------
        LedgerError
            The policy in the database is missing or different, and only `platform-assets migrate` may record it.
        """
        with self.reading() as connection:
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
            The version is the champion, or the policy in the database is missing or different.
        DecisionRefused
            The person who makes the request is not authenticated, but PLATFORM_APPROVALS_REQUIRE_IDENTITY is on.
        """
        self.settle_policy(proposal.model, proposal.policy)
        outcome = self._open(proposal)
        if "why" in outcome:
            raise refusal(outcome, f"{proposal.model} version {proposal.version}")
        self.keep_heads()
        return self.request(outcome["request"])

    def decide(  # noqa: PLR0913 - the parts of a decision
        self,
        number: int,
        decision: Verb,
        actor: Actor,
        reason: str,
        *,
        override: bool = False,
        delivery: str | None = None,
        seen: int | None = None,
    ) -> Request:
        """Record a person's decision.

        If the policy needs several approvals, the request stays pending until the last one. One rejection closes it.

        Parameters
        ----------
        number
            Number of the request.
        decision
            `approve`, `reject` or `withdraw`.
        actor
            The person who decides.
        reason
            The person's reason.
        override
            Approve despite a failed gate. The override is recorded with the decision.
        delivery
            Idempotency key: a decision that is sent twice with the same key is recorded once.
        seen
            Event number of the newest shadow report that the person saw, recorded with the decision; None if the
            person saw none.

        Raises
        ------
        NoSuchRequest
            No request has this number.
        DecisionRefused
            The policy does not allow the decision.
        AlreadyDecided
            The request is closed. The error contains the event that closed it.
        """
        if decision not in get_args(Verb):
            raise refusal({"why": "no_verb"}, f"request {number}")
        secret, claimed, reason = _stated(actor, reason, f"request {number}")
        _refuse_delivery(delivery, f"request {number}")
        with self.writing() as connection:
            select_request(connection, number)
            arguments = [number, decision, secret, claimed, reason, override, delivery, seen]
            outcome = call(connection, "select platform.decide(%s, %s, %s, %s, %s, %s, %s, %s)", arguments)
            request = select_request(connection, number)
            history = select_events(connection, "request_id = %s", [number])
        # Copy the heads even if the decision was refused, because refusing an overdue request records its expiry.
        self.keep_heads()
        _demand_recorded(outcome, request, history, delivery)
        return request

    def promoted(self, number: int) -> Event:
        """Record that an approved request's version is the champion from now on.

        Raises
        ------
        LedgerError
            The request is not approved, it has expired, or the champion has changed since the comparison; see `stale`.
        """
        with self.writing() as connection:
            request = select_request(connection, number)
            why = select_stale(connection, request)
            outcome = call(connection, "select platform.promote(%s)", [number])
            event = recorded_event(connection, outcome)
        if event is None:
            raise (
                LedgerError(f"{request.called} cannot be promoted: {why}")
                if why
                else refusal(outcome, request.called, request)
            )
        self.keep_heads()
        return event

    def failed(self, number: int, reason: str) -> Event:
        """Record that an approved request cannot be promoted any more.

        Raises
        ------
        LedgerError
            The request is not approved.
        """
        with self.writing() as connection:
            request = select_request(connection, number)
            outcome = call(connection, "select platform.fail_request(%s, %s)", [number, reason])
            event = recorded_event(connection, outcome)
        if event is None:
            raise refusal(outcome, request.called, request)
        self.keep_heads()
        return event

    def rolled_back(self, model: str, actor: Actor, reason: str, *, delivery: str | None = None) -> Event:
        """Record that the previous champion is the champion again.

        Parameters
        ----------
        model
            Name of the model.
        actor
            The person who rolls back.
        reason
            The person's reason.
        delivery
            Idempotency key: a rollback that is sent twice with the same key is recorded once.

        Raises
        ------
        DecisionRefused
            The person may not roll back, or gives no reason.
        LedgerError
            There is no previous champion.
        """
        thing = f"the rollback of {model}"
        secret, claimed, reason = _stated(actor, reason, thing)
        _refuse_delivery(delivery, thing)
        with self.writing() as connection:
            arguments = [model, secret, claimed, reason, delivery]
            outcome = call(connection, "select platform.roll_back(%s, %s, %s, %s, %s)", arguments)
            event = recorded_event(connection, outcome)
        if outcome.get("why") == "no_previous":
            only = outcome["version"]
            found = (
                f"version {only} is the only champion so far; approve another version"
                if only
                else "there is no champion yet; approve a version first"
            )
            raise LedgerError(f"{model} cannot be rolled back: {found}")
        if event is None:
            raise refusal(outcome, thing)
        self.keep_heads()
        return event

    def expire(self) -> list[Request]:
        """Record the expiry of pending requests that are overdue by the database's clock; return these requests."""
        with self.reading() as connection:
            if connection.execute(_DUE.encode()).fetchone() == (False,):
                return []
        with self.writing() as connection:
            numbers = call(connection, "select platform.expire_requests()", [])
            expired = [select_request(connection, number) for number in numbers]
        self.keep_heads()
        return expired

    def projected(self, sequence: int) -> None:
        """Record that the model registry now reflects an event."""
        with self.writing() as connection:
            connection.execute("select platform.mark_projected(%s)", [sequence])
        self.keep_heads()

    def _open(self, proposal: Proposal) -> dict[str, Any]:
        from psycopg.types.json import Jsonb

        requester = proposal.requested_by
        version, digest = proposal.champion or (None, None)
        with self.writing() as connection:
            arguments = [
                *(proposal.model, proposal.version, proposal.digest, proposal.threshold, proposal.launched_by),
                *((requester.secret or None, requester.name) if requester else (None, None)),
                Jsonb(policy_as_json(proposal.policy)),
                Jsonb(dict(proposal.evidence)),
                *([*proposal.plots], [*proposal.plots.values()]),
                *(version, digest),
            ]
            opened: dict[str, Any] = call(connection, _OPEN, arguments)
        return opened

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction for a function that takes the ledger's lock.

        The isolation level is read committed, so that the function sees what was committed while it waited.

        Raises
        ------
        LedgerError
            The database does not respond; nothing was recorded.
        """
        with self._transaction() as connection:
            connection.execute("set transaction isolation level read committed")
            yield connection


def call(connection: Connection, statement: str, arguments: list[Any]) -> Any:
    """Return the result of one of the ledger's functions."""
    row = connection.execute(statement.encode(), arguments).fetchone()
    assert row is not None  # noqa: S101 - narrows the type
    return row[0]


def recorded_event(connection: Connection, outcome: Mapping[str, Any]) -> Event | None:
    """Return the event that a database function recorded; None if the function refused."""
    number = outcome.get("event")
    return select_events(connection, "sequence = %s", [number])[0] if number else None


def _stated(actor: Actor, reason: str, thing: str) -> tuple[str | None, str, str]:
    """Return secret, claimed name and reason as arguments for the database functions.

    Raises
    ------
    DecisionRefused
        The reason is empty, or one of the texts contains control or invisible characters.
    """
    reason = reason.replace("\r\n", "\n").strip()
    for what, text, lines in (("the reason", reason, True), ("the name", actor.name, False)):
        if odd := unprintable(text, lines=lines):
            raise DecisionRefused(f"{thing}: {what} contains control or invisible characters ({', '.join(odd)})")
    if not is_visible(reason):
        raise refusal({"why": "no_reason"}, thing)
    if unprintable(actor.secret):
        raise refusal({"why": "unknown_key"}, thing)
    return actor.secret or None, actor.name, reason


def _demand_recorded(
    outcome: Mapping[str, Any], request: Request, history: Sequence[Event], delivery: str | None
) -> None:
    """Raise the error for a decision that the database did not record."""
    if outcome["outcome"] == "closed":
        raise AlreadyDecided(request, closing_event(history) or history[-1])
    if outcome.get("why") == "other_delivery":
        known = next(event for event in history if event.sequence == outcome["event"])
        raise DecisionRefused(
            f"{request.called}: the idempotency key {delivery!r} was already used for another decision ({known.told}); "
            "send a different `delivery`"
        )
    if outcome["outcome"] == "refused":
        raise refusal(outcome, request.called, request)


def _refuse_delivery(delivery: str | None, thing: str) -> None:
    if delivery is not None and unprintable(delivery):
        raise DecisionRefused(f"{thing}: the idempotency key contains control or invisible characters; use plain text")
