"""Approval requests: what somebody asks for, who asks or decides, and where a request stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from platform_assets.approval.policy import ApprovalPolicy

PLATFORM = "platform"
"""Who does what no person did: a request expires, or a newer one takes its place."""


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


class OpensRequests(Protocol):
    """The part of the ledger that requests are opened with."""

    def champion(self, model: str) -> HasDigest | None:
        """Return the champion of a model, if there is one."""

    def requests(self, model: str) -> Sequence[Request]:
        """Return the requests of a model, the newest first."""

    def open_request(self, proposal: Proposal) -> Request:
        """Open a request."""


class HasDigest(Protocol):
    """A version of a model."""

    @property
    def digest(self) -> str:
        """SHA-256 of its file."""


def request_approval(ledger: OpensRequests, proposal: Proposal) -> Request | None:
    """Ask for a decision about what came of a training.

    A training that found its version known asks only if nobody ever did, so that what was rejected is not
    asked for again every night. A person who asks for it again does so whatever became of earlier requests.

    Parameters
    ----------
    ledger
        Where to ask.
    proposal
        The version, with its evidence; `requested_by` is None where the training itself asks.

    Returns
    -------
    The request, also one that was open before; None where there is nothing to decide: the version is the champion, or
    was decided about.
    """
    champion = ledger.champion(proposal.model)
    if champion and champion.digest == proposal.digest:
        return None
    if proposal.requested_by is None:
        earlier = [one for one in ledger.requests(proposal.model) if one.digest == proposal.digest]
        if earlier:
            return next((one for one in earlier if one.state in OPEN), None)
    return ledger.open_request(proposal)
