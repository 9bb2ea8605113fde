"""What the ledger refuses, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.base.errors import PlatformError

if TYPE_CHECKING:
    from platform_assets.approval.ledger_events import Event
    from platform_assets.approval.requests import Request


class LedgerError(PlatformError):
    """The ledger does not do what it was asked for, and nothing was recorded."""


class NoSuchRequest(LedgerError):  # noqa: N818 - says what it is
    """There is no request of this number."""


class DecisionRefused(LedgerError):  # noqa: N818 - says what it is
    """Somebody may not decide this, or not so; what would open it is told."""


class AlreadyDecided(LedgerError):  # noqa: N818 - says what it is
    """The request is closed.

    Attributes
    ----------
    request
        As it is now.
    event
        The decision that stands, or what else closed it.
    """

    def __init__(self, request: Request, event: Event) -> None:
        super().__init__(f"{request.called} is closed: {event.told}")
        self.request = request
        self.event = event
