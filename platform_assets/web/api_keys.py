"""Keys with which people and programs say who they are to the service, the page and the command line.

A key's secret is shown once, when it is made; kept is its SHA-256, which is enough since the secret is random and
long. A key is never changed: it is revoked, and stays in the list; another one may then have its name.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from platform_assets.base.errors import PlatformError, first_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    import psycopg

    from platform_assets.settings import Settings

APPROVE = "approve"
SCOPES = ("read", "predict", APPROVE)
"""What a key may be for."""
FRESH_SECONDS = 1.0
"""How long a program may go on with a key that was revoked; until then its requests are a look-up cheaper."""
_PREFIX = "pa_"
_SECRET_BYTES = 32
_ID_LENGTH = 16
_LOCK = int.from_bytes(b"keys", "big")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
_FIELDS = "k.name, k.owner, k.scopes, k.hash, k.created_at, r.at"
_KEYS = f"select {_FIELDS} from platform.api_keys k left join platform.api_key_revocations r on r.hash = k.hash"  # noqa: S608 - constants
_BY_HASH = f"{_KEYS} where k.hash = %s and r.at is null".encode()


class KeysError(PlatformError):
    """A key cannot be made, found or revoked."""


@dataclass(frozen=True)
class Key:
    """What is kept of a key; its secret is not.

    Attributes
    ----------
    name
        The key's own, for those who look after keys.
    owner
        The person or program that holds it.
    scopes
        Some of `SCOPES`.
    id
        Names it where its name alone would not do: another key of the same name has another.
    created_at, revoked_at
        With time zone; None where it is not known, or not revoked.
    """

    name: str
    owner: str
    scopes: frozenset[str]
    id: str
    created_at: datetime | None = None
    revoked_at: datetime | None = None


class KeyRing(Protocol):
    """What keeps keys, and tells them from other text."""

    def add(self, name: str, owner: str, scopes: Collection[str]) -> str:
        """Make a key; its secret, which nobody can see again.

        Raises
        ------
        KeysError
            A key has this name, or the platform cannot make one here.
        """
        ...

    def revoke(self, name: str) -> None:
        """See that a key opens nothing any more.

        Raises
        ------
        KeysError
            There is no such key, or the platform cannot revoke one here.
        """
        ...

    def check(self, secret: str) -> Key | None:
        """The key with this secret; None if it is none, or was revoked."""
        ...

    async def find(self, secret: str) -> Key | None:
        """The same as `check`, for whoever answers on an event loop."""
        ...

    def by_id(self, key_id: str) -> Key | None:
        """The key with this `Key.id`; None if there is none, or it was revoked."""
        ...

    def list(self) -> list[Key]:
        """All keys, by name, revoked ones among them."""
        ...


class Keys:
    """The keys in the platform's database.

    Parameters
    ----------
    connect
        Lends a connection to it.
    rows
        The rows of one statement that only reads, with its values.
    async_rows
        The same for an event loop, by the names of their columns; each request asks for a key.
    fresh_seconds
        How long a key that was found on an event loop is not looked up again.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[psycopg.Connection[Any]]],
        rows: Callable[[bytes, Sequence[Any]], list[Any]],
        async_rows: Callable[[bytes, Sequence[str]], Awaitable[list[dict[str, Any]]]],
        fresh_seconds: float = FRESH_SECONDS,
    ) -> None:
        self._connect = connect
        self._rows = rows
        self._async_rows = async_rows
        self._fresh_seconds = fresh_seconds
        self._fresh: dict[str, tuple[Key, float]] = {}

    def add(self, name: str, owner: str, scopes: Collection[str]) -> str:
        """Make a key; its secret, which nobody can see again.

        Raises
        ------
        KeysError
            The name is taken, or not one; there is no owner; or a scope is none.
        """
        _refuse_name(name)
        if not owner.strip() or "\0" in owner:
            raise KeysError(f"the key {name} needs an owner, the person or program that holds it")
        wanted = _scopes(name, scopes)
        secret = _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        with self._connected() as connection:
            connection.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
            if connection.execute(f"{_KEYS} where k.name = %s and r.at is null".encode(), [name]).fetchone():
                raise KeysError(f"there is a key {name}; choose another name, or revoke that one before")
            connection.execute(
                "insert into platform.api_keys (name, owner, scopes, hash) values (%s, %s, %s, %s)",
                [name, owner.strip(), sorted(wanted), hashed(secret)],
            )
        return secret

    def revoke(self, name: str) -> None:
        """See that a key opens nothing any more; a key that was revoked stays as it is.

        Raises
        ------
        KeysError
            There is no such key.
        """
        with self._connected() as connection:
            known = connection.execute(
                "with revoked as (insert into platform.api_key_revocations (hash)"
                " select hash from platform.api_keys where name = %(name)s on conflict do nothing)"
                " select name from platform.api_keys where name = %(name)s",
                {"name": name.replace("\0", "")},
            ).fetchone()
        self._fresh.clear()
        if known is None:
            raise KeysError(f"there is no key {name!r}; `platform-assets keys list` shows those that there are")

    def check(self, secret: str) -> Key | None:
        """The key with this secret; None if it is none, or was revoked."""
        wanted = hashed(secret)
        return _with_hash(self._find("k.hash = %s", wanted), wanted)

    async def find(self, secret: str) -> Key | None:
        """The same as `check`, for whoever answers on an event loop.

        A key that was found is believed for `fresh_seconds`, but for one that may decide about models.
        """
        wanted, now = hashed(secret), monotonic()
        known = self._fresh.get(wanted)
        if known is not None and now < known[1]:
            return known[0]
        with _plain_errors():
            rows = await self._async_rows(_BY_HASH, [wanted])
        key = _with_hash(_by_hash(tuple(row.values()) for row in rows), wanted)
        if key is None or APPROVE in key.scopes:
            self._fresh.pop(wanted, None)
        else:
            # Of keys that are there, so that these cannot become many.
            self._fresh[wanted] = key, now + self._fresh_seconds
        return key

    def by_id(self, key_id: str) -> Key | None:
        """The key with this `Key.id`; None if there is none, or it was revoked."""
        if not _HASH.fullmatch(key_id.ljust(64, "0")) or len(key_id) != _ID_LENGTH:
            return None
        return next(iter(self._find(f"left(k.hash, {_ID_LENGTH}) = %s", key_id).values()), None)

    def list(self) -> list[Key]:
        """All keys, by name, revoked ones among them."""
        with self._connected() as connection:
            return [_key(row) for row in connection.execute(f"{_KEYS} order by k.name, k.created_at".encode())]

    def _find(self, where: str, value: str) -> dict[str, Key]:
        with _plain_errors():
            rows = self._rows(f"{_KEYS} where {where} and r.at is null".encode(), [value])
        return _by_hash(rows)

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        with _plain_errors(), self._connect() as connection, connection.transaction():
            yield connection


def open_keys(settings: Settings, keys: Callable[[], KeyRing]) -> KeyRing:
    """Open the keys of a service: the setting's where it has no database, else those of the database.

    Parameters
    ----------
    settings
        The platform's.
    keys
        Returns those of the database.
    """
    given = settings.api_keys.get_secret_value()
    return KeysFromSettings(given) if given or settings.bundle else keys()


class KeysFromSettings:
    """The keys of a service that has no database, out of one setting.

    Parameters
    ----------
    text
        `name:scope:sha256`, comma-separated; several scopes as `read+predict`. The name is the owner's as well.

    Raises
    ------
    KeysError
        An entry is not of this form; says which, without its hash.
    """

    def __init__(self, text: str) -> None:
        self._keys: dict[str, Key] = {}
        for number, entry in enumerate(filter(None, map(str.strip, text.split(","))), 1):
            name, _, rest = entry.partition(":")
            scopes, _, kept = rest.partition(":")
            thing = f"PLATFORM_API_KEYS, entry {number}"
            if not _HASH.fullmatch(kept):
                raise KeysError(
                    f"{thing}: it must be name:scope:sha256, the last as 64 hexadecimal digits in lower case"
                )
            _refuse_name(name, thing)
            if kept in self._keys or any(key.name == name for key in self._keys.values()):
                raise KeysError(f"{thing}: another entry has the same name or the same key")
            self._keys[kept] = Key(name, name, _scopes(thing, scopes.split("+")), kept[:_ID_LENGTH])

    def add(self, name: str, owner: str, scopes: Collection[str]) -> str:  # noqa: ARG002 - as `KeyRing`
        """Refuse.

        Raises
        ------
        KeysError
            Always: the setting is not the platform's to change.
        """
        raise KeysError(f"the key {name} cannot be added: the keys are those of PLATFORM_API_KEYS; add it there")

    def revoke(self, name: str) -> None:
        """Refuse.

        Raises
        ------
        KeysError
            Always: the setting is not the platform's to change.
        """
        raise KeysError(f"the key {name} cannot be revoked: the keys are those of PLATFORM_API_KEYS; take it out there")

    def check(self, secret: str) -> Key | None:
        """The key with this secret; None if it is none."""
        return _with_hash(self._keys, hashed(secret))

    async def find(self, secret: str) -> Key | None:
        """The same as `check`, for whoever answers on an event loop."""
        return self.check(secret)

    def by_id(self, key_id: str) -> Key | None:
        """The key with this `Key.id`; None if there is none."""
        return next((key for key in self._keys.values() if key.id == key_id), None)

    def list(self) -> list[Key]:
        """All keys, by name."""
        return sorted(self._keys.values(), key=lambda key: key.name)


def hashed(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _refuse_name(name: str, thing: str = "the key") -> None:
    if not _NAME.fullmatch(name):
        raise KeysError(
            f"{thing}: {name!r} is no name: up to 64 letters, digits and _ . @ - that begin with one of both"
        )


def _scopes(thing: str, scopes: Collection[str]) -> frozenset[str]:
    wanted = frozenset(scopes)
    if not wanted or not wanted <= set(SCOPES):
        raise KeysError(f"{thing}: its scopes are {sorted(wanted)}; there must be some of {', '.join(SCOPES)}")
    return wanted


def _by_hash(rows: Iterable[tuple[Any, ...]]) -> dict[str, Key]:
    return {row[3]: _key(row) for row in rows}


def _with_hash(found: Mapping[str, Key], wanted: str) -> Key | None:
    return next((key for kept, key in found.items() if hmac.compare_digest(kept, wanted)), None)


def _key(row: tuple[Any, ...]) -> Key:
    name, owner, scopes, kept, created_at, revoked_at = row
    return Key(name, owner, frozenset(scopes), kept[:_ID_LENGTH], created_at, revoked_at)


@contextmanager
def _plain_errors() -> Iterator[None]:
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise KeysError(
            f"PostgreSQL did not do what was asked of the keys ({first_line(error)}); `platform-assets doctor` "
            "says what is reachable"
        ) from error
