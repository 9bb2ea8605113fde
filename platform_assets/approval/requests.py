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
"""Actor of events without a person, such as an expiry."""
UNVERIFIED = "unverified: "
"""Prefix that the database adds to names not verified by a key. No key owner can have a name with this prefix."""


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
    """A person or program that makes a request or a decision.

    Attributes
    ----------
    name
        The claimed name. It is used only if `secret` is empty.
    secret
        An API key or a session token, from which the database finds the owner; empty if there is neither.
    """

    name: str
    secret: str = field(default="", repr=False)


@dataclass(frozen=True)
class Proposal:
    """A version proposed for promotion, with its evidence.

    Attributes
    ----------
    model, version, digest, threshold
        The registered version, the digest of its artifact, and the minimum score for a positive decision.
    launched_by
        Name of the person or program that launched the training; None if unknown.
    requested_by
        The person who makes the request; None if a training run makes it.
    policy
        The approval policy that the model declares. It must equal the policy in the database.
    evidence
        `evidence.Evidence` as JSON. `verdict.passed` is true if the version passed the gate.
    plots
        Each plot as PNG, by file name.
    champion
        Version and digest of the champion that the version was compared with; None if there was no champion.
    """

    model: str
    version: int
    digest: str
    threshold: float | None
    launched_by: str | None
    requested_by: Actor | None
    policy: ApprovalPolicy
    evidence: Mapping[str, Any]
    plots: Mapping[str, bytes] = field(default_factory=dict)
    champion: tuple[int, str] | None = None


@dataclass(frozen=True)
class Request:
    """A request, whose content never changes, and its current state.

    Attributes
    ----------
    id
        Number of the request.
    model, version, digest, threshold, launched_by, policy, evidence
        As in `Proposal`.
    requested_by
        Name of the person who made the request, with the prefix `UNVERIFIED` if no key verified it; None if
        a training run made it.
    created_at, expires_at
        With time zone. The request is expired from `expires_at` on.
    plot_digests
        SHA-256 of each plot, by file name.
    champion_version, champion_digest
        The champion when the request was made; None if there was no champion.
    state
        Current state. An overdue request stays `PENDING` until its expiry is recorded.
    """

    id: int
    model: str
    version: int
    digest: str
    threshold: float | None
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
        """Version and digest of the champion when the request was made; None if there was no champion."""
        if self.champion_version is None or self.champion_digest is None:
            return None
        return self.champion_version, self.champion_digest

    @property
    def called(self) -> str:
        """Number, model and version of the request, as the subject of a message."""
        return f"request {self.id} ({self.model} version {self.version})"

    @property
    def passed(self) -> bool:
        """Whether the version passed the gate; False without a verdict."""
        return (self.evidence.get("verdict") or {}).get("passed") is True

    def is_expired(self, moment: datetime) -> bool:
        """Return whether the request is expired at a given time."""
        return moment >= self.expires_at


class OpensRequests(Protocol):
    """The methods of the ledger that `request_approval` needs."""

    def champion(self, model: str) -> HasDigest | None:
        """Return the champion of a model; None if it has none."""

    def requests(self, model: str) -> Sequence[Request]:
        """Return the requests of a model, newest first."""

    def open_request(self, proposal: Proposal) -> Request:
        """Open a request."""


class HasDigest(Protocol):
    """A version of a model."""

    @property
    def digest(self) -> str:
        """SHA-256 of the version's artifact."""


def request_approval(ledger: OpensRequests, proposal: Proposal) -> Request | None:
    """Open a request for a version, unless there is nothing to decide.

    Training opens a request only for a version that never had one, so that a nightly run does not request
    approval of a rejected version again. A person can always request approval again.

    Parameters
    ----------
    ledger
        The ledger that records the request.
    proposal
        The version with its evidence; `requested_by` is None if a training run makes the request.

    Returns
    -------
    The new request, or the one that is already open. None if the version is the champion, or if a training run
    proposes a version whose earlier requests are all closed.
    """
    champion = ledger.champion(proposal.model)
    if champion and champion.digest == proposal.digest:
        return None
    if proposal.requested_by is None:
        earlier = [one for one in ledger.requests(proposal.model) if one.digest == proposal.digest]
        if earlier:
            return next((one for one in earlier if one.state in OPEN), None)
    return ledger.open_request(proposal)
