"""The fields and scopes of a key, and the protocol of a store of keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

APPROVE = "approve"
IDENTIFY = "identify"
"""Scope of the service's own key. It allows the service to state who signed in."""
SCOPES = ("read", "predict", "label", "trace", APPROVE, IDENTIFY)
"""All scopes that a key can have."""
ID_LENGTH = 16
"""Number of characters of `Key.id`."""
HOW = {"oidc": "by OpenID Connect", "proxy": "through the proxy"}
"""Text to display for each value of `Key.via`."""


@dataclass(frozen=True)
class Key:
    """A key without its secret.

    Attributes
    ----------
    name
        Name of the key.
    owner
        The person or program that holds it.
    scopes
        Scopes of the key, from `SCOPES`.
    id
        First characters of the hash of the key; it distinguishes keys with the same name.
    created_at, revoked_at
        Times with time zone. `created_at` is None if unknown. `revoked_at` is None if the key is not revoked.
    is_person
        Whether this is a person who signs in without a key. `name` is then the person's name at the provider or proxy.
    via
        `oidc` or `proxy` if such a person has signed in; empty otherwise. If it is set, `scopes` are the session's
        scopes.
    """

    name: str
    owner: str
    scopes: frozenset[str]
    id: str
    created_at: datetime | None = None
    revoked_at: datetime | None = None
    is_person: bool = False
    via: str = ""

    @property
    def how(self) -> str:
        """How the caller signed in, for display."""
        return HOW.get(self.via, f"with the key {self.name}")


class KeyRing(Protocol):
    """A store of keys."""

    def add(self, name: str, owner: str, scopes: Collection[str], approver_secret: str = "") -> str:
        """Create a key and return its secret, which is not stored.

        Raises
        ------
        KeysError
            The name is taken, or this store cannot create keys.
        """
        ...

    def revoke(self, name: str) -> None:
        """Revoke all keys with a name.

        Raises
        ------
        KeysError
            There is no such key, or this store cannot revoke keys.
        """
        ...

    def check(self, secret: str) -> Key | None:
        """Return the key with this secret; None if it is unknown or revoked."""
        ...

    async def find(self, secret: str) -> Key | None:
        """Return the key with this secret without blocking the event loop; None if it is unknown or revoked."""
        ...

    def sign_in(self, secret: str, seconds: int) -> str | None:
        """Start a session for the owner of a key; return its token, or None if the key is unknown or revoked."""
        ...

    def by_session(self, token: str) -> Key | None:
        """Return the key of a session; None if the session has ended or the key is revoked."""
        ...

    def sign_out(self, token: str) -> None:
        """End a session."""
        ...

    def list(self) -> list[Key]:
        """Return all keys, including revoked keys, sorted by name."""
        ...
