"""What happens to approval requests: events, and the promotions that they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.approval.requests import PLATFORM, State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

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


def closing_event(history: Sequence[Event]) -> Event | None:
    """Return the decision that stands, or what else closed a request; None while it is pending."""
    return next((event for event in history[1:] if event.state is not State.PENDING), None)
