"""What nobody may do to the ledger, and what the audit finds where an owner did it all the same."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest

from platform_assets.approval.audit import Finding
from platform_assets.approval.ledger import Ledger
from platform_assets.database.opening import open_database
from platform_assets_tests.approval.proposals import (
    BERT,
    ledger_at,
    person,
    promote,
    proposal,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from platform_assets.database.connections import Database


# What nobody may do

LEDGER_TABLES = ("approval_requests", "approval_plots", "approval_events", "approval_projections")
CHANGES = [
    *(
        f"update platform.{table} set {column} = {column}"
        for table, column in (
            ("approval_requests", "model"),
            ("approval_plots", "name"),
            ("approval_events", "reason"),
            ("approval_projections", "sequence"),
            ("api_keys", "hash"),
            ("api_key_revocations", "hash"),
        )
    ),
    *(
        change.format(f"platform.{table}")
        for table in (*LEDGER_TABLES, "api_keys", "api_key_revocations")
        for change in (
            "delete from {}",
            "truncate {} cascade",
            "drop table {} cascade",
            "alter table {} disable trigger all",
            "alter table {} disable trigger append_only",
            "drop trigger append_only on {}",
        )
    ),
    "alter table platform.approval_events disable trigger chain_event",
    "create or replace function platform.refuse_change() returns trigger language plpgsql as 'begin return null; end'",
    "create table platform.approval_copies (id int)",
    "create schema elsewhere",
    "set session_replication_role = replica",
    "set role platform_owner",
    "select * from platform.approval_events for update",
    "update platform.alembic_version set version_num = '0001'",
]


@pytest.fixture(params=["embedded", "external"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = request.getfixturevalue("database_url") if request.param == "external" else ""
    home = tmp_path if url else request.getfixturevalue("embedded_home")
    with closing(open_database(url, home)) as database:
        yield database


@pytest.mark.requirement("PRO-5")
def test_the_platform_cannot_alter_what_was_recorded(database: Database) -> None:
    ledger = Ledger(database.pooled)
    number = promote(ledger, 1)
    before = ledger.history(number)
    done = []
    with closing(database.connect("platform")) as connection:
        for change in CHANGES:
            try:
                connection.execute(change.encode())
                done.append(change)
            except psycopg.errors.InsufficientPrivilege:
                continue
    assert done == []
    assert ledger.history(number) == before
    assert ledger.audit() == []


@pytest.mark.requirement("PRO-5")
@pytest.mark.parametrize(
    "change",
    [
        "update platform.approval_events set reason = 'x'",
        "delete from platform.approval_plots",
        "truncate platform.approval_events cascade",
    ],
)
def test_even_the_owner_must_first_disable_a_trigger(database_url: str, owner_url: str, change: str) -> None:
    with ledger_at(database_url) as ledger:
        promote(ledger, 1)
    with psycopg.connect(owner_url) as owner, pytest.raises(psycopg.errors.InsufficientPrivilege, match="for ever"):
        owner.execute(change.encode())


# What an owner did all the same


@pytest.mark.requirement("PRO-5")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("update {events} set reason = 'x' where sequence = 2", ["event 2"]),
        ("update {events} set actor = 'bert' where sequence = 2", ["event 2"]),
        ("update {events} set authenticated = false where sequence = 3", ["event 3"]),
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
        ("delete from {events} where sequence = 2", ["event 2"]),
        ("delete from {events} where sequence in (2, 3)", ["events 2 to 3", "event 3"]),
        ("delete from {events} where sequence >= 6", ["event 6"]),
        ("delete from {events} where sequence >= 5", ["event 6"]),
        ("delete from {events} where request_id = 2", ["request 2", "event 6"]),
        ("truncate {events} cascade", ["request 1", "request 2", "event 3", "event 6"]),
    ],
)
def test_what_an_owner_altered_is_found_and_named(
    database_url: str, owner_url: str, change: str, expected: list[str]
) -> None:
    with ledger_at(database_url) as ledger:
        first, second = promote(ledger, 1), promote(ledger, 2)
        heads = {f"version {number}": ledger.history(number)[-1].head for number in (first, second)}
        assert ledger.audit(heads) == []
    names = {name: f"platform.approval_{name}" for name in ("events", "requests", "plots", "projections")}
    with psycopg.connect(owner_url) as owner:
        for table in names.values():
            owner.execute(f"alter table {table} disable trigger all".encode())
        owner.execute(change.format(**names).encode())
        for table in names.values():
            owner.execute(f"alter table {table} enable trigger all".encode())
    with ledger_at(database_url) as ledger:
        findings = ledger.audit(heads)
    assert [finding.row for finding in findings] == expected


@pytest.mark.requirement("PRO-5")
def test_a_chain_that_was_computed_anew_is_found_by_who_saw_the_old_one(database_url: str, owner_url: str) -> None:
    with ledger_at(database_url) as ledger:
        number = promote(ledger, 1)
        heads = {"credit_risk_model version 1": ledger.history(number)[-1].head}
    with psycopg.connect(owner_url) as owner:
        owner.execute("alter table platform.approval_events disable trigger append_only")
        owner.execute("delete from platform.approval_events where sequence >= 2")
    with ledger_at(database_url) as ledger:
        ledger.decide(number, "approve", BERT, "it was me")
        ledger.promoted(number, BERT)
        assert ledger.audit() == []
        assert ledger.audit({"somebody": "nonsense"}) == [
            Finding("somebody", "names no event of the ledger: 'nonsense'")
        ]
        assert ledger.audit(heads) == [
            Finding(
                "event 3",
                "credit_risk_model version 1 has seen another one: the ledger was written anew from there, or earlier",
            )
        ]


def test_no_two_rows_are_written_alike(database_url: str) -> None:
    """Hashes of Python and PostgreSQL agree on text that could be taken for two fields."""
    with ledger_at(database_url) as ledger:
        for version, (name, reason) in enumerate([("a,1:b", "c"), ("a", "1:b,1:c"), ("é😀", "-"), ("-", "5:x")]):
            request = ledger.open_request(proposal(version + 1))
            ledger.decide(request.id, "approve", person(name), reason)
        assert ledger.audit() == []
