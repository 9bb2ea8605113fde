"""Keys on a real PostgreSQL, and those of a service without one."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import make_url

from platform_assets.database.async_reads import AsyncReads
from platform_assets.database.connections import Database
from platform_assets.web.api_keys import FRESH_SECONDS, Key, KeyRing, Keys, KeysError, KeysFromSettings, hashed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HASHES = [hashlib.sha256(secret.encode()).hexdigest() for secret in ("one", "two", "é😀")]


@pytest.fixture
def hasty(database_url: str) -> Iterator[Callable[[float], Keys]]:
    """Keys that believe what they found for some seconds."""
    database = Database(make_url(database_url))
    reads = AsyncReads(database.connect_to_read)
    yield lambda seconds: Keys(database.pooled, database.reads.rows, reads.rows, seconds)
    reads.close()
    database.close()


@pytest.fixture
def keys(hasty: Callable[[float], Keys]) -> Keys:
    return hasty(FRESH_SECONDS)


@pytest.mark.requirement("SRV-1")
def test_a_key_is_known_by_its_secret_alone(keys: Keys) -> None:
    secret = keys.add("anna-laptop", "Anna", ["read", "approve"])
    other = keys.add("anna-phone", "Anna", ["read"])
    key = keys.check(secret)
    assert key is not None
    assert (key.name, key.owner, sorted(key.scopes)) == ("anna-laptop", "Anna", ["approve", "read"])
    assert keys.by_id(key.id) == key
    assert [one.name for one in keys.list()] == ["anna-laptop", "anna-phone"]
    assert secret != other
    for wrong in ("", secret[:-1], secret + "x", secret.upper(), hashed(secret), "\0", "\ud800", "x" * 100_000):
        assert keys.check(wrong) is None
    for wrong in ("", "anna-laptop", key.id[:-1], key.id + "0", hashed(secret), "\0" * 16, "%" * 16, "f" * 16):
        assert keys.by_id(wrong) is None


@pytest.mark.requirement("SRV-1")
def test_on_an_event_loop_a_key_is_the_same(keys: Keys) -> None:
    secret = keys.add("shop", "Anna", ["read", "predict"])

    async def found(*secrets: str) -> list[Key | None]:
        return [await keys.find(one) for one in secrets]

    key = keys.check(secret)
    assert key is not None
    wrong = ("", secret[:-1], secret.upper(), hashed(secret), "\0", "\ud800", "x" * 100_000)
    assert asyncio.run(found(secret, secret, *wrong)) == [key, key, *[None] * len(wrong)]


@pytest.mark.requirement("SRV-1")
def test_a_key_that_was_revoked_elsewhere_opens_nothing_after_a_moment_and_one_that_decides_at_once(
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
def test_a_key_that_was_revoked_here_opens_nothing_at_once(hasty: Callable[[float], Keys]) -> None:
    keys = hasty(3_600)
    secret = keys.add("shop", "Anna", ["predict"])
    assert asyncio.run(keys.find(secret)) is not None
    keys.revoke("shop")
    assert asyncio.run(keys.find(secret)) is None


@pytest.mark.requirement("SRV-1", "PLT-8")
def test_no_secret_is_kept(keys: Keys, database_url: str) -> None:
    secret = keys.add("robot", "robot", ["predict"])
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("select k::text from platform.api_keys k").fetchall()
    assert len(rows) == 1
    assert secret not in rows[0][0]
    assert secret not in repr(keys.list())
    assert len(secret) > 40


@pytest.mark.requirement("SRV-1")
def test_a_revoked_key_opens_nothing_even_when_another_has_its_name(keys: Keys) -> None:
    secret, other = keys.add("robot", "robot", ["read"]), keys.add("other", "robot", ["read"])
    key = keys.check(secret)
    assert key is not None
    keys.revoke("robot")
    keys.revoke("robot")
    assert (keys.check(secret), keys.by_id(key.id)) == (None, None)
    assert keys.check(other) is not None
    (revoked,) = (one for one in keys.list() if one.revoked_at)
    assert (revoked.name, revoked.id) == ("robot", key.id)
    again = keys.add("robot", "somebody else", ["read"])
    new = keys.check(again)
    assert new is not None
    assert (new.owner, new.id != key.id, keys.by_id(key.id)) == ("somebody else", True, None)
    with pytest.raises(KeysError, match="there is a key robot; choose another name, or revoke that one before"):
        keys.add("robot", "robot", ["read"])
    keys.revoke("robot")
    assert keys.check(again) is None
    for name in ("nobody", "a\0b"):
        with pytest.raises(KeysError, match="there is no key"):
            keys.revoke(name)


@pytest.mark.parametrize(
    ("name", "owner", "scopes", "said"),
    [
        ("", "Anna", ["read"], "'' is no name"),
        ("a b", "Anna", ["read"], "is no name"),
        ("a:b", "Anna", ["read"], "is no name"),
        ("a" * 65, "Anna", ["read"], "is no name"),
        ("key", " ", ["read"], "needs an owner"),
        ("key", "a\0", ["read"], "needs an owner"),
        ("key", "Anna", [], "some of read, predict, approve"),
        ("key", "Anna", ["read", "root"], r"\['read', 'root'\]"),
    ],
)
def test_what_cannot_be_a_key_is_refused(keys: Keys, name: str, owner: str, scopes: Any, said: str) -> None:
    with pytest.raises(KeysError, match=said):
        keys.add(name, owner, scopes)
    assert keys.list() == []


@pytest.mark.requirement("SRV-1")
def test_keys_of_a_service_without_a_database_come_from_a_setting() -> None:
    keys: KeyRing = KeysFromSettings(f"anna:read+approve:{HASHES[0]}, robot:predict:{HASHES[1]},")
    key = keys.check("one")
    assert key is not None
    assert (key.name, key.owner, sorted(key.scopes)) == ("anna", "anna", ["approve", "read"])
    assert keys.by_id(key.id) == key
    assert keys.list() == [key, keys.check("two")]
    assert (keys.check("three"), keys.check(HASHES[0]), keys.by_id("")) == (None, None, None)
    assert KeysFromSettings("").list() == []
    with pytest.raises(KeysError, match="add it there"):
        keys.add("other", "other", ["read"])
    with pytest.raises(KeysError, match="take it out there"):
        keys.revoke("anna")


@pytest.mark.requirement("PLT-8")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("anna", "entry 1: it must be name:scope:sha256"),
        (f"anna:read:{HASHES[0]},bert:read:hunter2", "entry 2: it must be"),
        (f"anna:read:{HASHES[0].upper()}", "in lower case"),
        (f"anna::{HASHES[0]}", "some of read"),
        (f"anna:read+:{HASHES[0]}", "some of read"),
        (f"anna:root:{HASHES[0]}", "some of read"),
        (f":read:{HASHES[0]}", "'' is no name"),
        (f"anna:read:{HASHES[0]},anna:read:{HASHES[1]}", "entry 2: another entry has the same name"),
        (f"anna:read:{HASHES[0]},bert:read:{HASHES[0]}", "or the same key"),
    ],
)
def test_a_setting_of_another_form_is_refused_without_showing_it(text: str, said: str) -> None:
    with pytest.raises(KeysError, match=said) as error:
        KeysFromSettings(text)
    assert "hunter2" not in str(error.value)
    assert HASHES[0] not in str(error.value)
