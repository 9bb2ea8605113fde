"""Attempts to hide alterations from the audit or to stop the audit, as the service role or by writing to the lake."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from platform_assets.approval.kept_heads import HEADS_FILE, KeptHeads
from platform_assets.approval.ledger_queries import LedgerQueries
from platform_assets.approval.promotion import PromotionRefused
from platform_assets.approval.requests import State
from platform_assets.approval.shadows import ShadowLedger
from platform_assets.base.command_line import SafeConsole
from platform_assets.models.memory_registry import MemoryRegistry
from platform_assets.web.identity import is_same_name
from platform_assets_tests.approval.promotions import Works
from platform_assets_tests.approval.proposals import ANNA, MODEL, owner_at, person, prepared, proposal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from platform_assets.database.connections import Database

CLEAR = "\x1b[2J\x1b[H"
"""Control characters that clear a terminal."""


@pytest.fixture
def role(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection as the service role."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def called(connection: psycopg.Connection[Any], function: str, *arguments: Any) -> Any:
    places = ", ".join(["%s"] * len(arguments))
    row = connection.execute(f"select platform.{function}({places})".encode(), arguments).fetchone()
    assert row is not None
    return row[0]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.requirement("PRO-5", "PRO-9")
@pytest.mark.parametrize("digest", ["", "x", "../../etc/passwd", "x" * 100_000])
def test_a_request_with_a_malformed_digest_is_reported_and_cannot_be_promoted(works: Works, digest: str) -> None:
    number = works.ask(works.crown(), digest=digest).id
    [told] = works.promoter.audit_everything()
    assert told.startswith(f"{MODEL}: {digest[:80]!r} is not the digest of a model")
    assert len(told) < 300
    works.ledger.decide(number, "approve", ANNA, "good")
    # The request must end as FAILED. Otherwise, the sensor would launch its promotion again and again.
    with pytest.raises(PromotionRefused, match="is not the digest of a model"):
        works.promoter.promote(number)
    assert works.ledger.request(number).state is State.FAILED


@pytest.mark.requirement("PRO-5", "PRO-9")
def test_a_later_request_does_not_hide_altered_tags_of_an_approved_version(works: Works) -> None:
    """The service role can alter tags in MLflow, and can then open a request whose evidence equals the altered tags."""
    previous, _ = works.crown("first"), works.crown("second")
    registry: Any = works.registry
    registry.set_tags(MODEL, previous.version, {"launched_by": "somebody else"})
    [told] = works.promoter.altered(MODEL)
    assert "tag launched_by 'somebody else'" in told
    works.ask(works.registry.version(MODEL, previous.version))
    assert works.promoter.altered(MODEL) == [told]


@pytest.mark.requirement("PRO-9")
def test_names_in_the_registry_cannot_hide_or_forge_audit_lines(works: Works) -> None:
    works.ask(replace(works.crown(), metrics={f"{CLEAR}\nnothing was altered": 1}), digest="9" * 64)
    works.registry.set_tags(MODEL, 1, {"approval": f"{CLEAR}\nnothing was altered"})
    lines = works.promoter.audit_everything()
    assert any(r"\x1b[2J\x1b[H\nnothing" in line for line in lines)
    assert all(line.isprintable() for line in lines)


@pytest.mark.requirement("PRO-9")
def test_commands_show_control_characters_escaped() -> None:
    written = io.StringIO()
    console = SafeConsole(file=written, force_terminal=True, highlight=False, soft_wrap=True)
    console.print(f"a{CLEAR}b\n\tc\u202e\x9b8m", markup=False)
    assert written.getvalue() == "a\\x1b[2J\\x1b[Hb\n\tc\\u202e\\x9b8m\n".expandtabs(8)


@pytest.mark.requirement("PRO-9")
@pytest.mark.parametrize(
    "content",
    [
        *('{"events": "\\u0000"}', '{"events": "\\ud800:x"}', '{"events": 5}', '{"journal": null}', '{"other": "1:x"}'),
        pytest.param(json.dumps({"events": "9" * 5_000 + ":" + "a" * 64}), id="digits"),
        pytest.param("[" * 100_000, id="nested"),
        pytest.param('{"events": "' + "x" * 1_000_000 + '"}', id="long"),
    ],
)
def test_an_unreadable_heads_file_stops_neither_a_decision_nor_the_audit(
    database: Database, tmp_path: Path, content: str
) -> None:
    ledger = prepared(database)
    works = Works(ledger, MemoryRegistry(), tmp_path, database.lock)
    heads = KeptHeads(lambda: works.artefacts, LedgerQueries(database.pooled))
    ledger.keep_heads = heads.keep
    works.promoter._read_heads = heads.read
    number = works.ask(works.train()).id
    file = tmp_path / "models" / HEADS_FILE
    file.write_text(content)
    assert ledger.decide(number, "reject", ANNA, "worse").state is State.REJECTED
    assert file.read_text() == content
    [found] = works.promoter.audit()
    assert (found.row, found.told) == (f"{HEADS_FILE} (events)", "has the malformed head 'an unreadable file'")


@pytest.mark.requirement("PRO-9")
def test_audit_reports_a_malformed_head_in_a_tag(works: Works) -> None:
    version = works.crown()
    works.registry.set_tags(MODEL, version.version, {"ledger_head": "9" * 5_000 + ":x"})
    [found] = works.promoter.audit()
    assert "has the malformed head" in found.told


@pytest.mark.requirement("PRO-5", "PRO-9")
def test_a_shadow_report_cannot_be_disguised_as_the_action_of_a_person(works: Works) -> None:
    """The service role records shadow reports, and chooses their content."""
    works.crown()
    number = works.ask(works.train("second")).id
    shadows = ShadowLedger(works.ledger)
    works.ledger._prepare(ANNA)  # type: ignore[attr-defined]
    shadows.start(MODEL, 2, 3, ANNA)
    event = shadows.report(number, {"via": "oidc", "identity": "anna@example.com", "shadow_report": 4})
    assert (event.how, event.seen_report) == ("", None)
    assert event.told.startswith("shadow reported by platform at ")


@pytest.mark.requirement("PRO-9")
def test_the_token_of_an_ended_session_cannot_be_used_again(works: Works, role: psycopg.Connection[Any]) -> None:
    """A browser keeps the token after the session has ended, and other programs can read the token's hash."""
    bert = person("bert")
    for one in (ANNA, bert):
        works.ledger._prepare(one)  # type: ignore[attr-defined]
    names = dict(role.execute("select owner, name from platform.api_keys").fetchall())
    for token, end in (("ps_signed out", "sign_out"), ("ps_revoked", "revoke_key")):
        assert called(role, "sign_in", bert.secret, sha256(token), 60) is True
        called(role, end, token if end == "sign_out" else names["bert"])
        with pytest.raises(psycopg.errors.UniqueViolation):
            called(role, "sign_in", ANNA.secret, sha256(token), 60)
        number = works.ledger.open_request(proposal(len(token))).id
        assert called(role, "decide", number, "approve", token, None, "good", False, None)["why"] == "unknown_key"
        # The token of an ended session cannot become the secret of a key either.
        added = called(role, "add_key", "mine", "eve", ["read"], sha256(token), None)
        assert added["why"] == "malformed_key"


@pytest.mark.requirement("PRO-9")
@pytest.mark.parametrize("name", ["x\x1b[2J", "x" * 201, "platform", "a b\n"])
def test_a_key_with_an_invalid_name_or_a_null_person_flag_is_refused(role: psycopg.Connection[Any], name: str) -> None:
    for is_person in (None, False):
        added = called(role, "add_key", name, "eve", ["read"], sha256(name), None, is_person)
        # A person may not have the name `platform`, but a key may.
        assert added.get("why") == ("malformed_key" if is_person is None or name != "platform" else None)


@pytest.mark.requirement("PRO-9")
def test_no_two_keys_have_the_same_id(works: Works, role: psycopg.Connection[Any], database_url: str) -> None:
    """Decisions identify a key by the first 16 characters of its hash, and the caller of `add_key` chooses the hash."""
    key_id = sha256(ANNA.secret)[:16]
    with owner_at(database_url) as owner:
        # Add a key with the same id as Anna's key, as earlier releases allowed.
        owner.execute(
            "insert into platform.api_keys (name, owner, scopes, hash) values ('twin', 'eve', '{read}', %s)",
            [key_id + "0" * 48],
        )
        # Add Anna's key.
        owner.execute(
            "insert into platform.api_keys (name, owner, scopes, hash) values ('anna', 'anna', '{approve}', %s)",
            [sha256(ANNA.secret)],
        )
    number = works.ledger.open_request(proposal(1)).id
    assert called(role, "decide", number, "approve", ANNA.secret, None, "good", False, None)["outcome"] == "recorded"
    assert works.ledger.audit() == []
    added = called(role, "add_key", "another", "eve", ["read"], key_id + "1" * 48, None)
    assert added["why"] == "malformed_key"


@pytest.mark.requirement("PRO-9")
@pytest.mark.parametrize(
    ("enrolled", "named", "is_same"),
    [
        ("boss@example.com", "BOSS@Example.Com", True),
        ("boss@example.com", "bo\u017fs@example.com", False),
        ("anna@strasse.example", "anna@stra\u00dfe.example", False),
        ("mark@example.com", "mar\u212a@example.com", False),
        ("\u00e4nne@example.com", "\u00c4nne@example.com", False),
    ],
)
def test_a_person_can_sign_in_only_with_the_enrolled_name(
    role: psycopg.Connection[Any], database_url: str, enrolled: str, named: str, is_same: bool
) -> None:
    """Two people at a provider can have names that case folding would equate, such as `strasse` and `straße`."""
    with owner_at(database_url) as owner:
        called(owner, "add_key", "sign-in", "the service", ["identify"], sha256("pa_vouching"), None)
        called(owner, "add_key", enrolled, "boss", ["approve"], sha256("nobody knows"), None, True)
    signed_in = called(role, "sign_in_person", named, None, "oidc", "pa_vouching", sha256("ps_t"), 10**6)
    assert signed_in.get("why") == (None if is_same else "unknown_person")
    assert is_same_name(enrolled, named) is is_same
    if is_same:
        left = role.execute("select expires_at - created_at <= interval '1 hour 1 second' from platform.sessions")
        assert left.fetchall() == [(True,)]
