"""What the audit finds after the owner of the tables has altered the ledger."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
import pytest

from platform_assets.approval.audit import JOURNAL, Finding
from platform_assets_tests.approval.proposals import BERT, ledger_at, owner_at, person, promote, proposal, register

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


@pytest.fixture
def written(database_url: str) -> Iterator[Ledger]:
    """A ledger with two promotions, of which the registry shows the first, and with a revoked key."""
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
        ("delete from {events} where sequence = 2", ["event 2"]),
        ("delete from {events} where sequence in (2, 3)", ["events 2 to 3", "projection of event 3"]),
        ("delete from {events} where sequence >= 6", ["event 6"]),
        ("delete from {events} where sequence >= 5", ["event 6"]),
        ("delete from {events} where request_id = 2", ["request 2", "event 6"]),
        ("truncate {events} cascade", ["request 1", "request 2", "projection of event 3", "event 6"]),
        (
            "delete from {journal} where sequence = (select max(sequence) from {journal})",
            ["revocation {rita}", "{end}"],
        ),
        ("update {journal} set details = '{{}}' where kind = 'rules'", ["{rules}"]),
        ("update {journal} set role = 'somebody' where kind = 'policy' and sequence = 4", ["{policy}"]),
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
    """Return the names of keys and journal entries in findings."""
    with psycopg.connect(owner_url) as owner:
        keys = {row[0]: row[1:] for row in owner.execute("select owner, name, hash from platform.api_keys")}
        entries = {row[0]: row[1] for row in owner.execute("select kind, sequence from platform.approval_journal")}
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
def test_an_inserted_approval_with_correct_hashes_lacks_a_proof_of_identity(written: Ledger, owner_url: str) -> None:
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
        told = (
            "differs from the copy in credit_risk_model version 1: the chain was rewritten from there on, or from "
            "earlier on"
        )
        assert ledger.audit(heads) == [Finding("event 3", told)]


def test_python_and_postgresql_compute_equal_hashes(database_url: str) -> None:
    """The texts could be confused with two fields if the hash did not include their lengths."""
    with ledger_at(database_url) as ledger:
        for version, (name, reason) in enumerate([("a,1:b", "c"), ("a", "1:b,1:c"), ("é😀", "-"), ("-", "5:x")]):
            request = ledger.open_request(proposal(version + 1))
            ledger.decide(request.id, "approve", person(name), reason)
        assert ledger.audit() == []
