"""Rows that shadows scored, counts of rows that were not scored, and the interface of their store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from platform_assets.approval.shadows import Shadow


@dataclass(frozen=True, slots=True)
class ShadowRow:
    """A row that a shadow scored.

    Attributes
    ----------
    at, request_id
        Time and HTTP request of the champion's prediction.
    item
        Index of the row in the request, from 0.
    subject
        Id of what the prediction is about, such as a client; None if it has no id.
    score, champion_score
        Score, or predicted value, of the shadow and of the champion.
    agrees
        Whether both versions agree; see `Output.agrees`.
    """

    shadow: Shadow
    at: datetime
    request_id: str
    item: int
    subject: str | int | None
    score: float
    champion_score: float
    agrees: bool


@dataclass
class Losses:
    """Rows of a shadow that were not scored.

    Attributes
    ----------
    dropped
        Number of rows that arrived when the queue was full or no version was loaded.
    failed
        Number of rows that could not be scored.
    reason
        The last failure; None if there was no failure.
    """

    dropped: int = 0
    failed: int = 0
    reason: str | None = None


class ShadowStore(Protocol):
    """Source of the running shadows, and destination of their scores. Not thread-safe: only one thread may use it."""

    def running(self) -> Sequence[Shadow]:
        """Return the running shadows, at most one for each model."""
        ...

    def write(self, batch: uuid.UUID, rows: Sequence[ShadowRow], losses: Mapping[Shadow, Losses]) -> None:
        """Write scored rows, and counts of rows that were not scored (`losses`), in one transaction.

        After an error, the caller passes the same batch again.
        """
        ...

    def report(self) -> None:
        """Record the reports that are due."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...
