"""An incident: a reported problem, whether it is open, and whether a person has silenced it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from platform_assets.monitoring.incidents.kinds import kind_of, subject_of

if TYPE_CHECKING:
    from datetime import datetime

Severity = Literal["warning", "error"]


@dataclass(frozen=True)
class Incident:
    """A reported problem; the attributes are the columns of `platform.incidents`."""

    id: int
    cause: str
    title: str
    severity: Severity
    owners: list[str]
    link: str
    occurrence: str
    opening: int
    seen: int
    opened_at: datetime
    seen_at: datetime
    escalated_at: datetime | None
    closed_at: datetime | None
    closed_by: str
    recovered_at: datetime | None
    silenced_until: datetime | None
    silenced_by: str
    silence_reason: str

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        return kind_of(self.cause)

    @property
    def subject(self) -> str:
        """The affected object."""
        return subject_of(self.cause)

    def is_silenced(self, now: datetime) -> bool:
        """Return whether the incident is silenced at this time."""
        return self.silenced_until is not None and now < self.silenced_until
