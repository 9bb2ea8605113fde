"""API keys from a setting, for a service without a database."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from platform_assets.web.key_errors import KeysError
from platform_assets.web.setting_keys import KeysFromSettings

if TYPE_CHECKING:
    from platform_assets.web.key_ring import KeyRing

HASHES = [hashlib.sha256(secret.encode()).hexdigest() for secret in ("one", "two", "é😀")]


@pytest.mark.requirement("SRV-1")
def test_keys_without_a_database_come_from_the_setting() -> None:
    keys: KeyRing = KeysFromSettings(f"anna:read+approve:{HASHES[0]}, robot:predict:{HASHES[1]},")
    key = keys.check("one")
    assert key is not None
    assert (key.name, key.owner, sorted(key.scopes)) == ("anna", "anna", ["approve", "read"])
    assert keys.list() == [key, keys.check("two")]
    assert (keys.check("three"), keys.check(HASHES[0]), keys.sign_in("three", 60)) == (None, None, None)
    token, late = keys.sign_in("one", 60), keys.sign_in("one", 0)
    assert token is not None
    assert late is not None
    assert (keys.by_session(token), keys.by_session(late)) == (key, None)
    keys.sign_out(token)
    assert keys.by_session(token) is None
    assert KeysFromSettings("").list() == []
    with pytest.raises(KeysError, match="add it there"):
        keys.add("other", "other", ["read"])
    with pytest.raises(KeysError, match="remove it there"):
        keys.revoke("anna")


@pytest.mark.requirement("PLT-8")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("anna", "entry 1: it must be name:scope:sha256"),
        (f"anna:read:{HASHES[0]},bert:read:hunter2", "entry 2: it must be"),
        (f"anna:read:{HASHES[0].upper()}", "in lower case"),
        (f"anna::{HASHES[0]}", "choose from read"),
        (f"anna:read+:{HASHES[0]}", "choose from read"),
        (f"anna:root:{HASHES[0]}", "choose from read"),
        (f":read:{HASHES[0]}", "'' is not a valid name"),
        (f"anna:read:{HASHES[0]},anna:read:{HASHES[1]}", "entry 2: another entry has the same name"),
        (f"anna:read:{HASHES[0]},bert:read:{HASHES[0]}", "or the same key"),
    ],
)
def test_the_error_for_a_malformed_setting_does_not_contain_the_secret(text: str, said: str) -> None:
    with pytest.raises(KeysError, match=said) as error:
        KeysFromSettings(text)
    assert "hunter2" not in str(error.value)
    assert HASHES[0] not in str(error.value)
