"""API keys in a real PostgreSQL."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import make_url

from platform_assets.database.async_reads import AsyncReads
from platform_assets.database.connections import Database
from platform_assets.web.api_keys import FRESH_SECONDS, Keys, hashed
from platform_assets.web.key_errors import KeysError
from platform_assets_tests.approval.proposals import owner_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from platform_assets.web.key_ring import Key


@pytest.fixture
def hasty(database_url: str) -> Iterator[Callable[[float], Keys]]:
    """A function that takes a cache lifetime in seconds, and returns the key store."""
    database = Database(make_url(database_url))
    reads = AsyncReads(database.connect_to_read)
    rows = database.reads.rows
    yield lambda seconds: Keys(database.pooled, rows, reads.rows, seconds, owner=lambda: owner_at(database_url))
    reads.close()
    database.close()


@pytest.fixture
def keys(hasty: Callable[[float], Keys]) -> Keys:
    return hasty(FRESH_SECONDS)


@pytest.mark.requirement("SRV-1")
def test_key_is_found_only_by_its_secret(keys: Keys) -> None:
    secret = keys.add("anna-laptop", "Anna", ["read", "approve"])
    other = keys.add("anna-phone", "Anna", ["read"])
    key = keys.check(secret)
    assert key is not None
    assert (key.name, key.owner, sorted(key.scopes)) == ("anna-laptop", "Anna", ["approve", "read"])
    assert [one.name for one in keys.list()] == ["anna-laptop", "anna-phone"]
    assert secret != other
    for wrong in ("", secret[:-1], secret + "x", secret.upper(), hashed(secret), "\0", "\ud800", "x" * 100_000):
        assert keys.check(wrong) is None


@pytest.mark.requirement("SRV-1")
def test_key_is_found_without_blocking_the_event_loop(keys: Keys) -> None:
    secret = keys.add("shop", "Anna", ["read", "predict"])

    async def found(*secrets: str) -> list[Key | None]:
        return [await keys.find(one) for one in secrets]

    key = keys.check(secret)
    assert key is not None
    wrong = ("", secret[:-1], secret.upper(), hashed(secret), "\0", "\ud800", "x" * 100_000)
    assert asyncio.run(found(secret, secret, *wrong)) == [key, key, *[None] * len(wrong)]


@pytest.mark.requirement("SRV-1")
def test_key_revoked_by_another_process_stays_cached_unless_it_has_the_scope_approve(
    keys: Keys, hasty: Callable[[float], Keys]
) -> None:
    program, person = keys.add("shop", "Anna", ["predict"]), keys.add("anna", "Anna", ["read", "approve"])

    async def found(ring: Keys) -> list[bool]:
        return [await ring.find(secret) is not None for secret in (program, person)]

    patient, other = hasty(3_600), hasty(0)
    assert [asyncio.run(found(ring)) for ring in (patient, other)] == [[True, True]] * 2
    for name in ("shop", "anna"):
        keys.revoke(name)
    assert asyncio.run(found(patient)) == [True, False]
    assert asyncio.run(found(other)) == [False, False]
    assert 0 < FRESH_SECONDS <= 1


@pytest.mark.requirement("SRV-1")
def test_key_revoked_by_this_process_is_refused_at_once(hasty: Callable[[float], Keys]) -> None:
    keys = hasty(3_600)
    secret = keys.add("shop", "Anna", ["predict"])
    assert asyncio.run(keys.find(secret)) is not None
    keys.revoke("shop")
    assert asyncio.run(keys.find(secret)) is None


@pytest.mark.requirement("SRV-1", "PLT-8")
def test_secrets_are_not_stored(keys: Keys, database_url: str) -> None:
    secret = keys.add("robot", "robot", ["predict"])
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("select k::text from platform.api_keys k").fetchall()
    assert len(rows) == 1
    assert secret not in rows[0][0]
    assert secret not in repr(keys.list())
    assert len(secret) > 40


@pytest.mark.requirement("SRV-1")
def test_revoked_key_is_refused_even_if_its_name_is_reused(keys: Keys) -> None:
    secret, other = keys.add("robot", "robot", ["read"]), keys.add("other", "robot", ["read"])
    key = keys.check(secret)
    assert key is not None
    keys.revoke("robot")
    keys.revoke("robot")
    assert keys.check(secret) is None
    assert keys.check(other) is not None
    (revoked,) = (one for one in keys.list() if one.revoked_at)
    assert (revoked.name, revoked.id) == ("robot", key.id)
    again = keys.add("robot", "somebody else", ["read"])
    new = keys.check(again)
    assert new is not None
    assert (new.owner, new.id != key.id) == ("somebody else", True)
    with pytest.raises(
        KeysError, match="there is already a key 'robot'; choose another name, or revoke that key first"
    ):
        keys.add("robot", "robot", ["read"])
    keys.revoke("robot")
    assert keys.check(again) is None
    for name in ("nobody", "a\0b"):
        with pytest.raises(KeysError, match="there is no key"):
            keys.revoke(name)


@pytest.mark.parametrize(
    ("name", "owner", "scopes", "said"),
    [
        ("", "Anna", ["read"], "'' is not a valid name"),
        ("a b", "Anna", ["read"], "is not a valid name"),
        ("a:b", "Anna", ["read"], "is not a valid name"),
        ("a" * 65, "Anna", ["read"], "is not a valid name"),
        ("key", " ", ["read"], "needs an owner"),
        ("key", "a\0", ["read"], r"its owner contains control or invisible characters \(U\+0000\)"),
        ("key", "a\u202eb", ["read"], r"\(U\+202E\)"),
        ("key", "a\x1b[31mb", ["read"], r"\(U\+001B\)"),
        ("key", "a\nb", ["read"], r"\(U\+000A\)"),
        ("key", "Platform", ["read"], "Platform cannot be an owner"),
        ("key", "unverified: anna", ["read"], "cannot be an owner"),
        ("key", "Anna", [], "choose from read, predict, label, trace, approve"),
        ("key", "Anna", ["read", "root"], "no such scope: root; choose from read, predict"),
    ],
)
def test_invalid_key_is_refused(keys: Keys, name: str, owner: str, scopes: Any, said: str) -> None:
    with pytest.raises(KeysError, match=said):
        keys.add(name, owner, scopes)
    assert keys.list() == []


@pytest.mark.requirement("PRO-9")
def test_only_the_owner_or_an_approver_can_create_a_key_with_the_scope_approve(database_url: str, keys: Keys) -> None:
    with closing(Database(make_url(database_url))) as database:
        service = Keys(database.pooled, database.reads.rows, None)  # type: ignore[arg-type]
        reader, approver = keys.add("rita", "rita", ["read"]), keys.add("anna", "anna", ["approve"])
        for secret in ("", reader):
            with pytest.raises(
                KeysError, match="only the database's owner or an approver can create it; set PLATFORM_MIGR"
            ):
                service.add("bert", "bert", ["approve"], secret)
        for secret in ("pa_nonsense", hashed(approver), "\0"):
            with pytest.raises(KeysError, match="the key in PLATFORM_API_KEY is unknown or revoked"):
                service.add("bert", "bert", ["approve"], secret)
        made = service.add("bert", "bert", ["approve"], approver)
        assert service.check(made) is not None
        assert service.check(service.add("shop", "shop", ["predict"])) is not None


@pytest.mark.requirement("SRV-1")
def test_a_session_ends_on_sign_out_or_expiry_or_when_its_key_is_revoked(keys: Keys, database_url: str) -> None:
    secret = keys.add("rita", "rita", ["read"])
    tokens = [keys.sign_in(secret, 60) for _ in range(3)]
    signed_out, lost, late = map(str, tokens)
    assert len({signed_out, lost, late}) == 3
    assert [keys.by_session(token) for token in (signed_out, lost, late)] == [keys.check(secret)] * 3
    with psycopg.connect(database_url) as connection:
        assert signed_out not in repr(connection.execute("select s::text from platform.sessions s").fetchall())
    keys.sign_out(signed_out)
    assert keys.by_session(signed_out) is None
    with owner_at(database_url) as owner:
        owner.execute("update platform.sessions set expires_at = now() where hash = %s", [hashed(late)])
    assert keys.by_session(late) is None
    keys.revoke("rita")
    assert keys.by_session(lost) is None
    for wrong in ("", "nonsense", "\0", "ps_", secret, hashed(lost)):
        assert (keys.by_session(wrong), keys.sign_in(wrong, 60)) == (None, None)
        keys.sign_out(wrong)
