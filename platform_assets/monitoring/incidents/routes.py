"""Find the receivers of an incident's messages from the owners of the affected asset."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DEFAULT = "default"
ESCALATION = "escalation"


@dataclass(frozen=True)
class Destination:
    """A receiver of messages.

    Attributes
    ----------
    kind
        `webhook` or `mail`.
    address
        URL or email address. The URL of a webhook is a secret, because anyone who knows it can post messages.
    """

    kind: Literal["webhook", "mail"]
    address: str

    @property
    def name(self) -> str:
        """Name that contains no secret: the email address, or a part of the SHA-256 of the URL."""
        digest = hashlib.sha256(self.address.encode()).hexdigest()
        return f"webhook {digest[:12]}" if self.kind == "webhook" else f"mail {self.address}"


class Routes:
    """Destinations of messages, by owner of the affected asset.

    Parameters
    ----------
    routes
        Addresses (URLs and email addresses) by owner. The addresses of `default` are used if none of the owners has a
        route. Messages about escalated incidents are also sent to the addresses of `escalation`.
    mails
        Whether emails can be sent. If they can, an owner whose name is an email address needs no route.
    """

    def __init__(self, routes: Mapping[str, Sequence[str]], *, mails: bool = False) -> None:
        self._routes = {owner: [_destination(address) for address in one] for owner, one in routes.items()}
        self._mails = mails

    def of(self, owners: Iterable[str]) -> list[Destination]:
        """Return the destinations of the owners or, if the owners have none, of the default route."""
        found = [one for owner in owners for one in self._of_owner(owner)]
        return list(dict.fromkeys(found)) or self._routes.get(DEFAULT, [])

    def escalation(self) -> list[Destination]:
        """Return the additional destinations of escalated incidents."""
        return self._routes.get(ESCALATION, [])

    def named(self, name: str) -> Destination | None:
        """Return the destination with this name; None if the settings no longer contain it."""
        kind, _, address = name.partition(" ")
        if kind == "mail":
            return Destination("mail", address) if self._mails else None
        known = (one for route in self._routes.values() for one in route)
        return next((one for one in known if one.name == name), None)

    def _of_owner(self, owner: str) -> list[Destination]:
        if owner in self._routes or not self._mails or "@" not in owner:
            return self._routes.get(owner, [])
        return [_destination(owner)]


def _destination(address: str) -> Destination:
    return Destination("webhook" if "://" in address else "mail", address)
