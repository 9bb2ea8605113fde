"""A model's approval policy: who may decide about its versions, and what an approval needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ANYONE = "anyone"
"""Value of `approvers` that admits everyone with the scope `approve`."""


@dataclass(frozen=True)
class ApprovalPolicy:
    """Rules for approving the versions of a model.

    Attributes
    ----------
    approvers
        Names of the people who may decide, or `anyone` for everyone with the scope `approve`.
    four_eyes
        Whether the person who launched the training, or made the request, is barred from approving it. If the
        launcher is unknown, no person can approve.
    lifetime
        Time until a request expires. An approved version must also be promoted within this time.
    approvals
        Number of different people who have to approve. One rejection closes the request.
    may_override
        Names of the people who may approve a version that failed the quality gate.
    """

    approvers: str | tuple[str, ...] = ANYONE
    four_eyes: bool = False
    lifetime: timedelta = timedelta(days=7)
    approvals: int = 1
    may_override: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.approvers, str) and self.approvers != ANYONE:
            raise ValueError(f"{self.approvers!r}: approvers must be a tuple of names or {ANYONE!r}")
        if self.approvals < 1 or self.lifetime < timedelta(0):
            raise ValueError("a policy needs at least one approval, and its lifetime must not be negative")
        if self.approvers != ANYONE and len(set(self.approvers)) < self.approvals:
            raise ValueError(f"{self.approvals} approvals cannot come from {len(set(self.approvers))} approvers")


def policy_as_json(policy: ApprovalPolicy) -> dict[str, Any]:
    """Return the policy as JSON, as the database stores it and copies it to each request."""
    return {
        "approvers": policy.approvers if policy.approvers == ANYONE else list(policy.approvers),
        "four_eyes": policy.four_eyes,
        "lifetime_seconds": policy.lifetime.total_seconds(),
        "approvals": policy.approvals,
        "may_override": list(policy.may_override),
    }


def policy_from_json(frozen: Mapping[str, Any]) -> ApprovalPolicy:
    """Return the policy that a request contains."""
    approvers = frozen["approvers"]
    return ApprovalPolicy(
        approvers=approvers if approvers == ANYONE else tuple(approvers),
        four_eyes=frozen["four_eyes"],
        lifetime=timedelta(seconds=frozen["lifetime_seconds"]),
        approvals=frozen["approvals"],
        may_override=tuple(frozen["may_override"]),
    )
