"""Attempts to forge, hide or alter a decision with the rights of the service role."""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from platform_assets.approval.ledger import Ledger
from platform_assets.approval.policy import policy_as_json
from platform_assets.approval.requests import State
from platform_assets.database.opening import open_database, open_owner
from platform_assets.database.policies import write_policies, write_rules
from platform_assets_tests.approval.proposals import (
    ANNA,
    FAILED,
    MODEL,
    PreparedLedger,
    ledger_at,
    owner_at,
    person,
    promote,
    proposal,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from platform_assets.database.connections import Database

TABLES = (
    *("approval_requests", "approval_plots", "approval_events", "approval_projections", "approval_journal"),
    *("api_keys", "api_key_revocations", "sessions", "case_folding"),
)
CHANGES = [
    *(
        change.format(f"platform.{table}")
        for table in TABLES
        for change in (
            "insert into {0} overriding system value select * from {0} limit 1",
            "delete from {}",
            "truncate {} cascade",
            "drop table {} cascade",
            "alter table {} disable trigger all",
            "create trigger mine before insert on {} for each row execute function platform.refuse_change()",
        )
    ),
    "alter table platform.approval_events disable trigger chain_event",
    "create or replace function platform.refuse_change() returns trigger language plpgsql as 'begin return null; end'",
    "create or replace function platform.identity_required() returns boolean language sql as 'select false'",
    "alter function platform.decide reset search_path",
    "alter function platform.decide owner to current_user",
    "create table platform.approval_copies (id int)",
    "create schema elsewhere",
    "set session_replication_role = replica",
    "set role platform_owner",
    "set role platform_ledger",
    "set session authorization platform_owner",
    "grant platform_ledger to current_user",
    "select * from platform.approval_events for update",
    "update platform.alembic_version set version_num = '0001'",
    # Internal functions, which the service role may not call.
    "select platform.add_event(1, 'APPROVED', 'approve', 'anna', true, 'good')",
    "select platform.enter_in_journal('rules', '', '{\"identity_required\": false}')",
    "select platform.actor_of('x', 'x')",
    "select platform.begin_step()",
]


@pytest.fixture(params=["embedded", "external"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = request.getfixturevalue("database_url") if request.param == "external" else ""
    home = tmp_path if url else request.getfixturevalue("embedded_home")
    with closing(open_database(url, home)) as database:
        yield database


@pytest.fixture
def both(database: Database, request: pytest.FixtureRequest) -> Iterator[PreparedLedger]:
    if not database.embedded:
        url = request.getfixturevalue("database_url")
        yield PreparedLedger(database.pooled, lambda: owner_at(url))
        return
    with closing(open_owner("", request.getfixturevalue("embedded_home"))) as owner:
        yield PreparedLedger(database.pooled, lambda: closing(owner.connect("platform")))


@pytest.mark.requirement("PRO-5", "PRO-9")
def test_the_service_role_can_write_only_through_the_functions(both: PreparedLedger, database: Database) -> None:
    number = promote(both, 1)
    before = both.history(number)
    done = []
    with closing(database.connect("platform")) as connection:
        for change in CHANGES:
            try:
                connection.execute(change.encode())
                done.append(change)
            except psycopg.errors.InsufficientPrivilege:
                continue
    assert done == []
    assert both.history(number) == before
    assert both.audit() == []


@pytest.fixture
def role(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection as the service role."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def required(database_url: str) -> Iterator[PreparedLedger]:
    """A ledger that requires a key for each decision, as in production."""
    with ledger_at(database_url) as ledger:
        with owner_at(database_url) as owner:
            write_rules(owner, identity_required=True)
        yield ledger  # type: ignore[misc]


def called(connection: psycopg.Connection[Any], function: str, *arguments: Any) -> Any:
    places = ", ".join(["%s"] * len(arguments))
    row = connection.execute(f"select platform.{function}({places})".encode(), arguments).fetchone()
    assert row is not None
    return row[0]


def decide(connection: psycopg.Connection[Any], number: int, secret: str | None, claimed: str = "anna") -> Any:
    return called(connection, "decide", number, "approve", secret, claimed, "good", False, None)


@pytest.mark.requirement("PRO-9")
def test_texts_that_the_service_role_can_read_are_not_accepted_as_secrets(
    required: Ledger, role: psycopg.Connection[Any]
) -> None:
    """Try each text as the secret of a decision.

    The texts are those in the tables of keys and sessions, a person's name, the prefix of secrets, and an empty text.
    """
    number = required.open_request(proposal(requested_by="anna")).id
    assert called(role, "sign_in", ANNA.secret, hashlib.sha256(b"token").hexdigest(), 60) in {True, False}
    required.decide(
        required.open_request(proposal(2, model="other_model")).id, "approve", ANNA, "so that she has a key"
    )
    assert called(role, "sign_in", ANNA.secret, hashlib.sha256(b"another").hexdigest(), 60)
    rows = role.execute("select hash, name, owner, left(hash, 16) from platform.api_keys").fetchall()
    rows += role.execute("select hash, key_hash from platform.sessions").fetchall()
    for text in {value for row in rows for value in row} | {"", "anna", "pa_"}:
        assert decide(role, number, text)["why"] == "unknown_key"
    assert decide(role, number, None)["why"] == "not_authenticated"
    assert required.request(number).state is State.PENDING


@pytest.mark.requirement("PRO-9")
def test_only_the_owner_or_an_approver_can_create_a_key_with_the_scope_approve(
    required: PreparedLedger, role: psycopg.Connection[Any]
) -> None:
    number = required.open_request(proposal(requested_by="anna", launched_by="dave")).id
    mine = "pa_mine"
    digest = hashlib.sha256(mine.encode()).hexdigest()
    approves = ["read", "approve"]
    assert called(role, "add_key", "mine", "anna", approves, digest, None)["why"] == "needs_approver"
    # `add_key` uses this setting internally to record the creator of a key. The caller must not be able to set it.
    role.execute("set platform_assets.vouched_by = 'owner'")
    assert called(role, "add_key", "mine", "anna", approves, digest, None)["why"] == "needs_approver"
    assert called(role, "add_key", "mine", "dave", ["read"], digest, None)["outcome"] == "recorded"
    # A key does not prove an identity if neither the owner nor an approver created it.
    assert called(role, "decide", number, "withdraw", mine, None, "no", False, None)["why"] == "not_authenticated"
    reader = person("rita", "read")
    required._prepare(reader)
    other = hashlib.sha256(b"pa_other").hexdigest()
    assert called(role, "add_key", "other", "anna", approves, other, reader.secret)["why"] == "needs_approver"
    assert called(role, "add_key", "other", "carla", approves, other, ANNA.secret)["outcome"] == "recorded"
    assert decide(role, number, "pa_other")["outcome"] == "recorded"
    assert required.audit() == []


@pytest.fixture
def enrolled(database_url: str) -> str:
    """Enrol Anna as an approver without a key. Return the secret of the service's key, which confirms her sign-in."""
    vouching = "pa_vouching"
    with owner_at(database_url) as owner:
        digests = [hashlib.sha256(text).hexdigest() for text in (vouching.encode(), b"nobody knows")]
        called(owner, "add_key", "sign-in", "the service", ["identify"], digests[0], None)
        called(owner, "add_key", "anna@example.com", "anna", ["approve"], digests[1], None, True)
    return vouching


def sign_in(
    connection: psycopg.Connection[Any], vouching: str | None, token: str = "ps_t", identity: str = "anna@example.com"
) -> Any:
    digest = hashlib.sha256(token.encode()).hexdigest()
    return called(connection, "sign_in_person", identity, ["read", "approve"], "oidc", vouching, digest, 60)


@pytest.mark.requirement("PRO-9")
def test_only_the_key_of_the_service_can_sign_a_person_in(
    required: PreparedLedger, role: psycopg.Connection[Any], enrolled: str
) -> None:
    number = required.open_request(proposal()).id
    reader = person("rita", "read")
    for one in (ANNA, reader):
        required._prepare(one)
    mine = hashlib.sha256(b"pa_mine").hexdigest()
    # Only the owner can create a key with the scope `identify`. A session token is not accepted in place of this key.
    for approver in (None, ANNA.secret):
        assert called(role, "add_key", "mine", "me", ["identify"], mine, approver)["why"] == "needs_owner"
    token = hashlib.sha256(b"ps_session of the key").hexdigest()
    assert called(role, "sign_in", enrolled, token, 60) is True
    rows = role.execute("select hash, name, owner, left(hash, 16) from platform.api_keys").fetchall()
    for secret in {value for row in rows for value in row} | {
        *("", "pa_mine", "ps_session of the key", ANNA.secret, reader.secret, None)
    }:
        assert sign_in(role, secret)["why"] == "unknown_service"
    assert decide(role, number, "ps_t")["why"] == "unknown_key"
    assert decide(role, number, enrolled)["why"] == "no_scope"
    assert sign_in(role, enrolled)["outcome"] == "recorded"
    assert decide(role, number, "ps_t")["outcome"] == "recorded"
    event = required.history(number)[-1]
    assert (event.actor, event.how) == ("anna", "signed in by OpenID Connect as anna@example.com")
    assert required.audit() == []


@pytest.mark.requirement("PRO-9")
def test_the_service_role_cannot_enrol_approvers_or_replace_people(
    required: PreparedLedger, role: psycopg.Connection[Any], enrolled: str
) -> None:
    mine = hashlib.sha256(b"pa_mine").hexdigest()
    for name, scopes, why in (
        ("eve@example.com", ["approve"], "needs_approver"),
        ("ANNA@example.com", ["read"], "name_taken"),
        ("anna@example.com", ["read"], "name_taken"),
        ("sign-in", ["read"], "name_taken"),
        ("platform", ["read"], "reserved_name"),
        (" anna@example.com", ["read"], "malformed_key"),
        ("an\u202ena@example.com", ["read"], "unprintable_name"),
    ):
        assert called(role, "add_key", name, "eve", scopes, mine, None, True)["why"] == why
    # An unknown person who signs in is enrolled as a reader. The session does not prove an identity.
    number = required.open_request(proposal()).id
    assert sign_in(role, enrolled, "ps_eve", "eve@example.com")["outcome"] == "recorded"
    assert decide(role, number, "ps_eve")["why"] in {"not_authenticated", "no_scope"}
    # If a person's groups do not grant the scope `approve`, the session cannot create a key with that scope either.
    digest = hashlib.sha256(b"ps_reading").hexdigest()
    arguments = ["anna@example.com", ["read"], "proxy", enrolled, digest, 60]
    assert called(role, "sign_in_person", *arguments)["outcome"] == "recorded"
    assert decide(role, number, "ps_reading")["why"] == "no_scope"
    assert called(role, "add_key", "mine", "eve", ["approve"], mine, "ps_reading")["why"] == "needs_approver"
    assert required.audit() == []


@pytest.mark.requirement("PRO-9")
def test_revoking_the_key_of_the_service_ends_its_sessions(
    required: PreparedLedger, role: psycopg.Connection[Any], enrolled: str
) -> None:
    number = required.open_request(proposal()).id
    assert sign_in(role, enrolled)["outcome"] == "recorded"
    assert called(role, "revoke_key", "sign-in") is True
    assert decide(role, number, "ps_t")["why"] == "unknown_key"
    assert sign_in(role, enrolled, "ps_u")["why"] == "unknown_service"


@pytest.mark.requirement("PRO-9")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("details - 'vouched_by'", "was not confirmed by a key with the scope `identify`"),
        (
            "details || jsonb_build_object('vouched_by', details ->> 'key')",
            "was not confirmed by a key with the scope `identify`",
        ),
        ("details - 'via' - 'identity'", "did not sign in"),
        ('details || \'{"identity": "bert@example.com"}\'', "did not sign in"),
    ],
)
def test_audit_finds_a_decision_without_a_valid_sign_in(
    required: PreparedLedger, role: psycopg.Connection[Any], enrolled: str, change: str, told: str, database_url: str
) -> None:
    """The owner forges the details of a decision by an enrolled person, with correct hashes."""
    number = required.open_request(proposal()).id
    sign_in(role, enrolled)
    decide(role, number, "ps_t")
    with owner_at(database_url) as owner:
        row = owner.execute(
            f"select ({change})::text from platform.approval_events where kind = 'approve'".encode()
        ).fetchone()
        assert row is not None
        other = required.open_request(proposal(2)).id
        owner.execute(
            "select platform.add_event(%s, 'APPROVED', 'approve', 'anna', true, 'forged', details => %s::jsonb)",
            [other, row[0]],
        )
    assert [told in found.told for found in required.audit()] == [True]


@pytest.mark.requirement("PRO-9")
@pytest.mark.parametrize(
    "owner", ["platform", "Platform ", "owner", "unverified: anna", "UNVERIFIED: anna", "", " ", "an\u202ena", "a\x1bb"]
)
def test_reserved_and_unprintable_names_cannot_own_a_key(role: psycopg.Connection[Any], owner: str) -> None:
    digest = hashlib.sha256(owner.encode()).hexdigest()
    assert called(role, "add_key", "key", owner, ["read"], digest, None)["outcome"] == "refused"


@pytest.mark.requirement("PRO-9")
def test_sessions_and_keys_cannot_use_the_hash_of_another_persons_secret(
    required: PreparedLedger, role: psycopg.Connection[Any]
) -> None:
    """The service role can read the hashes of all keys, and chooses the hash of a new session or key."""
    number = required.open_request(proposal(four_eyes=True, launched_by="anna")).id
    bert = person("bert")
    for one in (ANNA, bert):
        required._prepare(one)
    of_anna = hashlib.sha256(ANNA.secret.encode()).hexdigest()
    assert called(role, "sign_in", bert.secret, of_anna, 60) is False
    # If Bert could start a session with the hash of Anna's secret, Anna's approval would be recorded as Bert's.
    assert decide(role, number, ANNA.secret)["why"] == "involved"
    token = hashlib.sha256(b"ps_token").hexdigest()
    assert called(role, "sign_in", ANNA.secret, token, 60) is True
    assert called(role, "add_key", "bert2", "bert", ["approve"], token, bert.secret)["why"] == "malformed_key"
    assert called(role, "sign_in", ANNA.secret, "no hash", 60) is False
    assert called(role, "sign_in", ANNA.secret, None, 60) is False


@pytest.mark.requirement("PRO-9")
@pytest.mark.parametrize(
    "evidence",
    [
        *(5, [], "text", {"verdict": "passed"}, {"tables": []}, {"registered": {"tags": 1}}, {"runs": "x"}),
        pytest.param({"metrics": {"auc": [10**5000]}}, id="integer"),
        pytest.param({"metrics": json.loads("[" * 60 + "]" * 60)}, id="nested"),
        pytest.param({"record": {"x": json.loads("[" * 60 + "]" * 60)}}, id="nested below"),
        pytest.param({"card": "x" * 20_000_001}, id="long"),
    ],
)
def test_unreadable_evidence_is_refused(required: PreparedLedger, role: psycopg.Connection[Any], evidence: Any) -> None:
    """One unreadable request would break every list of requests permanently, because requests cannot be removed."""
    required.open_request(proposal(1))
    sys.set_int_max_str_digits(0)
    try:
        written = json.dumps(evidence)
    finally:
        sys.set_int_max_str_digits(sys.int_info.default_max_str_digits)
    policy = Jsonb(policy_as_json(proposal().policy))
    arguments = [MODEL, 2, f"{2:064x}", 0.5, "x", None, None, policy, written, [], [], None, None]
    places = "%s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s::text[], %s::bytea[], %s, %s"
    row = role.execute(f"select platform.open_request({places})".encode(), arguments).fetchone()
    assert row is not None
    assert row[0]["why"] == "unreadable_evidence"
    assert [request.passed for request in required.requests()] == [True]


@pytest.mark.requirement("PRO-9")
def test_long_texts_from_the_service_role_are_refused_or_shortened(
    required: PreparedLedger, role: psycopg.Connection[Any]
) -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    assert called(role, "add_key", "big", "x" * 201, ["read"], digest, None)["why"] == "malformed_key"
    assert called(role, "decide", 1, "approve", None, "x" * 201, "good", False, None)["why"] == "no_request"
    with pytest.raises(Exception, match="a name is longer than 200 characters"):
        required.open_request(proposal(1, launched_by="x" * 201))
    number = required.open_request(proposal(1)).id
    assert decide(role, number, None, "x" * 201)["why"] == "long_name"
    required.decide(number, "approve", ANNA, "good")
    assert called(role, "fail_request", number, "x" * 1_000_000)["outcome"] == "recorded"
    reason = required.history(number)[-1].reason
    assert reason is not None
    assert len(reason) == 10_000


@pytest.mark.requirement("PRO-9")
def test_a_request_whose_policy_was_not_recorded_is_refused(database_url: str, role: psycopg.Connection[Any]) -> None:
    strict = proposal(evidence=FAILED, four_eyes=True, launched_by="anna")
    with ledger_at(database_url) as ledger:
        ledger.open_request(strict)
    service = Ledger(lambda: _lent(role))
    lax = proposal(2, evidence=FAILED, may_override=("anna",))
    with pytest.raises(Exception, match="differs from the declaration in its model.py; run `platform-assets migrate`"):
        service.open_request(lax)
    with pytest.raises(Exception, match="no approval policy for new_model; run `platform-assets migrate`"):
        service.open_request(proposal(model="new_model"))
    assert [service._open(one)["why"] for one in (lax, proposal(model="new_model"))] == ["other_policy", "no_policy"]
    with owner_at(database_url) as owner:
        assert write_policies(owner, {}) == []
        assert write_rules(owner, identity_required=True) == ["recorded that decisions require a key"]
        assert write_rules(owner, identity_required=True) == []


@pytest.mark.requirement("PRO-9")
def test_a_version_is_promoted_only_if_the_approval_has_a_proof_of_identity(
    database_url: str, required: PreparedLedger, role: psycopg.Connection[Any]
) -> None:
    number = required.open_request(proposal()).id
    assert called(role, "promote", number) == {"outcome": "refused", "why": "stale", "name": None}
    with owner_at(database_url) as owner:
        # The owner inserts an approval. It has no key, so it does not allow a promotion.
        owner.execute(
            "insert into platform.approval_events values"
            " (0, %s, 'APPROVED', 'approve', 'anna', true, 'good', false, null, '{}', now(), '', '', '')",
            [number],
        )
    assert called(role, "promote", number)["why"] == "not_approved"
    assert required.champion(MODEL) is None


@pytest.mark.requirement("PRO-9")
def test_a_version_approved_without_a_key_is_not_promoted_after_identity_is_required(
    database_url: str, ledger: Ledger
) -> None:
    from platform_assets.approval.requests import Actor

    number = ledger.open_request(proposal()).id
    ledger.decide(number, "approve", Actor("root"), "good")
    with owner_at(database_url) as owner:
        write_rules(owner, identity_required=True)
    with pytest.raises(Exception, match="is not approved"):
        ledger.promoted(number)


@pytest.mark.requirement("PRO-9")
def test_a_revoked_key_is_refused_in_a_transaction_with_an_older_snapshot(
    required: PreparedLedger, database_url: str
) -> None:
    number = required.open_request(proposal()).id
    required._prepare(ANNA)
    with psycopg.connect(database_url, autocommit=True) as old, owner_at(database_url) as owner:
        old.execute("begin isolation level repeatable read")
        old.execute("select 1 from platform.api_keys")
        owner.execute("select platform.revoke_key(name) from platform.api_keys where owner = 'anna'")
        with pytest.raises(psycopg.Error, match="READ COMMITTED"):
            decide(old, number, ANNA.secret)
        old.execute("rollback")
        assert decide(old, number, ANNA.secret)["why"] == "unknown_key"


@pytest.mark.requirement("PRO-9")
def test_database_session_settings_do_not_affect_the_functions(
    required: PreparedLedger, role: psycopg.Connection[Any]
) -> None:
    number = required.open_request(proposal()).id
    required._prepare(ANNA)
    role.execute("create temporary table approval_events (like platform.approval_events)")
    role.execute("create function pg_temp.digest_of(variadic text[]) returns text language sql as $$ select 'x' $$")
    for setting in (
        *("search_path = pg_temp, public", "extra_float_digits = -15", "standard_conforming_strings = off"),
        *("timezone = 'Asia/Tokyo'", "datestyle = 'German'", "transform_null_equals = on"),
    ):
        role.execute(f"set {setting}".encode())
    assert decide(role, number, ANNA.secret)["outcome"] == "recorded"
    assert required.audit() == []


@pytest.mark.requirement("PRO-9")
def test_public_cannot_execute_functions_and_each_function_pins_its_search_path(role: psycopg.Connection[Any]) -> None:
    open_ones = role.execute(
        "select proname from pg_proc left join lateral aclexplode(proacl) given on given.grantee = 0"
        " where pronamespace = 'platform'::regnamespace and (proacl is null or given.grantee is not null"
        " or proconfig is null or not 'search_path=pg_catalog, pg_temp' = any (proconfig))"
    ).fetchall()
    assert open_ones == []
    entrances = role.execute(
        "select proname, rolname, rolcanlogin from pg_proc join pg_roles r on r.oid = proowner"
        " where pronamespace = 'platform'::regnamespace and has_function_privilege(pg_proc.oid, 'execute')"
        " order by proname"
    ).fetchall()
    names = (
        *("add_key", "decide", "expire_requests", "fail_request", "mark_projected", "open_request", "promote"),
        *("report_shadow", "revoke_key", "roll_back", "sign_in", "sign_in_person", "sign_out", "start_shadow"),
        "stop_shadow",
    )
    assert entrances == [(name, "platform_ledger", False) for name in names]


def _lent(connection: psycopg.Connection[Any]) -> AbstractContextManager[psycopg.Connection[Any]]:
    from contextlib import nullcontext

    return nullcontext(connection)
