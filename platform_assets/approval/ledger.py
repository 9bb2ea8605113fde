"""The ledger: the permanent record of requests and decisions about models, who decided, when, why, on what evidence.

It says which version is the champion; the registry's aliases only show it (`reconciliation.py` brings them there). What
became of a request, step by step, are its events. They are numbered over all requests and chained by hashes. The
database's trigger numbers, dates and chains them, and refuses a step that does not follow (migration 0002); the
platform's role can add and not alter. `audit.py` finds what somebody altered all the same. What only reads stands in
`ledger_queries.py`.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, get_args

from platform_assets.approval.decision_rules import (
    APPROVE,
    Decision,
    Verb,
    is_text,
    lacks_scope,
    outcome,
    refuse_actor,
    was_delivered,
)
from platform_assets.approval.ledger_errors import AlreadyDecided, DecisionRefused, LedgerError
from platform_assets.approval.ledger_events import closing_event
from platform_assets.approval.ledger_queries import (
    OF_MODEL,
    LedgerQueries,
    select_champions,
    select_events,
    select_now,
    select_request,
    select_requests,
    select_stale,
)
from platform_assets.approval.policy import policy_as_json
from platform_assets.approval.requests import OPEN, PLATFORM, Actor, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    import psycopg

    from platform_assets.approval.ledger_events import Event
    from platform_assets.approval.requests import Proposal, Request

    Connection = psycopg.Connection[Any]

LOCK = int.from_bytes(b"ledger", "big")
"""Number of the advisory lock that the trigger takes as well."""
_REFUSED, _EXPIRED = "PA001", "PA002"
"""What the trigger raises: a step that does not follow, and one that comes too late."""
_DUE = """
select r.id from platform.approval_requests r
where (%s::text is null or r.model = %s) and r.expires_at <= clock_timestamp() and (
    select state from platform.approval_events where request_id = r.id order by sequence desc limit 1
) = 'PENDING' order by r.id
"""


class Ledger(LedgerQueries):
    """The record of requests and decisions.

    Parameters
    ----------
    connect
        Lends a connection to the platform's database; what is open on it is rolled back afterwards.
    require_identity
        Whether only who showed a key may decide.
    """

    def __init__(
        self, connect: Callable[[], AbstractContextManager[Connection]], *, require_identity: bool = False
    ) -> None:
        super().__init__(connect)
        self._require_identity = require_identity

    def open_request(self, proposal: Proposal) -> Request:
        """Ask for a decision, or give the open request for the same version.

        Pending requests of the model for older versions, or for another file of this one, are superseded.

        Raises
        ------
        LedgerError
            The version is the champion already.
        """
        with self._locked() as connection:
            _expire(connection, proposal.model)
            standing = select_requests(connection, "r.model = %s", [proposal.model])
            same = (proposal.version, proposal.digest)
            for request in standing:
                if request.state in OPEN and (request.version, request.digest) == same:
                    return request
            champion = select_champions(connection, proposal.model)[:1]
            if any(one.digest == proposal.digest for one in champion):
                raise LedgerError(f"{proposal.model} version {proposal.version} is the champion already")
            number = _insert_request(connection, proposal)
            for request in standing:
                if request.state is State.PENDING and request.version <= proposal.version:
                    _add(connection, request.id, State.SUPERSEDED, "supersede", details={"by": number})
            asking = Actor(proposal.requested_by or PLATFORM)
            _add(connection, number, State.PENDING, "request", asking)
            return select_request(connection, number)

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

        Where several approvals are needed, one is a vote, and the request stays pending until the last;
        one rejection ends it.

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
            Approve in spite of a failed verdict; recorded for ever.
        delivery
            Any text that is the same when the same decision is sent again; it is then recorded once.

        Raises
        ------
        NoSuchRequest
            There is none of this number.
        DecisionRefused
            The policy does not allow it.
        AlreadyDecided
            The request is closed; names what closed it.
        """
        if delivery is not None and not is_text(delivery):
            raise DecisionRefused(f"request {number}: a delivery is named by text")
        with self._locked() as connection:
            if decision not in get_args(Verb):
                raise DecisionRefused(f"{decision!r} is no decision; there are {', '.join(get_args(Verb))}")
            refuse_actor(actor, reason, f"request {number}", require_identity=self._require_identity)
            decided = _decided(connection, Decision(number, decision, actor, reason.strip(), override, delivery))
        if isinstance(decided, AlreadyDecided):
            # After the commit: that it expired is recorded by whoever comes too late.
            raise decided
        return decided

    def promoted(self, number: int, actor: Actor, details: Mapping[str, Any] | None = None) -> Event:
        """Record that an approved request's version is the champion from now on.

        Raises
        ------
        LedgerError
            It is not approved, has expired, or the champion is not the one that the approver saw; see `stale`.
        """
        with self._locked() as connection:
            request = select_request(connection, number)
            if why := select_stale(connection, request):
                raise LedgerError(f"{request.called} cannot be promoted: {why}")
            return _add(connection, number, State.PROMOTED, "promote", actor, details=details)

    def failed(self, number: int, reason: str, actor: Actor | None = None) -> Event:
        """Record that an approved request cannot be promoted any more.

        Raises
        ------
        LedgerError
            It is not approved.
        """
        with self._locked() as connection:
            return _add(connection, number, State.FAILED, "fail", actor, reason=reason)

    def rolled_back(self, model: str, actor: Actor, reason: str, *, delivery: str | None = None) -> Event:
        """Record that the champion is the previous one again.

        Parameters
        ----------
        model
            The model.
        actor
            Who does it.
        reason
            Why.
        delivery
            Any text that is the same when the same rollback is sent again; it is then recorded once.

        Raises
        ------
        DecisionRefused
            This person may not, or gives no reason.
        LedgerError
            There is no previous champion.
        """
        refuse_actor(actor, reason, f"the rollback of {model}", require_identity=self._require_identity)
        if actor.authenticated and APPROVE not in actor.scopes:
            raise DecisionRefused(f"the rollback of {model}: {lacks_scope(actor)}")
        with self._locked() as connection:
            for event in select_events(connection, f"kind = 'roll_back' and {OF_MODEL}", [model]):
                if delivery is not None and event.delivery == delivery:
                    return event
            champions = select_champions(connection, model)
            if len(champions) < 2:  # noqa: PLR2004 - this one and the one before
                found = f"version {champions[0].version} is its only one so far" if champions else "there is none"
                raise LedgerError(f"the champion of {model} cannot be rolled back: {found}; approve another version")
            now, before = champions
            details = {"version": before.version, "digest": before.digest, "request": before.request_id}
            return _add(
                connection,
                now.request_id,
                State.ROLLED_BACK,
                "roll_back",
                actor,
                reason=reason.strip(),
                delivery=delivery,
                details=details,
            )

    def expire(self) -> list[Request]:
        """Record which pending requests have expired, by the database's clock; those it recorded."""
        with self._reading() as connection:
            due = connection.execute(f"select exists ({_DUE})", [None, None]).fetchone()
        if not due or not due[0]:
            return []
        with self._locked() as connection:
            return [select_request(connection, number) for number in _expire(connection, None)]

    def projected(self, sequence: int) -> None:
        """Record that the registry shows an event."""
        with self._transaction() as connection:
            connection.execute(
                "insert into platform.approval_projections (sequence) values (%s) on conflict do nothing", [sequence]
            )

    @contextmanager
    def _locked(self) -> Iterator[Connection]:
        """A transaction that nobody else's steps come between."""
        with self._transaction() as connection:
            connection.execute("select pg_advisory_xact_lock(%s)", [LOCK])
            yield connection


def _decided(connection: Connection, decision: Decision) -> Request | AlreadyDecided:
    request = select_request(connection, decision.number)
    history = select_events(connection, "request_id = %s", [request.id])
    if was_delivered(request, history, decision):
        return request
    if request.state is State.PENDING and request.is_expired(select_now(connection)):
        _add(connection, request.id, State.EXPIRED, "expire")
        request = select_request(connection, request.id)
        history = select_events(connection, "request_id = %s", [request.id])
    if request.state is not State.PENDING:
        return AlreadyDecided(request, closing_event(history) or history[-1])
    _add(
        connection,
        request.id,
        outcome(request, history, decision),
        decision.verb,
        decision.actor,
        reason=decision.reason,
        override=decision.override,
        delivery=decision.delivery,
    )
    return select_request(connection, request.id)


def _expire(connection: Connection, model: str | None) -> list[int]:
    due = [row[0] for row in connection.execute(_DUE, [model, model])]
    for number in due:
        _add(connection, number, State.EXPIRED, "expire")
    return due


def _insert_request(connection: Connection, proposal: Proposal) -> int:
    from psycopg.types.json import Jsonb

    version, digest = proposal.champion or (None, None)
    row = connection.execute(
        "insert into platform.approval_requests (model, version, digest, threshold, launched_by, requested_by,"
        " created_at, expires_at, policy, evidence, plots, champion_version, champion_digest)"
        # The trigger dates it.
        " values (%s, %s, %s, %s, %s, %s, now(), now(), %s, %s, %s, %s, %s) returning id",
        [
            *(proposal.model, proposal.version, proposal.digest, proposal.threshold),
            *(proposal.launched_by, proposal.requested_by),
            Jsonb(policy_as_json(proposal.policy)),
            Jsonb(dict(proposal.evidence)),
            Jsonb({name: hashlib.sha256(png).hexdigest() for name, png in proposal.plots.items()}),
            *(version, digest),
        ],
    ).fetchone()
    assert row is not None  # noqa: S101 - narrows the type
    for name, png in proposal.plots.items():
        connection.execute(
            "insert into platform.approval_plots (request_id, name, png) values (%s, %s, %s)", [row[0], name, png]
        )
    return int(row[0])


def _add(  # noqa: PLR0913 - an event is all of this
    connection: Connection,
    number: int,
    state: State,
    kind: str,
    actor: Actor | None = None,
    *,
    reason: str | None = None,
    override: bool = False,
    delivery: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> Event:
    """Add an event, which the database numbers, dates and chains, if it follows."""
    import psycopg
    from psycopg.types.json import Jsonb

    who = actor or Actor(PLATFORM)
    try:
        row = connection.execute(
            "insert into platform.approval_events (request_id, state, kind, actor, authenticated, reason, override,"
            # The trigger sets the rest.
            " delivery, details, sequence, at, request_digest, previous_hash, hash)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s, %s, 0, now(), '', '', '') returning sequence",
            [number, state, kind, who.name, who.authenticated, reason, override, delivery, Jsonb(dict(details or {}))],
        ).fetchone()
    except psycopg.Error as error:
        if error.sqlstate == _EXPIRED:
            raise DecisionRefused(f"request {number} expired at this moment; ask for a new one") from None
        if error.sqlstate == _REFUSED:
            raise LedgerError(f"{error.diag.message_primary}; nothing was recorded") from None
        raise
    assert row is not None  # noqa: S101 - narrows the type
    return select_events(connection, "sequence = %s", [row[0]])[0]
