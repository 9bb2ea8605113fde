"""Scores of shadows in the database, the reports about them, and their retention."""

from __future__ import annotations

import uuid
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import make_url

from platform_assets.approval.shadows import ShadowLedger
from platform_assets.database.connections import Database
from platform_assets.serving import shadow_store
from platform_assets.serving.shadow_rows import Losses, ShadowRow
from platform_assets.serving.shadow_store import LedgerShadows, delete_old_shadows, is_due, record_report, summarise
from platform_assets_tests.approval.proposals import ANNA, MODEL, prepared, promote, proposal
from platform_assets_tests.serving.test_shadow_scoring import CHALLENGER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from platform_assets.approval.ledger import Ledger

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SINCE = NOW - timedelta(days=2)
SHADOW = replace(CHALLENGER, since=SINCE, until=SINCE + timedelta(days=3))


class Office:
    """A database with a running shadow of version 2."""

    def __init__(self, url: str) -> None:
        self.database = Database(make_url(url))
        self.ledger: Ledger = prepared(self.database)
        self.shadows = ShadowLedger(self.ledger)
        promote(self.ledger, 1)
        self.ledger.open_request(proposal(2, champion=(1, f"{1:064x}")))
        self.shadow = self.shadows.start(MODEL, 2, 3, ANNA)
        self.store = self.opened()

    def opened(self) -> LedgerShadows:
        return LedgerShadows(self.connect, lambda: (self.ledger, self.shadows))

    def connect(self) -> Any:
        return self.database.connect("platform")

    def row(self, request_id: str, champion: float, challenger: float, item: int = 0) -> ShadowRow:
        agrees = (champion >= 0.5) == (challenger >= 0.5)
        return ShadowRow(self.shadow, NOW, request_id, item, 5008804, challenger, champion, agrees)

    def close(self) -> None:
        self.store.close()
        self.database.close()


@pytest.fixture
def office(database_url: str) -> Iterator[Office]:
    with closing(Office(database_url)) as office:
        yield office


@pytest.mark.requirement("PRO-5", "MON-1")
def test_a_report_summarises_scores_and_lost_rows_without_naming_subjects(office: Office) -> None:
    batch = uuid.uuid4()
    rows = [
        office.row("r-1", 0.1, 0.2),
        office.row("r-1", 0.45, 0.55, item=1),
        office.row("r-2", 0.9, 0.9),
        office.row("r-3", 0.8, 0.3),
        office.row("r-4", 0.9, 0.6),
        replace(office.row("r-0", 0.8, 0.3), at=NOW - timedelta(seconds=1)),
    ]
    office.store.write(batch, rows[:4], {office.shadow: Losses(30, 2, "the version cannot score a row: x")})
    # A repeated write adds only the rows that are not stored yet.
    office.store.write(batch, rows, {office.shadow: Losses(5)})
    with office.database.pooled() as connection:
        report = summarise(connection, office.shadow.request_id)
        event = record_report(connection, office.shadows, office.shadow)
        assert event is not None
        assert record_report(connection, office.shadows, office.shadow, event) is None
    assert (report["rows"], report["agreeing"], report["requests"]) == (6, 3, 5)
    assert (report["dropped"], report["failed"], report["reason"]) == (35, 2, "the version cannot score a row: x")
    assert (report["first"], report["last"]) == ("2026-03-01T11:59:59Z", "2026-03-01T12:00:00Z")
    assert report["mean_difference"] == pytest.approx((0.1 + 0.1 + 0 - 0.5 - 0.3 - 0.5) / 6)
    assert report["differences"]["0.5"] == pytest.approx(0.2)
    assert report["differences"]["1"] == pytest.approx(0.5)
    # Disagreements come first. Rows with equal scores are left out, and a repeated disagreement is listed once.
    found = [(one["request_id"], one["item"], one["agrees"]) for one in report["disagreements"]]
    assert found == [("r-3", 0, False), ("r-1", 1, False), ("r-4", 0, True), ("r-1", 0, True)]
    assert dict(event.details) == report
    assert "5008804" not in str(event.details)
    assert office.ledger.audit() == []


def test_a_shadow_without_rows_has_no_report(office: Office) -> None:
    with office.database.pooled() as connection:
        assert record_report(connection, office.shadows, office.shadow) is None


@pytest.mark.requirement("PRO-6")
def test_only_one_of_several_processes_writes_a_report_that_is_due(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.store.write(uuid.uuid4(), [office.row("r-1", 0.1, 0.2)], {})
    assert [one.version for one in office.store.running()] == [2]
    office.store.report()
    # The first report is due a minute after the start.
    assert [one.kind for one in office.ledger.history(2)] == ["request", "start_shadow"]
    monkeypatch.setattr(shadow_store, "FIRST_REPORT", timedelta(0))
    with closing(office.opened()) as second, closing(office.connect()) as other, other.transaction():
        other.execute("select pg_advisory_xact_lock(hashtextextended('shadow reports', 0))")
        second.report()
    assert [one.kind for one in office.ledger.history(2)] == ["request", "start_shadow"]
    office.store.report()
    office.store.report()
    assert [one.kind for one in office.ledger.history(2)] == ["request", "start_shadow", "report_shadow"]
    office.shadows.stop(2, ANNA)
    assert list(office.store.running()) == []
    office.store.report()
    assert office.ledger.history(2)[-1].kind == "stop_shadow"


@pytest.mark.parametrize(
    ("last", "now", "due"),
    [
        (None, timedelta(seconds=59), False),
        (None, timedelta(minutes=1), True),
        (timedelta(minutes=1), timedelta(seconds=119), False),
        (timedelta(minutes=1), timedelta(minutes=2), True),
        (timedelta(hours=5), timedelta(hours=9), False),
        (timedelta(hours=5), timedelta(hours=10), True),
        (timedelta(hours=40), timedelta(hours=63), False),
        (timedelta(hours=40), timedelta(hours=64), True),
        (timedelta(hours=71), timedelta(days=3, seconds=59), False),
        (timedelta(hours=71), timedelta(days=3, minutes=1), True),
        (timedelta(days=3, minutes=1), timedelta(days=5), False),
        (timedelta(hours=-1), timedelta(minutes=2), True),
    ],
)
def test_intervals_between_reports_grow_and_a_last_report_follows_the_end_of_the_shadow(
    last: timedelta | None, now: timedelta, due: bool
) -> None:
    assert is_due(SHADOW, None if last is None else SINCE + last, SINCE + now) is due


@pytest.mark.requirement("PLT-10")
def test_old_scores_are_deleted(office: Office) -> None:
    fresh = replace(office.row("new", 0.1, 0.2), at=datetime.now(UTC))
    office.store.write(uuid.uuid4(), [office.row("old", 0.1, 0.2), fresh], {office.shadow: Losses(1)})
    age = datetime.now(UTC) - NOW - timedelta(minutes=1)
    assert delete_old_shadows(office.connect, age) == 1
    with office.database.pooled() as connection:
        assert connection.execute("select request_id from platform.shadow_predictions").fetchall() == [("new",)]
        assert connection.execute("select dropped from platform.shadow_losses").fetchall() == [(1,)]
