"""An incident: a reported problem, whether it is open, and whether a person has silenced it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from platform_assets.monitoring.incidents.kinds import kind_of, subject_of

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

    def link_from(self, console: str) -> str:
        """Return the link. A path is appended to `console`, the base URL of Dagster's UI (empty if unknown)."""
        return console + self.link if self.link.startswith("/") else self.link

    def is_silenced(self, now: datetime) -> bool:
        """Return whether the incident is silenced at the time `now`."""
        return self.silenced_until is not None and now < self.silenced_until

    @property
    def silence(self) -> str:
        """Until when, by whom and why the incident is silenced; empty if it is not silenced now."""
        if self.silenced_until is None or not self.is_silenced(datetime.now(UTC)):
            return ""
        until = f"{self.silenced_until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        return f"silenced until {until} by {self.silenced_by}: {self.silence_reason}"
