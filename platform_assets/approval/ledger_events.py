"""Events of approval requests, and promotions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.approval.requests import PLATFORM, UNVERIFIED, State
from platform_assets.base.printable_text import escaped
from platform_assets.web.key_ring import HOW

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

_PAST = {
    "request": "requested",
    "approve": "approved",
    "reject": "rejected",
    "withdraw": "withdrawn",
    "expire": "expired",
    "supersede": "superseded",
    "promote": "promoted",
    "fail": "marked as failed",
    "roll_back": "rolled back",
    "start_shadow": "shadow started",
    "report_shadow": "shadow reported",
    "stop_shadow": "shadow stopped",
}
SHADOW_STEPS = ("start_shadow", "report_shadow", "stop_shadow")
"""Kinds of events about the shadow of a request. They leave the request's state unchanged."""
_DECISIONS = {"approve", "reject", "withdraw"}
LONGEST_DAYS = 31
"""Maximum duration of a shadow, in days."""


@dataclass(frozen=True)
class Event:
    """One event of a request.

    Attributes
    ----------
    sequence
        Number of the event. The events of all requests are numbered together, from 1 and without gaps.
    request_id
        Number of the request.
    state
        State of the request after the event.
    kind
        `request`, `approve`, `reject`, `withdraw`, `expire`, `supersede`, `promote`, `fail`, `roll_back`, or one of
        `SHADOW_STEPS`.
    actor, authenticated
        Name of the person, and whether a key verified it.
    reason
        The person's reason; None for events of the platform.
    override
        Whether a failed gate was overridden.
    delivery
        Idempotency key that the caller sent; None if it sent none.
    details
        Data for programs, for example the proof of identity or the promoted version.
    at
        Time of the event by the database's clock, with time zone.
    hash
        SHA-256 of the event, its request and the hash of the previous event.
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
        """The head of the chain after this event, as `sequence:hash`."""
        return f"{self.sequence}:{self.hash}"

    @property
    def who(self) -> str:
        """The person's name for display, without the prefix of unverified names."""
        return escaped(self.actor.removeprefix(UNVERIFIED))

    @property
    def is_unverified(self) -> bool:
        """Whether the event names a person whose identity was not verified by a key."""
        return not self.authenticated and self.actor != PLATFORM

    @property
    def seen_report(self) -> int | None:
        """Event number of the shadow report that the person saw before the decision; None if the person saw none."""
        found = self.details.get("shadow_report")
        return found if isinstance(found, int) and self.kind in _DECISIONS else None

    @property
    def how(self) -> str:
        """How the person signed in; empty if a key was used.

        For example, `signed in by OpenID Connect as anna@example.com`.
        """
        # Check `authenticated`, because events without a person, such as reports, may have a detail named `via`.
        via = HOW.get(str(self.details.get("via")), "") if self.authenticated else ""
        return f"signed in {via} as {escaped(str(self.details.get('identity')))}" if via else ""

    @property
    def told(self) -> str:
        """The event in one sentence, with person, time and reason."""
        proof = " (identity not verified)" if self.is_unverified else f" ({self.how})" if self.how else ""
        override = ", overriding a failed gate" if self.override else ""
        seen = f", having seen shadow report {self.seen_report}" if self.seen_report else ""
        why = f": {escaped(self.reason, lines=True)}" if self.reason else ""
        return f"{_PAST[self.kind]} by {self.who}{proof} at {self.at:%Y-%m-%d %H:%M:%S} UTC{override}{seen}{why}"


@dataclass(frozen=True)
class Promotion:
    """A version that the ledger made the champion.

    Attributes
    ----------
    request_id
        The approved request.
    model, version, digest, threshold
        The approved version.
    event
        The event that recorded the promotion.
    """

    request_id: int
    model: str
    version: int
    digest: str
    threshold: float | None
    event: Event


def closing_event(history: Sequence[Event]) -> Event | None:
    """Return the event that closed a request; None while it is pending."""
    return next((event for event in history[1:] if event.state is not State.PENDING), None)
