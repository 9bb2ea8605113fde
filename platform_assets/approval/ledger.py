"""The record of requests and decisions about models, which is there for ever: who, when, what, why, on what evidence.

It says which version is the champion; the registry's aliases only show it (`promotion.py` brings them there). What
became of a request, step by step, are its events. They are numbered over all requests and chained by hashes. The
database's trigger numbers, dates and chains them, and refuses a step that does not follow (migration 0002); the
platform's role can add and not alter. `audit` finds what somebody altered all the same.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, get_args

from platform_assets.approval.policy import ANYONE, ApprovalPolicy
from platform_assets.base.errors import PlatformError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime

    import psycopg

    Connection = psycopg.Connection[Any]

Verb = Literal["approve", "reject", "withdraw"]
APPROVE = "approve"
"""Scope of a key whose owner may decide."""
PLATFORM = "platform"
"""Who does what no person did: a request expires, or a newer one takes its place."""
NOBODY = frozenset({"", "user", "unknown"})
"""What Dagster and others call somebody of whom they do not know who it is."""
LOCK = int.from_bytes(b"ledger", "big")
"""Number of the advisory lock that the trigger takes as well."""
LONGEST_REASON = 10_000
_FIRST = "0" * 64
_SHOWN = 80
_REFUSED, _EXPIRED = "PA001", "PA002"
"""What the trigger raises: a step that does not follow, and one that comes too late."""


class LedgerError(PlatformError):
    """The ledger does not do what it was asked for, and nothing was recorded."""


class NoSuchRequest(LedgerError):  # noqa: N818 - says what it is
    """There is no request of this number."""


class DecisionRefused(LedgerError):  # noqa: N818 - says what it is
    """Somebody may not decide this, or not so; what would open it is told."""


class AlreadyDecided(LedgerError):  # noqa: N818 - says what it is
    """The request is closed.

    Attributes
    ----------
    request
        As it is now.
    event
        The decision that stands, or what else closed it.
    """

    def __init__(self, request: Request, event: Event) -> None:
        super().__init__(f"{request.called} is closed: {event.told}")
        self.request = request
        self.event = event


class State(StrEnum):
    """Where a request stands; the first two are open."""

    PENDING = "PENDING"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    SUPERSEDED = "SUPERSEDED"
    WITHDRAWN = "WITHDRAWN"
    PROMOTED = "PROMOTED"
    FAILED = "FAILED"
    ROLLED_BACK = "ROLLED_BACK"


OPEN = frozenset({State.PENDING, State.APPROVED})
_OUTCOMES = {"approve": State.APPROVED, "reject": State.REJECTED, "withdraw": State.WITHDRAWN}
_TOLD = {
    "request": "requested",
    "approve": "approved",
    "reject": "rejected",
    "withdraw": "withdrawn",
    "expire": "expired",
    "supersede": "superseded",
    "promote": "promoted",
    "fail": "failed",
    "roll_back": "rolled back",
}


@dataclass(frozen=True)
class Actor:
    """Who does something.

    Attributes
    ----------
    name
        Of the person or program.
    authenticated
        Whether a key proved it. Dagster knows no users, so what comes from its Launchpad is a mere claim.
    scopes
        Of that key.
    """

    name: str
    authenticated: bool = False
    scopes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Proposal:
    """A version that somebody wants to make the champion, with all that is known of it now.

    Attributes
    ----------
    model, version, digest, threshold
        The registered version, its file, and the score from which a row counts as positive.
    launched_by
        Who launched the training; None where nobody knows.
    requested_by
        Who asks; None where nobody knows.
    policy
        Who may decide.
    evidence
        JSON; `verdict.passed` says whether it passed the gate (`promotion.evidence_of`).
    plots
        File name to PNG.
    champion
        Version and digest of the champion that it was compared with; None without one.
    """

    model: str
    version: int
    digest: str
    threshold: float
    launched_by: str | None
    requested_by: str | None
    policy: ApprovalPolicy
    evidence: Mapping[str, Any]
    plots: Mapping[str, bytes] = field(default_factory=dict)
    champion: tuple[int, str] | None = None


@dataclass(frozen=True)
class Request:
    """A request as it was frozen, and where it stands.

    Attributes
    ----------
    id
        Its number.
    model, version, digest, threshold, launched_by, requested_by, policy, evidence
        As in `Proposal`.
    created_at, expires_at
        With time zone; at `expires_at` it is expired.
    plot_digests
        File name to SHA-256.
    champion_version, champion_digest
        The champion at that time; None without one.
    state
        Where it stands. An expired one is `PENDING` until somebody notices.
    """

    id: int
    model: str
    version: int
    digest: str
    threshold: float
    launched_by: str | None
    requested_by: str | None
    created_at: datetime
    expires_at: datetime
    policy: ApprovalPolicy
    evidence: Mapping[str, Any]
    plot_digests: Mapping[str, str]
    champion_version: int | None
    champion_digest: str | None
    state: State

    @property
    def champion(self) -> tuple[int, str] | None:
        """Version and digest of the champion at that time."""
        if self.champion_version is None or self.champion_digest is None:
            return None
        return self.champion_version, self.champion_digest

    @property
    def called(self) -> str:
        """Its name in a sentence."""
        return f"request {self.id} ({self.model} version {self.version})"

    @property
    def passed(self) -> bool:
        """Whether the version passed the gate; not without a verdict."""
        return (self.evidence.get("verdict") or {}).get("passed") is True

    def is_expired(self, moment: datetime) -> bool:
        """Whether it cannot be decided any more at a moment."""
        return moment >= self.expires_at


@dataclass(frozen=True)
class Event:
    """One step of a request.

    Attributes
    ----------
    sequence
        1, 2, 3 .. over all requests.
    request_id
        The request.
    state
        Of the request, after it.
    kind
        `request`, `approve`, `reject`, `withdraw`, `expire`, `supersede`, `promote`, `fail` or `roll_back`.
    actor, authenticated
        Who, and whether a key proved that.
    reason
        Why, where somebody had to say it.
    override
        Whether a failed verdict was overridden.
    delivery
        Tells a decision that was sent twice.
    details
        What a program has to know of it.
    at
        By the database's clock, with time zone.
    hash
        Of all of it, of the request, and of the event before.
    """

    sequence: int
    request_id: int
    state: State
    kind: str
    actor: str
    authenticated: bool
    reason: str | None
    override: bool
    delivery: str | None
    details: Mapping[str, Any]
    at: datetime
    hash: str

    @property
    def head(self) -> str:
        """How the registry's versions name this end of the chain."""
        return f"{self.sequence}:{self.hash}"

    @property
    def told(self) -> str:
        """In a sentence."""
        proof = "" if self.authenticated or self.actor == PLATFORM else " (no key proved who)"
        override = ", overriding a failed verdict" if self.override else ""
        why = f": {self.reason}" if self.reason else ""
        return f"{_TOLD[self.kind]} by {self.actor}{proof} at {self.at:%Y-%m-%d %H:%M:%S} UTC{override}{why}"


@dataclass(frozen=True)
class Promotion:
    """A version that the ledger made the champion.

    Attributes
    ----------
    request_id
        The approved request.
    model, version, digest, threshold
        The version as it was approved.
    event
        Of its promotion.
    """

    request_id: int
    model: str
    version: int
    digest: str
    threshold: float
    event: Event


@dataclass(frozen=True)
class Finding:
    """Something in the ledger that is not as it was written.

    Attributes
    ----------
    row
        Which: `event 7`, `request 3`, `plot roc.png of request 3`.
    told
        What is wrong with it.
    """

    row: str
    told: str


@dataclass(frozen=True)
class Frozen:
    """A request and its events as texts, of which the hashes are made.

    Attributes
    ----------
    request
        Column to text.
    events
        Oldest first, column to text.
    """

    request: Mapping[str, str | None]
    events: tuple[Mapping[str, str | None], ...]

    @property
    def intact(self) -> bool:
        """Whether every event has the hash of its texts, and names the request by the digest of its texts."""
        # By the names as well: the hashes are of the texts in their order alone.
        if tuple(self.request) != _REQUEST_NAMES or any(tuple(event) != _EVENT_NAMES for event in self.events):
            return False
        request = digest_of(self.request.values())
        return bool(self.events) and all(
            event["request_digest"] == request and event["hash"] == digest_of([*event.values()][:-1])
            for event in self.events
        )


class Ledger:
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
        self._connect = connect
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
            standing = _requests(connection, "r.model = %s", [proposal.model])
            same = (proposal.version, proposal.digest)
            for request in standing:
                if request.state in OPEN and (request.version, request.digest) == same:
                    return request
            champion = _champions(connection, proposal.model)[:1]
            if any(one.digest == proposal.digest for one in champion):
                raise LedgerError(f"{proposal.model} version {proposal.version} is the champion already")
            number = _insert_request(connection, proposal)
            for request in standing:
                if request.state is State.PENDING and request.version <= proposal.version:
                    _add(connection, request.id, State.SUPERSEDED, "supersede", details={"by": number})
            asking = Actor(proposal.requested_by or PLATFORM)
            _add(connection, number, State.PENDING, "request", asking)
            return _request(connection, number)

    def request(self, number: int) -> Request:
        """One request.

        Raises
        ------
        NoSuchRequest
            There is none of this number.
        """
        with self._reading() as connection:
            return _request(connection, number)

    def requests(self, model: str | None = None, states: Iterable[State] | None = None) -> list[Request]:
        """The requests, newest first; of one model, or in some states."""
        wanted = None if states is None else [str(state) for state in states]
        with self._reading() as connection:
            return _requests(
                connection,
                "(%s::text is null or r.model = %s) and (%s::text[] is null or latest.state = any(%s))",
                [model, model, wanted, wanted],
            )

    def history(self, number: int) -> list[Event]:
        """What became of a request, step by step.

        Raises
        ------
        NoSuchRequest
            There is none of this number.
        """
        with self._reading() as connection:
            _request(connection, number)
            return _events(connection, "request_id = %s", [number])

    def plots(self, number: int) -> dict[str, bytes]:
        """The plots of a request: file name to PNG."""
        with self._reading() as connection:
            rows = connection.execute(
                "select name, png from platform.approval_plots where request_id = %s order by name", [number]
            )
            return {name: bytes(png) for name, png in rows}

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
        if delivery is not None and not _is_text(delivery):
            raise DecisionRefused(f"request {number}: a delivery is named by text")
        with self._locked() as connection:
            outcome = _decided(
                connection, self._checked(decision, actor, reason, number), override=override, delivery=delivery
            )
        if isinstance(outcome, AlreadyDecided):
            # After the commit: that it expired is recorded by whoever comes too late.
            raise outcome
        return outcome

    def promoted(self, number: int, actor: Actor, details: Mapping[str, Any] | None = None) -> Event:
        """Record that an approved request's version is the champion from now on.

        Raises
        ------
        LedgerError
            It is not approved, has expired, or the champion is not the one that the approver saw; see `stale`.
        """
        with self._locked() as connection:
            request = _request(connection, number)
            if why := _stale(connection, request):
                raise LedgerError(f"{request.called} cannot be promoted: {why}")
            return _add(connection, number, State.PROMOTED, "promote", actor, details=details)

    def stale(self, number: int) -> str | None:
        """Why an approved request cannot be promoted any more as far as the ledger knows; None if it can."""
        with self._reading() as connection:
            return _stale(connection, _request(connection, number))

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
        _refuse_actor(actor, reason, f"the rollback of {model}", require_identity=self._require_identity)
        if actor.authenticated and APPROVE not in actor.scopes:
            raise DecisionRefused(f"the rollback of {model}: {_lacks(actor)}")
        with self._locked() as connection:
            for event in _events(connection, f"kind = 'roll_back' and {_OF_MODEL}", [model]):
                if delivery is not None and event.delivery == delivery:
                    return event
            champions = _champions(connection, model)
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

    def champion(self, model: str) -> Promotion | None:
        """The version that is to serve; None before the first promotion."""
        with self._reading() as connection:
            return next(iter(_champions(connection, model)), None)

    def previous_champion(self, model: str) -> Promotion | None:
        """The version that a rollback brings back; None where there is none."""
        with self._reading() as connection:
            return next(iter(_champions(connection, model)[1:]), None)

    def models(self) -> list[str]:
        """The models of which there are requests."""
        with self._reading() as connection:
            return [row[0] for row in connection.execute("select distinct model from platform.approval_requests")]

    def expire(self) -> list[Request]:
        """Record which pending requests have expired, by the database's clock; those it recorded."""
        with self._reading() as connection:
            due = connection.execute(f"select exists ({_DUE})", [None, None]).fetchone()
        if not due or not due[0]:
            return []
        with self._locked() as connection:
            return [_request(connection, number) for number in _expire(connection, None)]

    def unprojected(self, model: str) -> list[Event]:
        """Promotions and rollbacks of a model that the registry may not show yet, oldest first."""
        with self._reading() as connection:
            return _events(
                connection,
                f"kind in ('promote', 'roll_back') and {_OF_MODEL} and not exists"
                " (select from platform.approval_projections p where p.sequence = approval_events.sequence)",
                [model],
            )

    def rejections(self, after: int) -> list[Event]:
        """Rejections later than an event, oldest first."""
        with self._reading() as connection:
            return _events(connection, "kind = 'reject' and sequence > %s", [after])

    def changes(self, model: str) -> list[Event]:
        """Promotions and rollbacks of a model, oldest first."""
        with self._reading() as connection:
            return _events(connection, f"kind in ('promote', 'roll_back') and {_OF_MODEL}", [model])

    def projected(self, sequence: int) -> None:
        """Record that the registry shows an event."""
        with self._writing() as connection:
            connection.execute(
                "insert into platform.approval_projections (sequence) values (%s) on conflict do nothing", [sequence]
            )

    def head(self) -> str | None:
        """The newest event, as `Event.head`; None before the first."""
        with self._reading() as connection:
            row = connection.execute(
                "select sequence || ':' || hash from platform.approval_events order by sequence desc limit 1"
            ).fetchone()
        return str(row[0]) if row else None

    def frozen(self, number: int) -> Frozen:
        """A request and its events, as the chain froze them.

        Raises
        ------
        NoSuchRequest
            There is none of this number.
        """
        from psycopg.rows import dict_row

        with self._reading() as connection:
            _request(connection, number)
            with connection.cursor(row_factory=dict_row) as cursor:
                wanted = {"request": number}
                [request] = cursor.execute(_FROZEN_REQUESTS, wanted).fetchall()
                return Frozen(request, tuple(cursor.execute(_FROZEN_EVENTS, wanted).fetchall()))

    def audit(self, heads: Mapping[str, str] | None = None) -> list[Finding]:
        """What is not as it was written, by hashes that are computed here and not in the database.

        Parameters
        ----------
        heads
            Ends of the chain that somebody else kept, as `Event.head`, by who that is: without them, a cut
            tail, or a chain that was computed anew, cannot be told.
        """
        with self._reading() as connection:
            # One moment for all of it.
            connection.execute("set transaction isolation level repeatable read")
            digests = {int(row[0]): digest_of(row) for row in connection.execute(_FROZEN_REQUESTS, _EVERY)}
            events = connection.execute(_FROZEN_EVENTS, _EVERY).fetchall()
            plots = connection.execute(_FROZEN_PLOTS).fetchall()
        findings = _chain_findings(events, digests)
        findings += [
            Finding(f"plot {name} of request {number}", "its picture is not the one that was frozen" if there else told)
            for number, name, there, same in plots
            for told in ["it is missing"]
            if not same
        ]
        chain = {int(event[0]): str(event[-1]) for event in events}
        for who, head in (heads or {}).items():
            sequence, _, hashed = head.partition(":")
            if not sequence.isdecimal():
                findings.append(Finding(who, f"names no event of the ledger: {head[:_SHOWN]!r}"))
                continue
            found = chain.get(int(sequence))
            if found is None:
                end = ": the end of the ledger was cut off" if int(sequence) > max(chain, default=0) else ""
                told = f"{who} has seen it, and it is gone{end}"
                findings.append(Finding(f"event {sequence}", told))
            elif found != hashed:
                told = f"{who} has seen another one: the ledger was written anew from there, or earlier"
                findings.append(Finding(f"event {sequence}", told))
        return findings

    def _checked(self, decision: Verb, actor: Actor, reason: str, number: int) -> _Decision:
        if decision not in get_args(Verb):
            raise DecisionRefused(f"{decision!r} is no decision; there are {', '.join(get_args(Verb))}")
        _refuse_actor(actor, reason, f"request {number}", require_identity=self._require_identity)
        return _Decision(number, decision, actor, reason.strip())

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        # One statement may read what several writers wrote meanwhile, but never half of what one did.
        with self._writing() as connection:
            yield connection

    @contextmanager
    def _locked(self) -> Iterator[Connection]:
        """A transaction that nobody else's steps come between."""
        with self._writing() as connection:
            connection.execute("select pg_advisory_xact_lock(%s)", [LOCK])
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        import psycopg

        try:
            with self._connect() as connection, connection.transaction():
                yield connection
        except psycopg.Error as error:
            raise LedgerError(
                f"PostgreSQL did not do what the ledger asked for ({first_line(error)}); nothing was recorded. "
                "`platform-assets doctor` says what is reachable"
            ) from error


@dataclass(frozen=True)
class _Decision:
    number: int
    verb: Verb
    actor: Actor
    reason: str


def _refuse_actor(actor: Actor, reason: str, thing: str, *, require_identity: bool) -> None:
    """Refuse whoever cannot be known, may not decide at all, or does not say why."""
    if not _is_text(reason) or len(reason) > LONGEST_REASON:
        raise DecisionRefused(f"{thing}: a reason is text of {LONGEST_REASON:,} characters at most")
    if not _is_text(actor.name):
        raise DecisionRefused(f"{thing}: the name of who decides must be text")
    if not reason.strip():
        raise DecisionRefused(f"{thing}: say why; a decision without a reason is not recorded")
    if not actor.name.strip():
        raise DecisionRefused(f"{thing}: say who decides")
    if require_identity and not actor.authenticated:
        raise DecisionRefused(
            f"{thing}: nobody knows that this is {actor.name}, and PLATFORM_APPROVALS_REQUIRE_IDENTITY is on; decide "
            "on the page or by `platform-assets decide`, with a key"
        )


def _decided(
    connection: Connection, decision: _Decision, *, override: bool, delivery: str | None
) -> Request | AlreadyDecided:
    request, verb, actor = _request(connection, decision.number), decision.verb, decision.actor
    history = _events(connection, "request_id = %s", [request.id])
    for event in history:
        if delivery is not None and event.delivery == delivery:
            if (event.kind, event.actor, event.reason) == (verb, actor.name, decision.reason):
                return request
            raise DecisionRefused(f"{request.called}: {delivery!r} was the delivery of another decision: {event.told}")
    if request.state is State.PENDING and request.is_expired(_now(connection)):
        _add(connection, request.id, State.EXPIRED, "expire")
        request, history = _request(connection, request.id), _events(connection, "request_id = %s", [request.id])
    if request.state is not State.PENDING:
        return AlreadyDecided(request, next(event for event in history[1:] if event.state is not State.PENDING))
    _refuse_role(request, decision)
    state = _OUTCOMES[verb]
    if verb == "approve":
        _refuse_override(request, actor, override=override)
        votes = [event.actor for event in history if event.kind == "approve"]
        if _person(actor.name) in map(_person, votes):
            raise DecisionRefused(
                f"{request.called}: {actor.name} has approved it already; {request.policy.approvals} different people "
                f"must, and {len(votes)} did"
            )
        state = State.APPROVED if len(votes) + 1 >= request.policy.approvals else State.PENDING
    elif override:
        raise DecisionRefused(f"{request.called}: only an approval can override a failed verdict")
    _add(
        connection,
        request.id,
        state,
        verb,
        actor,
        reason=decision.reason,
        override=override,
        delivery=delivery,
    )
    return _request(connection, request.id)


def _refuse_role(request: Request, decision: _Decision) -> None:
    actor, policy = decision.actor, request.policy
    involved = {_person(name) for name in (request.launched_by, request.requested_by) if name}
    if decision.verb == "withdraw" and _person(actor.name) in involved:
        return
    if actor.authenticated and APPROVE not in actor.scopes:
        raise DecisionRefused(f"{request.called}: {_lacks(actor)}")
    if policy.approvers != ANYONE and _person(actor.name) not in map(_person, policy.approvers):
        raise DecisionRefused(f"{request.called}: {actor.name} may not decide it; {', '.join(policy.approvers)} may")
    if decision.verb != "approve" or not policy.four_eyes:
        return
    if _person(request.launched_by or "") in NOBODY:
        raise DecisionRefused(
            f"{request.called}: nobody knows who launched the training, and with four eyes that person may not approve "
            "it; let somebody else ask for it by name, with a training that a schedule, a sensor or a known person "
            "launches"
        )
    if _person(actor.name) in involved:
        raise DecisionRefused(
            f"{request.called}: {actor.name} launched the training or made the request, and with four eyes may not "
            "approve it; somebody else must"
        )


def _refuse_override(request: Request, actor: Actor, *, override: bool) -> None:
    allowed = request.policy.may_override
    if request.passed:
        if override:
            raise DecisionRefused(f"{request.called} passed the gate: there is nothing to override; approve it plainly")
        return
    may = _person(actor.name) in map(_person, allowed)
    if not override:
        who = f"{', '.join(allowed)} may override that" if allowed else "the model's policy lets nobody override that"
        raise DecisionRefused(f"{request.called} did not pass the gate; {who}, and has to say so")
    if not may:
        who = f"only {', '.join(allowed)} may" if allowed else "the model's policy lets nobody do that"
        raise DecisionRefused(f"{request.called}: {actor.name} may not override a failed verdict; {who}")


def _is_text(text: str) -> bool:
    """Whether PostgreSQL can keep it: it knows no NUL, and UTF-8 no half of a pair of surrogates."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _lacks(actor: Actor) -> str:
    return (
        f"the key of {actor.name} lacks the scope {APPROVE}; whoever runs the platform adds one with "
        f"`platform-assets keys add NAME --scope {APPROVE}`"
    )


def _person(name: str) -> str:
    return name.strip().casefold()


def _stale(connection: Connection, request: Request) -> str | None:
    """Why it cannot be promoted; None if it can."""
    if request.state is not State.APPROVED:
        return f"it is {request.state.value}, and must be {State.APPROVED.value}"
    if request.is_expired(_now(connection)):
        return f"it expired at {request.expires_at:%Y-%m-%d %H:%M:%S} UTC, before it was promoted"
    now = next(iter(_champions(connection, request.model)), None)
    if (now.digest if now else None) != request.champion_digest:
        saw = f"version {request.champion_version}" if request.champion else "none"
        return f"the champion is {f'version {now.version}' if now else 'none'}, and whoever approved it saw {saw}"
    return None


# Statements. No row is locked, which would need the right to alter it: the advisory lock stands for all.

_REQUESTS = """
select r.id, r.model, r.version, r.digest, r.threshold, r.launched_by, r.requested_by, r.created_at, r.expires_at,
    r.policy, r.evidence, r.plots, r.champion_version, r.champion_digest, latest.state
from platform.approval_requests r
cross join lateral (
    select state from platform.approval_events where request_id = r.id order by sequence desc limit 1
) latest
"""
_EVENTS = """
select sequence, request_id, state, kind, actor, authenticated, reason, override, delivery, details, at, hash
from platform.approval_events
"""
_OF_MODEL = "request_id in (select id from platform.approval_requests where model = %s)"
_CHAMPIONS = """
select r.id, r.model, r.version, r.digest, r.threshold, latest.sequence
from platform.approval_requests r
cross join lateral (
    select state, sequence from platform.approval_events where request_id = r.id order by sequence desc limit 1
) latest
where r.model = %s and latest.state = 'PROMOTED' order by latest.sequence desc limit 2
"""
_DUE = """
select r.id from platform.approval_requests r
where (%s::text is null or r.model = %s) and r.expires_at <= clock_timestamp() and (
    select state from platform.approval_events where request_id = r.id order by sequence desc limit 1
) = 'PENDING' order by r.id
"""
_FROZEN_MOMENT = """to_char({} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US')"""
_FROZEN_REQUESTS = f"""
select id::text, model, version::text, digest, threshold::text, launched_by, requested_by,
    {_FROZEN_MOMENT.format("created_at")} as created_at, {_FROZEN_MOMENT.format("expires_at")} as expires_at,
    policy::text, evidence::text, plots::text, champion_version::text, champion_digest
from platform.approval_requests frozen where %(request)s::bigint is null or frozen.id = %(request)s order by frozen.id
"""  # noqa: S608 - nothing of it comes from outside
_FROZEN_EVENTS = f"""
select sequence::text, request_id::text, state, kind, actor, authenticated::text, reason, override::text, delivery,
    details::text, {_FROZEN_MOMENT.format("at")} as at, request_digest, previous_hash, hash
from platform.approval_events frozen
where %(request)s::bigint is null or frozen.request_id = %(request)s order by frozen.sequence
"""  # noqa: S608 - nothing of it comes from outside
_EVERY = {"request": None}
_REQUEST_NAMES = (
    *("id", "model", "version", "digest", "threshold", "launched_by", "requested_by", "created_at", "expires_at"),
    *("policy", "evidence", "plots", "champion_version", "champion_digest"),
)
_EVENT_NAMES = (
    *("sequence", "request_id", "state", "kind", "actor", "authenticated", "reason", "override", "delivery"),
    *("details", "at", "request_digest", "previous_hash", "hash"),
)
_FROZEN_PLOTS = """
select r.id, named.key, p.png is not null, coalesce(encode(sha256(p.png), 'hex') = named.value, false)
from platform.approval_requests r cross join lateral jsonb_each_text(r.plots) named
left join platform.approval_plots p on p.request_id = r.id and p.name = named.key order by 1, 2
"""


def _now(connection: Connection) -> datetime:
    row = connection.execute("select clock_timestamp()").fetchone()
    assert row is not None  # noqa: S101 - narrows the type
    moment: datetime = row[0]
    return moment


def _request(connection: Connection, number: int) -> Request:
    found = _requests(connection, "r.id = %s", [number])
    if not found:
        raise NoSuchRequest(f"there is no request {number}; `platform-assets decide list` shows those that there are")
    return found[0]


def _requests(connection: Connection, where: str, parameters: list[Any]) -> list[Request]:
    rows = connection.execute(f"{_REQUESTS} where {where} order by r.id desc".encode(), parameters)
    return [Request(*[*row[:9], _policy(row[9]), *row[10:14], State(row[14])]) for row in rows]


def _events(connection: Connection, where: str, parameters: list[Any]) -> list[Event]:
    rows = connection.execute(f"{_EVENTS} where {where} order by sequence".encode(), parameters)
    return [Event(*[*row[:2], State(row[2]), *row[3:]]) for row in rows]


def _champions(connection: Connection, model: str) -> list[Promotion]:
    """The champion and the one before, as far as there are any."""
    rows = connection.execute(_CHAMPIONS, [model]).fetchall()
    return [Promotion(*[*row[:5], *_events(connection, "sequence = %s", [row[5]])]) for row in rows]


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
            Jsonb(_as_json(proposal.policy)),
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
    return _events(connection, "sequence = %s", [row[0]])[0]


def _as_json(policy: ApprovalPolicy) -> dict[str, Any]:
    return {
        "approvers": policy.approvers if policy.approvers == ANYONE else list(policy.approvers),
        "four_eyes": policy.four_eyes,
        "lifetime_seconds": policy.lifetime.total_seconds(),
        "approvals": policy.approvals,
        "may_override": list(policy.may_override),
    }


def _policy(frozen: Mapping[str, Any]) -> ApprovalPolicy:
    approvers = frozen["approvers"]
    return ApprovalPolicy(
        approvers=approvers if approvers == ANYONE else tuple(approvers),
        four_eyes=frozen["four_eyes"],
        lifetime=timedelta(seconds=frozen["lifetime_seconds"]),
        approvals=frozen["approvals"],
        may_override=tuple(frozen["may_override"]),
    )


def digest_of(fields: Iterable[str | None]) -> str:
    """As `platform.digest_of`: every field with its length, so that no two rows are written alike."""
    written = ("-" if one is None else f"{len(one.encode())}:{one}" for one in fields)
    return hashlib.sha256(",".join(written).encode()).hexdigest()


def _chain_findings(events: list[tuple[str | None, ...]], digests: Mapping[int, str]) -> list[Finding]:
    findings: list[Finding] = []
    altered: Counter[int] = Counter()
    expected, previous = 1, _FIRST
    for event in events:
        sequence, request = int(event[0] or 0), int(event[1] or 0)
        request_digest, previous_hash, hashed = event[-3:]
        if sequence != expected:
            missing = f"event {expected}" if sequence == expected + 1 else f"events {expected} to {sequence - 1}"
            findings.append(Finding(missing, "missing: somebody deleted it"))
        elif previous_hash != previous:
            findings.append(Finding(f"event {sequence}", "does not follow the one before: one of both was altered"))
        if digest_of(event[:-1]) != hashed:
            findings.append(Finding(f"event {sequence}", "altered after it was written"))
        if request not in digests:
            findings.append(Finding(f"request {request}", f"missing, and event {sequence} is of it"))
        elif digests[request] != request_digest and not altered[request]:
            altered[request] += 1
            findings.append(Finding(f"request {request}", f"altered after event {sequence} was written"))
        expected, previous = sequence + 1, hashed or ""
    seen = {int(event[1] or 0) for event in events}
    return findings + [
        Finding(f"request {number}", "none of its events is there") for number in digests if number not in seen
    ]
