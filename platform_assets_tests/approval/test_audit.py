"""The audit detects changes that the owner of the tables made to the ledger."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from platform_assets.approval.audit import JOURNAL, Finding
from platform_assets.approval.ledger_definitions import DEFINITIONS
from platform_assets.approval.structure_audit import read_definitions, read_grants, structure_findings
from platform_assets.database.policies import write_rules
from platform_assets_tests.approval.proposals import (
    ANNA,
    BERT,
    FAILED,
    PASSED,
    ledger_at,
    owner_at,
    person,
    promote,
    proposal,
    register,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from platform_assets.approval.ledger import Ledger

TABLES = (
    *("approval_requests", "approval_plots", "approval_events", "approval_projections", "approval_journal"),
    *("api_keys", "api_key_revocations"),
)


@pytest.mark.requirement("PRO-5")
@pytest.mark.parametrize(
    "change",
    [
        "update platform.approval_events set reason = 'x'",
        "delete from platform.approval_plots",
        "truncate platform.approval_events cascade",
    ],
)
def test_the_owner_cannot_alter_rows_without_disabling_a_trigger(
    database_url: str, owner_url: str, change: str
) -> None:
    with ledger_at(database_url) as ledger:
        promote(ledger, 1)
    with psycopg.connect(owner_url) as owner, pytest.raises(psycopg.errors.InsufficientPrivilege, match="for ever"):
        owner.execute(change.encode())


NEWEST_POLICY = "sequence = (select max(sequence) from {journal} where kind = 'policy')"
"""SQL condition that selects the last journal entry about a policy."""


@pytest.fixture
def written(database_url: str) -> Iterator[Ledger]:
    """A ledger with a revoked key and two promotions. The registry shows only the first promotion."""
    with ledger_at(database_url) as ledger:
        promote(ledger, 1)
        ledger.projected(3)
        promote(ledger, 2)
        with owner_at(database_url) as owner:
            register(owner, person("rita", "read"))
            owner.execute("select platform.revoke_key(name) from platform.api_keys where owner = 'rita'")
        yield ledger


def altered(owner_url: str, change: str) -> None:
    """Change rows as the owner, with all triggers disabled during the change."""
    with psycopg.connect(owner_url) as owner:
        for table in TABLES:
            owner.execute(f"alter table platform.{table} disable trigger all".encode())
        owner.execute(change.encode())
        for table in TABLES:
            owner.execute(f"alter table platform.{table} enable trigger all".encode())


def kept(ledger: Ledger) -> Mapping[str, str]:
    heads = ledger.heads()
    return {"lake": heads["events"], "lake too": JOURNAL + heads["journal"]}


@pytest.mark.requirement("PRO-5", "PRO-9")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("update {events} set reason = 'x' where sequence = 2", ["event 2"]),
        ("update {events} set actor = 'bert' where sequence = 2", ["event 2", "event 2"]),
        ("update {events} set authenticated = true where sequence = 3", ["event 3"]),
        ("update {events} set override = true where sequence = 2", ["event 2"]),
        ("update {events} set at = at - interval '1 us' where sequence = 1", ["event 1"]),
        ("update {events} set details = '{{\"a\": 1}}' where sequence = 3", ["event 3"]),
        ("update {events} set reason = null where sequence = 2", ["event 2"]),
        ("update {events} set hash = repeat('a', 64) where sequence = 4", ["event 4", "event 5"]),
        ("update {requests} set evidence = evidence || '{{\"a\": 1}}' where id = 1", ["request 1"]),
        ("update {requests} set threshold = 0.9 where id = 2", ["request 2"]),
        ("update {requests} set launched_by = null where id = 1", ["request 1"]),
        ("update {requests} set expires_at = expires_at + interval '1 us' where id = 1", ["request 1"]),
        ("update {plots} set png = 'x' where request_id = 2 and name = 'roc.png'", ["plot roc.png of request 2"]),
        ("delete from {plots} where request_id = 1 and name = 'roc.png'", ["plot roc.png of request 1"]),
        ("insert into {plots} values (1, 'extra.png', 'x')", ["plot extra.png of request 1"]),
        ("delete from {events} where sequence = 2", ["event 2", "event 3"]),
        ("delete from {events} where sequence in (2, 3)", ["events 2 to 3", "projection of event 3", "event 6"]),
        ("delete from {events} where sequence >= 6", ["event 6"]),
        ("delete from {events} where sequence >= 5", ["event 6"]),
        ("delete from {events} where request_id = 2", ["request 2", "event 6"]),
        ("truncate {events} cascade", ["request 1", "request 2", "projection of event 3", "event 6"]),
        (
            "delete from {journal} where sequence = (select max(sequence) from {journal})",
            ["revocation {rita}", "{end}"],
        ),
        ("update {journal} set details = '{{}}' where kind = 'rules'", ["{rules}"]),
        (
            f"update {{journal}} set role = 'somebody' where {NEWEST_POLICY}",
            ["{policy}"],
        ),
        ("update {keys} set owner = 'bert' where owner = 'anna'", ["key {anna}", "event 2", "event 5"]),
        ("update {keys} set scopes = array['read'] where owner = 'anna'", ["key {anna}", "event 2", "event 5"]),
        ("update {keys} set scopes = array['approve'] where owner = 'rita'", ["key {rita_name}"]),
        ("update {keys} set created_at = now() where owner = 'anna'", ["key {anna}", "event 2", "event 5"]),
        ("insert into {keys} values (repeat('b', 64), 'x', 'x', array['read'])", ["key x"]),
        ("delete from {revocations}", ["revocation {rita}"]),
        ("update {revocations} set at = now()", ["revocation {rita}"]),
        (
            "insert into {revocations} select hash, now() - interval '1 day' from {keys} where owner = 'anna'",
            ["revocation {anna_id}", "event 2", "event 5"],
        ),
        ("delete from {projections}", ["projection of event 3"]),
        ("insert into {projections} values (6, now())", ["projection of event 6"]),
    ],
)
def test_the_audit_names_the_rows_that_the_owner_altered(
    written: Ledger, owner_url: str, change: str, expected: list[str]
) -> None:
    heads = kept(written)
    assert written.audit(heads) == []
    facts = {**names(owner_url), "end": "journal entry " + written.heads()["journal"].partition(":")[0]}
    tables = {name: f"platform.approval_{name}" for name in ("events", "requests", "plots", "projections", "journal")}
    tables |= {"keys": "platform.api_keys", "revocations": "platform.api_key_revocations"}
    altered(owner_url, change.format(**tables))
    found = [finding.row for finding in written.audit(heads)]
    assert found == [row.format(**facts) for row in expected]


def names(owner_url: str) -> Mapping[str, str]:
    """Return the names that findings use for keys and journal entries."""
    with psycopg.connect(owner_url) as owner:
        keys = {row[0]: row[1:] for row in owner.execute("select owner, name, hash from platform.api_keys")}
        query = b"select kind, max(sequence) from platform.approval_journal group by kind"
        entries = {row[0]: row[1] for row in owner.execute(query)}
    return {
        "anna": keys["anna"][0],
        "anna_id": f"of key {keys['anna'][1][:16]}",
        "rita_name": keys["rita"][0],
        "rita": f"of key {keys['rita'][1][:16]}",
        **{kind: f"journal entry {sequence}" for kind, sequence in entries.items()},
    }


@pytest.mark.requirement("PRO-9")
def test_a_disabled_trigger_is_found(written: Ledger, owner_url: str) -> None:
    with psycopg.connect(owner_url) as owner:
        owner.execute("alter table platform.approval_events disable trigger append_only")
    assert written.audit() == [Finding("table approval_events", "its trigger append_only is disabled")]


@pytest.mark.requirement("PRO-9")
def test_an_inserted_approval_with_correct_hashes_and_an_unknown_key_is_found(written: Ledger, owner_url: str) -> None:
    """The hashes are correct, because a trigger computes them for each inserted event."""
    number = written.open_request(proposal(3, champion=(2, f"{2:064x}"))).id
    with psycopg.connect(owner_url) as owner:
        for details in ({}, {"key": "0" * 16}):
            owner.execute(
                "insert into platform.approval_events values"
                " (0, %s, 'PENDING', 'approve', 'anna', true, 'good', false, null, %s, now(), '', '', '')",
                [number, json.dumps(details)],
            )
    told = "was decided with a key that does not exist"
    assert written.audit() == [Finding("event 8", told), Finding("event 9", told)]


FORGED_EVENT = """
alter table platform.approval_events disable trigger chain_event;
insert into platform.approval_events
select sequence, id, state, kind, actor, authenticated, reason, override, null, details, at, request_digest, before,
    platform.digest_of(sequence::text, id::text, state, kind, actor, authenticated::text, reason, override::text, null,
        details::text, platform.written(at), request_digest, before)
from (
    select newest.sequence + 1 as sequence, asked.id, '{state}' as state, '{kind}' as kind, '{actor}' as actor,
        {authenticated} as authenticated,
        case when '{kind}' in ('promote', 'expire') then null else 'good' end as reason,
        {override} as override,
        coalesce((
            select jsonb_build_object('key', left(key.hash, 16), 'journal', platform.journal_head())
            from platform.api_keys key where key.owner = '{actor}'
        ), '{{"claimed": "x"}}') as details,
        {at} as at, platform.digest_of_request(asked) as request_digest, newest.hash as before
    from platform.approval_requests asked,
        (select * from platform.approval_events order by sequence desc limit 1) newest
    where asked.id = (select max(id) from platform.approval_requests)
) forged;
alter table platform.approval_events enable trigger chain_event
"""
"""Statements with which the owner inserts an event for the newest request. The hashes are correct, but no rule is
checked."""


def forge(owner_url: str, state: str, kind: str, actor: str = "platform", **others: str) -> None:
    fields = {"authenticated": "false" if actor in {"platform", "unverified: x"} else "true", "override": "false"}
    fields |= {"at": "clock_timestamp()", "state": state, "kind": kind, "actor": actor, **others}
    with psycopg.connect(owner_url) as owner:
        owner.execute(FORGED_EVENT.format(**fields).encode())


@pytest.mark.requirement("PRO-9")
@pytest.mark.parametrize(
    ("proposed", "event", "told"),
    [
        ({}, ("PROMOTED", "promote"), "changed the request from PENDING to PROMOTED, which no rule allows"),
        ({}, ("PENDING", "request"), "changed the request from PENDING to PENDING, which no rule allows"),
        ({"approvals": 2}, ("APPROVED", "approve", "anna"), "made the request APPROVED with 1 of 2 approvals"),
        ({}, ("PENDING", "approve", "anna"), "made the request PENDING with 1 of 1 approvals"),
        (
            {"four_eyes": True, "launched_by": "Anna "},
            ("APPROVED", "approve", "anna"),
            "approved against the four-eyes rule",
        ),
        (
            {"four_eyes": True, "launched_by": None},
            ("APPROVED", "approve", "anna"),
            "approved against the four-eyes rule",
        ),
        (
            {"four_eyes": True},
            ("APPROVED", "approve", "unverified: x"),
            "approved without a key, although the policy needs the identity of each approver",
        ),
        (
            {"approvers": ("bert",)},
            ("APPROVED", "approve", "anna"),
            "was decided by a person whom the policy does not name",
        ),
        (
            {"approvers": ("bert",)},
            ("REJECTED", "reject", "anna"),
            "was decided by a person whom the policy does not name",
        ),
        (
            {"evidence": FAILED},
            ("APPROVED", "approve", "anna"),
            "approved a version that failed the gate, without an override",
        ),
        ({}, ("EXPIRED", "expire"), "expired the request before its time"),
        ({"lifetime": timedelta(0)}, ("APPROVED", "approve", "anna"), "was decided after the request had expired"),
    ],
)
def test_an_event_that_breaks_a_rule_is_found_despite_correct_hashes(
    written: Ledger, owner_url: str, proposed: dict[str, Any], event: tuple[str, ...], told: str
) -> None:
    written.open_request(proposal(3, champion=(2, f"{2:064x}"), **proposed))
    forge(owner_url, *event)
    assert [finding for finding in written.audit() if finding.row == "event 8"] == [Finding("event 8", told)]


@pytest.mark.requirement("PRO-9")
@pytest.mark.parametrize(
    ("evidence", "told"),
    [
        (FAILED, "overrode a failed gate, although the policy does not allow this person to"),
        (PASSED, "overrode a gate that had passed"),
    ],
)
def test_an_override_that_breaks_a_rule_is_found(
    written: Ledger, owner_url: str, evidence: dict[str, Any], told: str
) -> None:
    written.open_request(proposal(3, champion=(2, f"{2:064x}"), evidence=evidence, may_override=("bert",)))
    forge(owner_url, "APPROVED", "approve", "anna", override="true")
    assert written.audit() == [Finding("event 8", told)]


@pytest.mark.requirement("PRO-9")
def test_a_second_vote_and_a_promotion_with_too_few_votes_are_found(written: Ledger, owner_url: str) -> None:
    number = written.open_request(proposal(3, approvals=2)).id
    written.decide(number, "approve", ANNA, "good")
    forge(owner_url, "APPROVED", "approve", "anna")
    forge(owner_url, "PROMOTED", "promote")
    assert written.audit() == [
        Finding("event 9", "approved a second time"),
        Finding("event 10", "promoted a version that too few people had approved"),
    ]


@pytest.mark.requirement("PRO-9")
def test_a_promotion_without_a_comparison_with_the_current_champion_is_found(written: Ledger, owner_url: str) -> None:
    number = written.open_request(proposal(3)).id
    written.decide(number, "approve", ANNA, "good")
    forge(owner_url, "PROMOTED", "promote")
    assert written.audit() == [Finding("event 9", "promoted a version that was not compared with the current champion")]


@pytest.mark.requirement("PRO-9")
def test_a_rollback_without_a_predecessor_is_found(database_url: str, owner_url: str) -> None:
    with ledger_at(database_url) as ledger:
        promote(ledger, 1)
        forge(owner_url, "ROLLED_BACK", "roll_back", "anna")
        told = "rolled back a version that was not the champion, or had no predecessor"
        assert ledger.audit() == [Finding("event 4", told)]


@pytest.mark.requirement("PRO-9")
def test_a_decision_without_the_required_key_is_found(written: Ledger, owner_url: str) -> None:
    written.open_request(proposal(3))
    with psycopg.connect(owner_url) as owner:
        write_rules(owner, identity_required=True)
    forge(owner_url, "REJECTED", "reject", "unverified: x")
    assert written.audit() == [Finding("event 8", "was decided without a key, although decisions needed one")]


@pytest.mark.requirement("PRO-9")
@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ('policy || \'{"may_override": ["anna"]}\'', "opened a request with a policy that was not in force"),
        ("'{}'", "opened a request with a policy that was not in force"),
    ],
)
def test_a_request_with_a_policy_that_was_not_in_force_is_found(
    written: Ledger, owner_url: str, policy: str, told: str
) -> None:
    with psycopg.connect(owner_url) as owner:
        owner.execute("alter table platform.approval_requests disable trigger date_request")
        owner.execute(
            "insert into platform.approval_requests (model, version, digest, threshold, launched_by, created_at,"
            f" expires_at, policy, evidence, plots) select model, 9, 'x', 0, 'x', now(), now() + interval '7 days',"
            f" {policy}, evidence, '{{}}' from platform.approval_requests limit 1".encode()
        )
        owner.execute("alter table platform.approval_requests enable trigger date_request")
    forge(owner_url, "PENDING", "request")
    forge(owner_url, "APPROVED", "approve", "anna")
    assert written.audit()[0] == Finding("event 7", told)


ADOPTION = """
select platform.enter_in_journal('adoption', 'approval_events', '{"sequence": 9}')
"""
WIDER_KEY = """
select platform.enter_in_journal('key', hash, jsonb_build_object(
    'name', name, 'owner', owner, 'scopes', to_jsonb(scopes), 'created_at', platform.written(created_at)
)) from platform.api_keys where owner = 'rita'
"""


@pytest.mark.requirement("PRO-9")
@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (ADOPTION, "adopts events, but was not written by the migration"),
        (WIDER_KEY, "records the key {rita} a second time: the key was altered"),
    ],
)
def test_a_journal_entry_that_hides_a_forgery_is_found(written: Ledger, owner_url: str, entry: str, told: str) -> None:
    if entry == WIDER_KEY:
        altered(owner_url, "update platform.api_keys set scopes = array['approve', 'read'] where owner = 'rita'")
    with psycopg.connect(owner_url) as owner:
        owner.execute(entry.encode())
    row = f"journal entry {written.heads()['journal'].partition(':')[0]}"
    rita = names(owner_url)["rita"].removeprefix("of key ")
    assert written.audit() == [Finding(row, told.format(rita=rita))]


STRUCTURE = [
    ("drop trigger append_only on platform.approval_events", "table approval_events"),
    ("drop trigger record_key on platform.api_keys", "table api_keys"),
    (
        (
            "create trigger mine before insert on platform.approval_events for each row execute function"
            " platform.refuse_change()"
        ),
        "table approval_events",
    ),
    ("alter table platform.api_keys drop constraint api_keys_scopes_check", "table api_keys"),
    ("alter table platform.approval_plots drop constraint approval_plots_pkey", "table approval_plots"),
    ("drop index platform.approval_events_delivery", "table approval_events"),
    ("alter table platform.approval_events alter hash drop not null", "table approval_events"),
    ("alter table platform.sessions alter expires_at set default 'infinity'", "table sessions"),
    ("alter table platform.api_keys add column more text", "table api_keys"),
    ("alter table platform.approval_events enable row level security", "table approval_events"),
    ("create rule mine as on insert to platform.approval_events do instead nothing", "table approval_events"),
    (
        "create or replace function platform.identity_required() returns boolean language sql as 'select false'",
        "function identity_required",
    ),
    ("alter function platform.decide reset search_path", "function decide"),
    ("alter function platform.add_event security definer", "function add_event"),
    (
        "create function platform.promote(integer) returns jsonb language sql as 'select null::jsonb'",
        "function promote",
    ),
    ("create function platform.mine() returns integer language sql as 'select 1'", "function mine"),
    ("drop function platform.fail_request", "function fail_request"),
    ("grant insert on platform.approval_events to public", "table approval_events"),
    ("grant execute on function platform.add_event to public", "function add_event"),
    ("grant insert (hash) on platform.api_keys to platform_app", "column hash of table api_keys"),
    ("grant create on schema platform to platform_app", "schema platform"),
    ("alter table platform.sessions owner to platform_app", "table sessions"),
    ("alter function platform.decide owner to platform_app", "function decide"),
    ("alter function platform.add_event owner to platform_app", "function add_event"),
]


@pytest.mark.requirement("PRO-9")
def test_altered_tables_functions_and_rights_are_found(database_url: str, owner_url: str) -> None:
    with psycopg.connect(owner_url) as owner:
        for change, row in STRUCTURE:
            owner.execute("set search_path = pg_catalog")
            owner.execute(change.encode())
            found = {name for name, _ in structure_findings(read_definitions(owner), read_grants(owner))}
            owner.rollback()
            assert row in found, change
    with ledger_at(database_url) as ledger:
        assert ledger.audit() == []


@pytest.mark.requirement("PRO-9")
def test_the_migrations_create_the_expected_definitions(owner_url: str) -> None:
    """After a migration that changes a table or function, copy this test's output to `ledger_definitions.py`."""
    with psycopg.connect(owner_url) as owner:
        owner.execute("set search_path = pg_catalog")
        assert read_definitions(owner) == DEFINITIONS


@pytest.mark.requirement("PRO-5", "PRO-9")
def test_a_rewritten_chain_differs_from_the_copied_head(database_url: str, owner_url: str) -> None:
    with ledger_at(database_url) as ledger:
        number = promote(ledger, 1)
        heads = {"credit_risk_model version 1": ledger.history(number)[-1].head}
    altered(owner_url, "delete from platform.approval_events where sequence >= 2")
    with ledger_at(database_url) as ledger:
        ledger.decide(number, "approve", BERT, "it was me")
        ledger.promoted(number)
        assert ledger.audit() == []
        assert ledger.audit({"somebody": "nonsense"}) == [Finding("somebody", "has the malformed head 'nonsense'")]
        told = "differs from the copy in credit_risk_model version 1: the chain was rewritten at this point or earlier"
        assert ledger.audit(heads) == [Finding("event 3", told)]


def test_python_and_postgresql_compute_equal_hashes(database_url: str) -> None:
    """Some texts look like two encoded fields. The hash covers each text's length, so that fields stay separate."""
    with ledger_at(database_url) as ledger:
        for version, (name, reason) in enumerate([("a,1:b", "c"), ("a", "1:b,1:c"), ("é😀", "-"), ("-", "5:x")]):
            request = ledger.open_request(proposal(version + 1))
            ledger.decide(request.id, "approve", person(name), reason)
        assert ledger.audit() == []
