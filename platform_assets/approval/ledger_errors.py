"""Errors of the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.base.errors import PlatformError

if TYPE_CHECKING:
    from platform_assets.approval.ledger_events import Event
    from platform_assets.approval.requests import Request


class LedgerError(PlatformError):
    """Reading or writing the ledger failed; nothing was recorded."""


class NoSuchRequest(LedgerError):  # noqa: N818 - says what it is
    """No request has this number."""


class DecisionRefused(LedgerError):  # noqa: N818 - says what it is
    """The policy does not allow this decision; the message names the fix."""


class AlreadyDecided(LedgerError):  # noqa: N818 - says what it is
    """The request is closed.

    Attributes
    ----------
    request
        The request in its current state.
    event
        The event that closed it.
    """

    def __init__(self, request: Request, event: Event) -> None:
        super().__init__(f"{request.called} is closed: {event.told}")
        self.request = request
        self.event = event
