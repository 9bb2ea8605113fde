"""API keys of people and programs, for the service, the approval page and the command line.

A key's secret is shown once, when it is created. Only its SHA-256 is stored; a plain hash is enough because the secret
has 256 random bits. A key is never changed. A revoked key stays in the list, and its name can be used again.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import first_line
from platform_assets.base.printable_text import unprintable
from platform_assets.web.key_errors import PERSON_REFUSALS, REFUSALS, KeysError, PersonRefused
from platform_assets.web.key_ring import APPROVE, ID_LENGTH, SCOPES, Key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    import psycopg

    Lend = Callable[[], AbstractContextManager[psycopg.Connection[Any]]]

FRESH_SECONDS = 1.0
"""Seconds for which a key is cached. If another process revokes a key, the key may still work for this long."""
SESSION_PREFIX = "ps_"
"""Prefix of session tokens."""
_PREFIX = "pa_"
SECRET_BYTES = 32
"""Random bytes of a secret or token."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_FIELDS = "k.name, k.owner, k.scopes, k.hash, k.created_at, r.at, coalesce(k.is_person, false), ''"
_KEYS = f"select {_FIELDS} from platform.api_keys k left join platform.api_key_revocations r on r.hash = k.hash"  # noqa: S608 - constants
_BY_HASH = f"{_KEYS} where k.hash = %s and r.at is null".encode()
# Limit the scopes of the key to those of the session.
_BY_SESSION = b"""
select k.name, k.owner, array(select unnest(k.scopes) intersect select unnest(coalesce(s.scopes, k.scopes))),
    k.hash, k.created_at, r.at, coalesce(k.is_person, false), coalesce(s.via, '')
from platform.api_keys k left join platform.api_key_revocations r on r.hash = k.hash
join platform.sessions s on s.key_hash = k.hash
where s.hash = %s and s.expires_at > clock_timestamp() and r.at is null
"""


class Keys:
    """Keys in the platform's database. Database functions create and revoke them.

    Parameters
    ----------
    connect
        Context manager that yields a connection as the service role.
    rows
        Runs a SELECT and returns its rows.
    async_rows
        Runs a SELECT without blocking the event loop, and returns its rows as dicts.
    fresh_seconds
        Seconds for which `find` caches a key without the scope `approve`.
    owner
        Context manager that yields a connection as the owner role, which may create keys with the scope `approve`; None
        if the settings name no owner role.
    keep_heads
        Function that is called after each change, to copy the heads of the hash chains to a place outside the database;
        None for no copy.
    """

    def __init__(
        self,
        connect: Lend,
        rows: Callable[[bytes, Sequence[Any]], list[Any]],
        async_rows: Callable[[bytes, Sequence[str]], Awaitable[list[dict[str, Any]]]],
        fresh_seconds: float = FRESH_SECONDS,
        *,
        owner: Lend | None = None,
        keep_heads: Callable[[], None] | None = None,
    ) -> None:
        self._connect = connect
        self._rows = rows
        self._async_rows = async_rows
        self._fresh_seconds = fresh_seconds
        self._owner = owner
        self._keep_heads = keep_heads or (lambda: None)
        self._fresh: dict[str, tuple[Key, float]] = {}

    def add(self, name: str, owner: str, scopes: Collection[str], approver_secret: str = "") -> str:
        """Create a key and return its secret, which is not stored.

        Parameters
        ----------
        name, owner, scopes
            Name, owner and scopes of the new key.
        approver_secret
            Key of an approver. Required for a new key with the scope `approve`, unless this process connects as the
        owner role.

        Raises
        ------
        KeysError
            The name is taken or malformed, the owner is missing or reserved, a scope is unknown, or the scope `approve`
            is requested without the owner role and without an approver.
        """
        refuse_name(name)
        secret = _PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        self._create(name, owner, scopes, hashed(secret), approver_secret)
        return secret

    def enrol(self, identity: str, owner: str, scopes: Collection[str], approver_secret: str = "") -> None:
        """Record a person who signs in without a key, or replace the record of this person.

        Parameters
        ----------
        identity
            Name of the person at the OpenID Connect provider or the proxy.
        owner
            Name of the person in policies and in the ledger.
        scopes, approver_secret
            As for `add`.

        Raises
        ------
        KeysError
            As for `add`.
        """
        if odd := unprintable(identity):
            raise KeysError(f"the name contains control or invisible characters ({', '.join(odd)}); remove them")
        # Use a random hash, so that no secret matches it.
        self._create(identity.strip(), owner, scopes, secrets.token_hex(SECRET_BYTES), approver_secret, is_person=True)

    def _create(
        self,
        name: str,
        owner: str,
        scopes: Collection[str],
        key_hash: str,
        approver_secret: str,
        *,
        is_person: bool = False,
    ) -> None:
        owner = owner.strip()
        if odd := unprintable(owner):
            raise KeysError(
                f"the key {name}: its owner contains control or invisible characters ({', '.join(odd)}); remove them"
            )
        if not owner:
            raise KeysError(f"the key {name} needs an owner, the person or program that uses it")
        wanted = sorted(chosen_scopes(name, scopes))
        if unprintable(approver_secret):
            raise KeysError(REFUSALS["unknown_key"])
        arguments = [name, owner, wanted, key_hash, approver_secret or None, is_person]
        with self._connected(self._owner or self._connect) as connection:
            row = connection.execute("select platform.add_key(%s, %s, %s::text[], %s, %s, %s)", arguments).fetchone()
        assert row is not None  # noqa: S101 - narrows the type
        if "why" in row[0]:
            raise KeysError(REFUSALS[row[0]["why"]].format(name=name, owner=owner))
        self._keep_heads()

    def revoke(self, name: str) -> None:
        """Revoke all keys with a name, and end their sessions.

        Raises
        ------
        KeysError
            There is no such key.
        """
        with self._connected(self._connect) as connection:
            known = connection.execute("select platform.revoke_key(%s)", [name.replace("\0", "")]).fetchone()
        self._fresh.clear()
        if known == (False,):
            raise KeysError(f"there is no key {name!r}; `platform-assets keys list` shows the existing keys")
        self._keep_heads()

    def check(self, secret: str) -> Key | None:
        """Return the key with this secret; None if it is unknown or revoked."""
        wanted = hashed(secret)
        return key_with_hash(_by_hash(self._found(_BY_HASH, wanted)), wanted)

    async def find(self, secret: str) -> Key | None:
        """Return the key with this secret without blocking the event loop; None if it is unknown or revoked.

        The result is cached for `fresh_seconds`, unless the key has the scope `approve`.
        """
        wanted, now = hashed(secret), monotonic()
        known = self._fresh.get(wanted)
        if known is not None and now < known[1]:
            return known[0]
        with _plain_errors():
            rows = await self._async_rows(_BY_HASH, [wanted])
        key = key_with_hash(_by_hash(tuple(row.values()) for row in rows), wanted)
        if key is None or APPROVE in key.scopes:
            self._fresh.pop(wanted, None)
        else:
            # Unknown keys are not cached, because they would let the cache grow without bound.
            self._fresh[wanted] = key, now + self._fresh_seconds
        return key

    def sign_in(self, secret: str, seconds: int) -> str | None:
        """Start a session for the owner of a key; return its token, or None if the key is unknown or revoked."""
        if unprintable(secret):
            return None
        token = SESSION_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        with self._connected(self._connect) as connection:
            row = connection.execute("select platform.sign_in(%s, %s, %s)", [secret, hashed(token), seconds]).fetchone()
        return token if row == (True,) else None

    def sign_in_person(
        self, identity: str, allowed: Collection[str] | None, via: str, vouching_secret: str, seconds: int
    ) -> str:
        """Start a session for a person whom a provider or a proxy has identified; return its token.

        Parameters
        ----------
        identity
            Name of the person at the provider or the proxy.
        allowed
            Scopes that the person's groups grant; None if the groups are not used for scopes.
        via
            `oidc` or `proxy`.
        vouching_secret
            Secret of the key with the scope `identify`.
        seconds
            Lifetime of the session.

        Raises
        ------
        PersonRefused
            The person is unknown or revoked, the name is malformed, or the key may not identify people.
        """
        if unprintable(identity):
            raise PersonRefused(PERSON_REFUSALS["unprintable_name"])
        token = SESSION_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        wanted = None if allowed is None else sorted(allowed)
        arguments = [identity, wanted, via, vouching_secret, hashed(token), seconds]
        statement = "select platform.sign_in_person(%s, %s::text[], %s, %s, %s, %s)"
        with self._connected(self._connect) as connection:
            row = connection.execute(statement, arguments).fetchone()
        assert row is not None  # noqa: S101 - narrows the type
        if "why" in row[0]:
            raise PersonRefused(PERSON_REFUSALS[row[0]["why"]].format(name=identity))
        if row[0]["enrolled"]:
            self._keep_heads()
        return token

    def by_session(self, token: str) -> Key | None:
        """Return the key of a session; None if the session has ended or the key is revoked."""
        if not token.startswith(SESSION_PREFIX):
            return None
        return next((_key(row) for row in self._found(_BY_SESSION, hashed(token))), None)

    def sign_out(self, token: str) -> None:
        """End a session."""
        if unprintable(token):
            return
        with self._connected(self._connect) as connection:
            connection.execute("select platform.sign_out(%s)", [token])

    def list(self) -> list[Key]:
        """Return all keys, including revoked keys, sorted by name."""
        with self._connected(self._connect) as connection:
            return [_key(row) for row in connection.execute(f"{_KEYS} order by k.name, k.created_at".encode())]

    def _found(self, query: bytes, value: str) -> Sequence[Any]:
        with _plain_errors():
            return self._rows(query, [value])

    @contextmanager
    def _connected(self, lend: Lend) -> Iterator[psycopg.Connection[Any]]:
        with _plain_errors(), lend() as connection, connection.transaction():
            connection.execute("set transaction isolation level read committed")
            yield connection


def hashed(secret: str) -> str:
    """Return the hash that is stored for a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def refuse_name(name: str, thing: str = "the key") -> None:
    """Raise an error if the name of a key is malformed.

    Raises
    ------
    KeysError
        The name is malformed.
    """
    if not _NAME.fullmatch(name):
        raise KeysError(
            f"{thing}: {name!r} is not a valid name; use up to 64 letters, digits and _ . @ -, and begin with a letter "
            "or digit"
        )


def chosen_scopes(thing: str, scopes: Collection[str]) -> frozenset[str]:
    """Return the given scopes as a set, if they are valid.

    Raises
    ------
    KeysError
        No scope is given, or one is unknown.
    """
    wanted = frozenset(scopes)
    unknown = sorted(wanted - set(SCOPES))
    if not wanted or unknown:
        found = f"no such scope: {', '.join(unknown)}" if unknown else "no scope is given"
        raise KeysError(f"{thing}: {found}; choose from {', '.join(SCOPES)}")
    return wanted


def _by_hash(rows: Iterable[tuple[Any, ...]]) -> dict[str, Key]:
    return {row[3]: _key(row) for row in rows}


def key_with_hash(found: Mapping[str, Key], wanted: str) -> Key | None:
    """Return the key with this hash, compared in constant time; None if there is no such key."""
    return next((key for kept, key in found.items() if hmac.compare_digest(kept, wanted)), None)


def _key(row: tuple[Any, ...]) -> Key:
    name, owner, scopes, kept, *others = row
    return Key(name, owner, frozenset(scopes), kept[:ID_LENGTH], *others)


@contextmanager
def _plain_errors() -> Iterator[None]:
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise KeysError(
            f"PostgreSQL failed ({first_line(error)}); run `platform-assets doctor` to see what is reachable"
        ) from error
