"""Shadows in the ledger: their events, the reasons why they end, and forged events that the audit reports."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from platform_assets.approval.ledger_errors import DecisionRefused, LedgerError
from platform_assets.approval.requests import Actor, State
from platform_assets.approval.shadow_section import shadow_section, told_shadow
from platform_assets.approval.shadows import ShadowLedger, _Now, newest_report
from platform_assets_tests.approval.proposals import ANNA, MODEL, ledger_at, owner_at, promote, proposal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from platform_assets.approval.ledger import Ledger

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
REPORT: dict[str, Any] = {
    "rows": 1_200,
    "agreeing": 1_176,
    "requests": 40,
    "first": "2026-03-01T10:00:00Z",
    "last": "2026-03-01T12:00:00Z",
    "mean_difference": -0.0125,
    "differences": {"0.5": 0.01, "0.9": 0.04, "0.99": 0.2, "1": 0.5},
    "disagreements": [
        {"request_id": "r-<b>7", "item": 0, "champion": 0.7, "challenger": 0.2, "agrees": False},
        {"request_id": "r-8", "item": 3, "champion": 0.1, "challenger": 0.12, "agrees": True},
    ],
    "dropped": 30,
    "failed": 0,
    "reason": None,
}


class Office:
    """A ledger with a champion, version 1, and a pending request for version 2."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.shadows = ledger, ShadowLedger(ledger)
        promote(ledger, 1)
        self.champion = (1, f"{1:064x}")
        self.pending = self.ask(2)

    def ask(self, version: int, **others: Any) -> int:
        return self.ledger.open_request(proposal(version, champion=self.champion, **others)).id

    def ended(self, number: int) -> str | None:
        found = self.shadows.shadow(number)
        assert found is not None
        return found.ended


@pytest.fixture
def office(database_url: str) -> Iterator[Office]:
    with ledger_at(database_url) as ledger:
        yield Office(ledger)


@pytest.mark.requirement("PRO-5", "PRO-6")
def test_the_start_the_report_and_the_stop_of_a_shadow_are_recorded_as_events(office: Office) -> None:
    started = office.shadows.start(MODEL, 2, 3, ANNA)
    assert started.until - started.since == timedelta(days=3)
    assert (started.request_id, started.version, started.champion_digest) == (office.pending, 2, office.champion[1])
    assert (started.by, started.ended, office.shadows.running(MODEL)) == ("anna", None, started)
    report = office.shadows.report(office.pending, REPORT)
    assert dict(report.details) == REPORT
    again = office.shadows.start(MODEL, 2, 5, ANNA)
    assert again.until - again.since == timedelta(days=5)
    office.shadows.stop(office.pending, ANNA)
    assert office.ended(office.pending) == "stopped by anna"
    with pytest.raises(LedgerError, match="no shadow of credit_risk_model is running"):
        office.shadows.running(MODEL)
    with pytest.raises(LedgerError, match=r"request 2 .* has no running shadow"):
        office.shadows.report(office.pending, REPORT)

    history = office.ledger.history(office.pending)
    kinds = ["request", "start_shadow", "report_shadow", "start_shadow", "stop_shadow"]
    assert [(event.kind, event.state) for event in history] == [(kind, State.PENDING) for kind in kinds]
    assert newest_report(history) == report
    assert office.ledger.request(office.pending).state is State.PENDING
    assert office.ledger.audit() == []


@pytest.mark.requirement("PRO-5")
def test_a_decision_records_which_report_the_person_saw(office: Office) -> None:
    office.shadows.start(MODEL, 2, 3, ANNA)
    first = office.shadows.report(office.pending, REPORT)
    office.shadows.report(office.pending, REPORT | {"rows": 2_000})
    with pytest.raises(DecisionRefused, match="has no shadow report 1; reload the page"):
        office.ledger.decide(office.pending, "approve", ANNA, "good", seen=1)
    assert office.ledger.decide(office.pending, "approve", ANNA, "good", seen=first.sequence).state is State.APPROVED
    event = office.ledger.history(office.pending)[-1]
    assert event.seen_report == first.sequence
    assert f"having seen shadow report {first.sequence}" in event.told
    assert office.ended(office.pending) == "its request is APPROVED"
    office.ledger.promoted(office.pending)
    assert office.ended(office.pending) == "its request is PROMOTED"
    assert office.ledger.audit() == []


@pytest.mark.requirement("PRO-6")
def test_a_shadow_ends_if_it_is_replaced_or_its_request_closes_or_the_champion_changes(office: Office) -> None:
    office.shadows.start(MODEL, 2, 3, ANNA)
    # Open a request for version 1 with a different model file. It does not supersede the request for version 2.
    other = office.ledger.open_request(proposal(1, digest="a" * 64, champion=office.champion)).id
    office.shadows.start(MODEL, 1, 3, ANNA)
    assert office.ended(office.pending) == "replaced by the shadow of version 1"
    assert office.shadows.running(MODEL).request_id == other
    office.shadows.start(MODEL, 2, 3, ANNA)
    assert (office.ended(office.pending), office.ended(other)) == (None, "replaced by the shadow of version 2")
    office.ledger.decide(other, "approve", ANNA, "as good")
    office.ledger.promoted(other)
    assert office.ended(office.pending) == "the champion changed"
    office.ledger.decide(office.pending, "reject", ANNA, "worse")
    assert office.ended(office.pending) == "its request is REJECTED"


@pytest.mark.parametrize(
    ("changes", "ended"),
    [
        ({}, None),
        ({"now": NOW + timedelta(days=3)}, "it expired at 2026-03-04 12:00 UTC"),
        ({"state": "SUPERSEDED"}, "its request is SUPERSEDED"),
        ({"current_champion": None}, "the champion changed"),
        ({"stopped_by": "unverified: \x1banna", "replaced_by": 3}, r"stopped by \x1banna"),
    ],
)
def test_the_reason_why_a_shadow_ended_is_reported(changes: dict[str, Any], ended: str | None) -> None:
    end = NOW + timedelta(days=3)
    now = _Now(end, "a", "PENDING", None, None, "a", NOW, end)
    assert replace(now, **changes).ended == ended


@pytest.mark.requirement("PRO-6")
def test_a_shadow_that_cannot_run_is_refused_and_the_error_names_the_fix(office: Office) -> None:
    cases: list[tuple[int, int, Actor, str]] = [
        (1, 3, ANNA, "version 1 has no pending request .*pending versions: 2.*decide request"),
        (2, 0, ANNA, "the shadow's duration must be 1 to 31 days"),
        (2, 32, ANNA, "the shadow's duration must be 1 to 31 days"),
        (2, 3, Actor("anna", "pa_wrong"), "the key is unknown or revoked"),
        (2, 3, Actor("a\u202eb"), "control or invisible characters"),
    ]
    for version, days, actor, told in cases:
        with pytest.raises(LedgerError, match=told):
            office.shadows.start(MODEL, version, days, actor)
    with pytest.raises(LedgerError, match="has no running shadow"):
        office.shadows.stop(office.pending, ANNA)
    office.shadows.start(MODEL, 2, 3, ANNA)
    with pytest.raises(LedgerError, match="longer than 100,000 bytes"):
        office.shadows.report(office.pending, {"reason": "x" * 100_001})
    stale = office.ledger.open_request(proposal(3, model="other_model"))
    with pytest.raises(LedgerError, match="other_model has no champion"):
        office.shadows.start("other_model", stale.version, 3, ANNA)
    assert office.ledger.audit() == []


@pytest.mark.requirement("PRO-5", "PRO-9")
@pytest.mark.parametrize(
    "change",
    [
        "update platform.approval_events set details = details || '{\"agreeing\": 1200}' where sequence = %s",
        "delete from platform.approval_events where sequence = %s",
    ],
)
def test_the_audit_finds_an_altered_report(database_url: str, office: Office, change: str) -> None:
    office.shadows.start(MODEL, 2, 3, ANNA)
    report = office.shadows.report(office.pending, REPORT).sequence
    office.shadows.report(office.pending, REPORT | {"rows": 2_000})
    assert office.ledger.audit() == []
    with owner_at(database_url) as owner:
        owner.execute("alter table platform.approval_events disable trigger all")
        owner.execute(change.encode(), [report])
        owner.execute("alter table platform.approval_events enable trigger all")
    assert f"event {report}" in {one.row for one in office.ledger.audit()}


EVE = "unverified: eve"


@pytest.mark.requirement("PRO-5", "PRO-9")
@pytest.mark.parametrize(
    ("kind", "who", "details", "told"),
    [
        ("report_shadow", "platform", {}, "was not running"),
        ("stop_shadow", EVE, {"claimed": "eve"}, "was not running"),
        ("start_shadow", "eve", {"days": 3}, "no proof of identity"),
        ("start_shadow", EVE, {"claimed": "eve"}, "with an invalid duration"),
        ("approve", EVE, {"claimed": "eve", "shadow_report": 6}, "shadow report that does not belong to the request"),
    ],
)
def test_the_audit_finds_an_event_that_the_owner_added(
    database_url: str, office: Office, kind: str, who: str, details: dict[str, Any], told: str
) -> None:
    office.shadows.start(MODEL, 2, 3, ANNA)
    assert office.shadows.report(office.pending, REPORT).sequence == 6
    other = office.ask(3)
    state, reason = ("APPROVED", "good") if kind == "approve" else ("PENDING", None)
    with owner_at(database_url) as owner:
        arguments = [other, state, kind, who, reason, json.dumps(details)]
        row = owner.execute("select platform.add_event(%s, %s, %s, %s, false, %s, details => %s)", arguments).fetchone()
    assert row is not None
    assert [(one.row, told in one.told) for one in office.ledger.audit()] == [(f"event {row[0]}", True)]


@pytest.mark.requirement("PRO-9")
def test_the_service_role_cannot_report_without_a_shadow_or_call_has_shadow(database_url: str, office: Office) -> None:
    with psycopg.connect(database_url, autocommit=True) as role:
        found = role.execute("select platform.report_shadow(%s, '{}')", [office.pending]).fetchone()
        assert found is not None
        assert found[0]["why"] == "no_shadow"
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            role.execute("select platform.has_shadow(1)")
    assert [event.kind for event in office.ledger.history(office.pending)] == ["request"]


def test_the_description_of_a_shadow_contains_its_newest_report(office: Office) -> None:
    request = office.ledger.request(office.pending)
    shadow = office.shadows.start(MODEL, 2, 3, ANNA)
    section = shadow_section(shadow, request, office.ledger.history(office.pending))
    assert section is not None
    assert [*told_shadow(section)][1] == "  no report yet"
    event = office.shadows.report(office.pending, REPORT)
    section = shadow_section(shadow, request, office.ledger.history(office.pending))
    assert section is not None
    lines = [*told_shadow(section)]
    assert lines[1] == (
        f"  report {event.sequence} of {event.at:%Y-%m-%d %H:%M} UTC: 1,200 rows of 40 requests; "
        "rows not scored: 30 dropped"
    )
    assert (
        "0.01 for half of the rows, 0.04 for 90 % of the rows, 0.2 for 99 % of the rows, 0.5 for all rows" in lines[3]
    )
    assert [lines[2], *lines[4:]] == [
        "  98.0 %: both versions make the same decision",
        "  request r-<b>7 row 1: champion 0.7, challenger 0.2, disagree",
        "  request r-8 row 4: champion 0.1, challenger 0.12",
    ]
    intervals = shadow_section(shadow, replace(request, threshold=None), office.ledger.history(office.pending))
    assert intervals is not None
    assert intervals.agreement == "98.0 %: the challenger's interval contains the champion's value"


@pytest.mark.parametrize(
    "report",
    [
        *({}, {"rows": "x"}, REPORT | {"disagreements": [7]}, REPORT | {"differences": None}),
        pytest.param(REPORT | {"rows": 1, "agreeing": 10**308}, id="overflow"),
    ],
)
def test_an_unreadable_report_is_shown_as_unreadable(office: Office, report: dict[str, Any]) -> None:
    shadow = office.shadows.start(MODEL, 2, 3, ANNA)
    office.shadows.report(office.pending, report)
    section = shadow_section(shadow, office.ledger.request(office.pending), office.ledger.history(office.pending))
    assert section is not None
    [_, line] = told_shadow(section)
    assert line.endswith("UTC: its content cannot be read")


def test_a_shadow_report_about_0_rows_is_shown(office: Office) -> None:
    shadow = office.shadows.start(MODEL, 2, 3, ANNA)
    empty: dict[str, Any] = {"rows": 0, "requests": 0, "mean_difference": None, "differences": {}, "disagreements": []}
    lost = {"dropped": 0, "failed": 7, "reason": "the version cannot score a row"}
    office.shadows.report(office.pending, {**empty, **lost})
    section = shadow_section(shadow, office.ledger.request(office.pending), office.ledger.history(office.pending))
    assert section is not None
    [_, line] = told_shadow(section)
    assert line.endswith("0 rows of 0 requests; rows not scored: 7 failed (the version cannot score a row)")
