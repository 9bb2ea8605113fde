"""Approval requests: a version proposed for promotion, its state, and the people involved."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from platform_assets.approval.policy import ApprovalPolicy

PLATFORM = "platform"
"""Actor of events that no person caused, such as an expiry."""
UNVERIFIED = "unverified: "
"""Prefix that the database gives to names that no key proved. No owner of a key may have it."""


class State(StrEnum):
    """State of a request; the first two are open."""

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
"""States that await a decision or a promotion."""


@dataclass(frozen=True)
class Actor:
    """A person or program that acts.

    Attributes
    ----------
    name
        The claimed name. It counts only where there is no secret.
    secret
        A key, or the token of a session; the database finds its owner. Empty without one.
    """

    name: str
    secret: str = field(default="", repr=False)


@dataclass(frozen=True)
class Proposal:
    """A version proposed for promotion, with its evidence.

    Attributes
    ----------
    model, version, digest, threshold
        The registered version, the digest of its artifact, and the score from which a row counts as positive.
    launched_by
        Who launched the training; None if unknown.
    requested_by
        The person who makes the request; None for a training.
    policy
        The declared approval policy. The request gets the one in the database, which must be equal.
    evidence
        JSON; `verdict.passed` says whether it passed the gate (`evidence.Evidence`).
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
    requested_by: Actor | None
    policy: ApprovalPolicy
    evidence: Mapping[str, Any]
    plots: Mapping[str, bytes] = field(default_factory=dict)
    champion: tuple[int, str] | None = None


@dataclass(frozen=True)
class Request:
    """A frozen request, and its current state.

    Attributes
    ----------
    id
        Number of the request.
    model, version, digest, threshold, launched_by, policy, evidence
        As in `Proposal`.
    requested_by
        Name of the person who made the request, prefixed with `UNVERIFIED` without a key; None for a training.
    created_at, expires_at
        With time zone; at `expires_at` it is expired.
    plot_digests
        File name to SHA-256.
    champion_version, champion_digest
        The champion at that time; None without one.
    state
        Current state. An overdue request stays `PENDING` until its expiry is recorded.
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
        """Version and digest of the champion at that time; None without one."""
        if self.champion_version is None or self.champion_digest is None:
            return None
        return self.champion_version, self.champion_digest

    @property
    def called(self) -> str:
        """The request in a sentence."""
        return f"request {self.id} ({self.model} version {self.version})"

    @property
    def passed(self) -> bool:
        """Whether the version passed the gate; False without a verdict."""
        return (self.evidence.get("verdict") or {}).get("passed") is True

    def is_expired(self, moment: datetime) -> bool:
        """Whether it is expired at a moment."""
        return moment >= self.expires_at


class OpensRequests(Protocol):
    """The methods of the ledger that `request_approval` needs."""

    def champion(self, model: str) -> HasDigest | None:
        """Return the champion of a model; None without one."""

    def requests(self, model: str) -> Sequence[Request]:
        """Return the requests of a model, newest first."""

    def open_request(self, proposal: Proposal) -> Request:
        """Open a request."""


class HasDigest(Protocol):
    """A version of a model."""

    @property
    def digest(self) -> str:
        """SHA-256 of its artifact."""


def request_approval(ledger: OpensRequests, proposal: Proposal) -> Request | None:
    """Open a request for a version, unless there is nothing to decide.

    A training opens one only for a version without any earlier request, so that a nightly training does not ask again
    for a rejected version. A person's request is opened whatever became of earlier ones.

    Parameters
    ----------
    ledger
        Where to open it.
    proposal
        The version with its evidence; `requested_by` is None for a training.

    Returns
    -------
    The new request, or the one that is open already; None if the version is the champion, or a training's version
    was decided before.
    """
    champion = ledger.champion(proposal.model)
    if champion and champion.digest == proposal.digest:
        return None
    if proposal.requested_by is None:
        earlier = [one for one in ledger.requests(proposal.model) if one.digest == proposal.digest]
        if earlier:
            return next((one for one in earlier if one.state in OPEN), None)
    return ledger.open_request(proposal)
