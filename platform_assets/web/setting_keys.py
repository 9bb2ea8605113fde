"""API keys of a service without a database, from PLATFORM_API_KEYS."""

from __future__ import annotations

import re
import secrets
from time import monotonic
from typing import TYPE_CHECKING

from platform_assets.web.api_keys import SECRET_BYTES, SESSION_PREFIX, chosen_scopes, hashed, key_with_hash, refuse_name
from platform_assets.web.key_errors import KeysError
from platform_assets.web.key_ring import ID_LENGTH, Key

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from platform_assets.settings import Settings
    from platform_assets.web.key_ring import KeyRing

_HASH = re.compile(r"[0-9a-f]{64}")


def open_keys(settings: Settings, keys: Callable[[], KeyRing]) -> KeyRing:
    """Return the keys of a service: from PLATFORM_API_KEYS if it has no database, otherwise from the database.

    Parameters
    ----------
    settings
        The platform's settings.
    keys
        Function that opens the keys in the database.
    """
    given = settings.api_keys.get_secret_value()
    return KeysFromSettings(given) if given or settings.bundle else keys()


class KeysFromSettings:
    """The keys of a service without a database, from PLATFORM_API_KEYS. Sessions are kept in memory.

    Parameters
    ----------
    text
        Keys as `name:scope:sha256`, separated by commas. Join several scopes with +, as in `read+predict`. The owner
        of a key is its name.

    Raises
    ------
    KeysError
        An entry is malformed; the message names the entry without its hash.
    """

    def __init__(self, text: str) -> None:
        self._keys: dict[str, Key] = {}
        self._sessions: dict[str, tuple[Key, float]] = {}
        for number, entry in enumerate(filter(None, map(str.strip, text.split(","))), 1):
            name, _, rest = entry.partition(":")
            scopes, _, kept = rest.partition(":")
            thing = f"PLATFORM_API_KEYS, entry {number}"
            if not _HASH.fullmatch(kept):
                raise KeysError(
                    f"{thing}: it must be name:scope:sha256, where sha256 is 64 hexadecimal digits in lower case"
                )
            refuse_name(name, thing)
            if kept in self._keys or any(key.name == name for key in self._keys.values()):
                raise KeysError(f"{thing}: another entry has the same name or the same key")
            self._keys[kept] = Key(name, name, chosen_scopes(thing, scopes.split("+")), kept[:ID_LENGTH])

    def add(self, name: str, owner: str, scopes: Collection[str], approver_secret: str = "") -> str:  # noqa: ARG002 - as `KeyRing`
        """Refuse to create a key, because the platform does not change its settings.

        Raises
        ------
        KeysError
            Always.
        """
        raise KeysError(f"the key {name} cannot be added: keys come from PLATFORM_API_KEYS; add it there")

    def revoke(self, name: str) -> None:
        """Refuse to revoke a key, because the platform does not change its settings.

        Raises
        ------
        KeysError
            Always.
        """
        raise KeysError(f"the key {name} cannot be revoked: keys come from PLATFORM_API_KEYS; remove it there")

    def check(self, secret: str) -> Key | None:
        """Return the key with this secret; None if it is unknown."""
        return key_with_hash(self._keys, hashed(secret))

    async def find(self, secret: str) -> Key | None:
        """Return the key with this secret; None if it is unknown."""
        return self.check(secret)

    def sign_in(self, secret: str, seconds: int) -> str | None:
        """Start a session for the owner of a key; return its token, or None if the key is unknown."""
        key, now = self.check(secret), monotonic()
        if key is None:
            return None
        self._sessions = {known: one for known, one in self._sessions.items() if now < one[1]}
        token = SESSION_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        self._sessions[hashed(token)] = key, now + seconds
        return token

    def by_session(self, token: str) -> Key | None:
        """Return the key of a session; None if the session has ended."""
        key, end = self._sessions.get(hashed(token), (None, 0.0))
        return key if monotonic() < end else None

    def sign_out(self, token: str) -> None:
        """End a session."""
        self._sessions.pop(hashed(token), None)

    def list(self) -> list[Key]:
        """Return all keys, sorted by name."""
        return sorted(self._keys.values(), key=lambda key: key.name)
