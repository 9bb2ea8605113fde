"""The rules of decisions: who may decide what, what a decision leads to, and when an approval has gone stale.

They look at what they are given, and read and write nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from platform_assets.approval.ledger_errors import DecisionRefused
from platform_assets.approval.policy import ANYONE
from platform_assets.approval.requests import State

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from platform_assets.approval.ledger_events import Event, Promotion
    from platform_assets.approval.requests import Actor, Request

Verb = Literal["approve", "reject", "withdraw"]
APPROVE = "approve"
"""Scope of a key whose owner may decide."""
NOBODY = frozenset({"", "user", "unknown"})
"""What Dagster and others call somebody of whom they do not know who it is."""
LONGEST_REASON = 10_000
_CLOSED_BY = {"reject": State.REJECTED, "withdraw": State.WITHDRAWN}


@dataclass(frozen=True)
class Decision:
    """A person's decision about a request; see `Ledger.decide`."""

    number: int
    verb: Verb
    actor: Actor
    reason: str
    override: bool
    delivery: str | None


def refuse_actor(actor: Actor, reason: str, thing: str, *, require_identity: bool) -> None:
    """Refuse whoever cannot be known, may not decide at all, or does not say why."""
    if not is_text(reason) or len(reason) > LONGEST_REASON:
        raise DecisionRefused(f"{thing}: a reason is text of {LONGEST_REASON:,} characters at most")
    if not is_text(actor.name):
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


def was_delivered(request: Request, history: Sequence[Event], decision: Decision) -> bool:
    """Whether this very decision was recorded before.

    Raises
    ------
    DecisionRefused
        Its delivery is that of another decision.
    """
    for event in history:
        if decision.delivery is not None and event.delivery == decision.delivery:
            if (event.kind, event.actor, event.reason) == (decision.verb, decision.actor.name, decision.reason):
                return True
            raise DecisionRefused(
                f"{request.called}: {decision.delivery!r} was the delivery of another decision: {event.told}"
            )
    return False


def outcome(request: Request, history: Sequence[Event], decision: Decision) -> State:
    """Return the state to which a decision brings a pending request.

    Raises
    ------
    DecisionRefused
        The policy does not allow it.
    """
    actor = decision.actor
    _refuse_role(request, decision)
    if decision.verb != "approve":
        if decision.override:
            raise DecisionRefused(f"{request.called}: only an approval can override a failed verdict")
        return _CLOSED_BY[decision.verb]
    _refuse_override(request, actor, override=decision.override)
    votes = [event.actor for event in history if event.kind == "approve"]
    if _person(actor.name) in map(_person, votes):
        raise DecisionRefused(
            f"{request.called}: {actor.name} has approved it already; {request.policy.approvals} different people "
            f"must, and {len(votes)} did"
        )
    return State.APPROVED if len(votes) + 1 >= request.policy.approvals else State.PENDING


def _refuse_role(request: Request, decision: Decision) -> None:
    actor, policy = decision.actor, request.policy
    involved = {_person(name) for name in (request.launched_by, request.requested_by) if name}
    if decision.verb == "withdraw" and _person(actor.name) in involved:
        return
    if actor.authenticated and APPROVE not in actor.scopes:
        raise DecisionRefused(f"{request.called}: {lacks_scope(actor)}")
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


def why_stale(request: Request, now: datetime, champion: Promotion | None) -> str | None:
    """Return why an approved request cannot be promoted any more; None if it can.

    Parameters
    ----------
    request
        The request.
    now
        By the database's clock, with time zone.
    champion
        As it is now.
    """
    if request.state is not State.APPROVED:
        return f"it is {request.state.value}, and must be {State.APPROVED.value}"
    if request.is_expired(now):
        return f"it expired at {request.expires_at:%Y-%m-%d %H:%M:%S} UTC, before it was promoted"
    if (champion.digest if champion else None) != request.champion_digest:
        saw = f"version {request.champion_version}" if request.champion else "none"
        found = f"version {champion.version}" if champion else "none"
        return f"the champion is {found}, and whoever approved it saw {saw}"
    return None


def is_text(text: str) -> bool:
    """Whether PostgreSQL can keep it: it knows no NUL, and UTF-8 no half of a pair of surrogates."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def lacks_scope(actor: Actor) -> str:
    """Return what is told to somebody whose key does not let them decide."""
    return (
        f"the key of {actor.name} lacks the scope {APPROVE}; whoever runs the platform adds one with "
        f"`platform-assets keys add NAME --scope {APPROVE}`"
    )


def _person(name: str) -> str:
    return name.strip().casefold()
