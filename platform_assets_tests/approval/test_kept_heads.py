"""The lake's copies of the heads of the ledger's hash chains, and the deletions that the copies reveal."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import psycopg
import pytest

from platform_assets.approval.audit import Finding
from platform_assets.approval.kept_heads import HEADS_FILE, KeptHeads
from platform_assets.approval.ledger_queries import LedgerQueries
from platform_assets.models.artefact_store import ArtefactStore
from platform_assets.models.memory_registry import MemoryRegistry
from platform_assets_tests.approval.promotions import Works
from platform_assets_tests.approval.proposals import ANNA, MODEL, prepared

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.approval.promotion import Promoter
    from platform_assets.database.connections import Database


class Kept:
    """A ledger whose heads are copied to a folder, and a promoter that compares the copies with the ledger."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.heads = KeptHeads(lambda: ArtefactStore(str(folder)), LedgerQueries(database.pooled))
        self.works = Works(prepared(database, keep_heads=self.heads.keep), MemoryRegistry(), folder, database.lock)
        self.file = folder / "models" / HEADS_FILE

    @property
    def promoter(self) -> Promoter:
        self.works.promoter._read_heads = self.heads.read
        return self.works.promoter


@pytest.fixture
def kept(database: Database, tmp_path: Path) -> Kept:
    return Kept(database, tmp_path)


def cut(owner_url: str, *statements: str) -> None:
    with psycopg.connect(owner_url) as owner:
        owner.execute("set session_replication_role = replica")
        for statement in statements:
            owner.execute(statement.encode())


@pytest.mark.requirement("PRO-9")
def test_the_heads_are_copied_after_every_event(kept: Kept) -> None:
    ledger = kept.works.ledger
    request = kept.works.ask(kept.works.train())
    assert kept.heads.read() == ledger.heads()
    ledger.decide(request.id, "reject", ANNA, "worse")
    assert kept.heads.read() == ledger.heads()
    kept.works.crown("second")
    assert kept.heads.read() == ledger.heads()
    kept.works.crown("third")
    kept.works.promoter.rollback(MODEL, ANNA, "it flags everybody")
    assert kept.heads.read() == ledger.heads()
    assert kept.promoter.audit() == []


@pytest.mark.requirement("PRO-9")
def test_deleted_newest_event_is_reported_and_its_copied_head_is_not_overwritten(
    kept: Kept, owner_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The audit reports the deletion even after a new event with the same number was added."""
    request = kept.works.ask(kept.works.train())
    kept.works.ledger.decide(request.id, "reject", ANNA, "worse in the north")
    before = kept.heads.read()
    cut(owner_url, "delete from platform.approval_events where sequence = 2")
    where = f"{HEADS_FILE} (events)"
    gone = Finding("event 2", f"missing, although {where} contains its hash: the end of the chain was deleted")
    assert kept.promoter.audit() == [gone]
    with caplog.at_level(logging.ERROR):
        kept.works.ledger.decide(request.id, "approve", ANNA, "good")
    assert "the ledger does not contain the chain heads in" in caplog.text
    assert kept.heads.read() == before
    [found] = kept.promoter.audit()
    assert (found.row, f"differs from the copy in {where}" in found.told) == ("event 2", True)


@pytest.mark.requirement("PRO-9")
def test_deleted_newest_journal_entry_is_reported(kept: Kept, owner_url: str) -> None:
    request = kept.works.ask(kept.works.train())
    kept.works.ledger.decide(request.id, "reject", ANNA, "worse")
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("select platform.revoke_key(name) from platform.api_keys")
    kept.heads.keep()
    cut(
        owner_url,
        "delete from platform.api_key_revocations",
        "delete from platform.approval_journal where kind = 'revocation'",
    )
    [found] = kept.promoter.audit()
    assert found.row.startswith("journal entry ")
    assert "the end of the chain was deleted" in found.told


@pytest.mark.requirement("PRO-9")
def test_missing_or_damaged_heads_file_is_reported(kept: Kept) -> None:
    kept.works.ask(kept.works.train())
    whole = kept.file.read_text()
    kept.file.unlink()
    missing = Finding(HEADS_FILE, "missing from the lake; the next event writes it again")
    assert kept.promoter.audit() == [missing]
    heads = json.loads(whole)
    for chain in ("events", "journal"):
        kept.file.write_text(json.dumps({chain: heads[chain]}))
        [other] = {"events", "journal"} - {chain}
        assert kept.promoter.audit() == [Finding(HEADS_FILE, f"lacks the head of the {other}")]
    kept.file.write_bytes(b"\xff{")
    [found] = kept.promoter.audit()
    assert "has the malformed head" in found.told


def test_an_event_is_recorded_even_if_the_lake_cannot_be_written(
    kept: Kept, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    version = kept.works.train()
    (tmp_path / "models" / HEADS_FILE).mkdir()
    assert kept.works.ask(version).id == 1
    assert "heads were not copied to the lake" in caplog.text
