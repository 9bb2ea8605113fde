"""The incident store keeps one open incident per cause, and closes, reopens and silences incidents."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from platform_assets.base.errors import NotFound, PlatformError
from platform_assets.monitoring.incidents.kinds import kind_of
from platform_assets_tests.monitoring.incidents.conftest import Desk, desk

if TYPE_CHECKING:
    from platform_assets.database.connections import Database

CAUSE = "run_failed shop/sales"
STATE = "disk_nearly_full embedded database"
HOUR = timedelta(hours=1)


@pytest.fixture
def at(database: Database) -> Desk:
    return desk(database, {})


def openings(at: Desk) -> list[tuple[int, bool]]:
    """Return how often each incident was opened and whether it is open now, oldest incident first."""
    found = sorted(at.incidents.list(everything=True), key=lambda one: one.id)
    return [(one.opening, one.closed_at is None) for one in found]


@pytest.mark.requirement("MON-3")
def test_a_cause_has_one_open_incident_which_counts_its_events(at: Desk) -> None:
    for run in ("1", "2", "2", "3"):
        at.incidents.open_incident(CAUSE, f"run {run} failed", "error", ["team:shop"], f"/runs/{run}", run)
    found = at.only()
    assert (found.seen, found.title, found.link, found.owners) == (3, "run 3 failed", "/runs/3", ["team:shop"])
    assert (found.kind, found.subject) == ("run_failed", "shop/sales")


@pytest.mark.requirement("MON-3")
def test_a_recovery_closes_the_incident_and_the_same_event_does_not_reopen_it(at: Desk) -> None:
    at.incidents.open_incident(CAUSE, "failed", occurrence="1")
    assert at.incidents.recover(CAUSE)
    assert not at.incidents.recover(CAUSE)
    at.incidents.open_incident(CAUSE, "failed", occurrence="1")
    assert openings(at) == [(1, False)]


@pytest.mark.requirement("MON-3")
@pytest.mark.parametrize(
    ("later", "found"),
    [(HOUR - timedelta(minutes=1), [(2, True)]), (HOUR + timedelta(minutes=1), [(1, False), (1, True)])],
)
def test_a_problem_that_returns_within_the_window_reopens_its_incident(
    at: Desk, later: timedelta, found: list[tuple[int, bool]]
) -> None:
    at.incidents.open_incident(CAUSE, "failed", occurrence="1")
    at.incidents.recover(CAUSE)
    at.pass_time(later)
    at.incidents.open_incident(CAUSE, "failed", occurrence="2")
    assert openings(at) == found


@pytest.mark.requirement("MON-3")
def test_an_incident_closed_by_a_person_stays_closed_until_the_reported_state_has_ended(at: Desk) -> None:
    at.incidents.open_incident(STATE, "full")
    closed = at.incidents.close(at.only().id, "anna")
    assert (closed.closed_by, closed.closed_at is None) == ("anna", False)
    at.incidents.open_incident(STATE, "full")
    assert openings(at) == [(1, False)]
    assert at.incidents.unrecovered() == {STATE}
    at.incidents.recover(STATE)
    assert at.incidents.unrecovered() == set()
    at.incidents.open_incident(STATE, "full")
    assert openings(at) == [(2, True)]


def test_a_new_event_reopens_an_incident_that_a_person_closed(at: Desk) -> None:
    at.incidents.open_incident(CAUSE, "failed", occurrence="1")
    at.incidents.close(at.only().id, "anna")
    at.incidents.open_incident(CAUSE, "failed", occurrence="2")
    assert openings(at) == [(2, True)]


def test_a_recovery_closes_no_incident_that_was_reported_within_the_quiet_period(at: Desk) -> None:
    at.incidents.open_incident(STATE, "full")
    assert not at.incidents.recover(STATE, quiet_for=timedelta(minutes=3))
    at.pass_time(timedelta(minutes=4))
    assert at.incidents.recover(STATE, quiet_for=timedelta(minutes=3))


@pytest.mark.requirement("MON-3")
def test_concurrent_reports_open_one_incident(at: Desk) -> None:
    start = threading.Barrier(4)

    def report(number: int) -> None:
        start.wait()
        at.incidents.open_incident(CAUSE, "failed", occurrence=str(number))

    threads = [threading.Thread(target=report, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (openings(at), at.only().seen) == ([(1, True)], 4)


@pytest.mark.requirement("PLT-8")
def test_a_title_is_stored_and_logged_without_secrets_and_control_characters(
    at: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    at.incidents.open_incident(CAUSE, "no \x00 answer\nfrom postgres://anna:open@db with the key sesame")
    assert at.only().title == r"no \x00 answer\nfrom postgres://anna:***@db with the key ***"
    assert "open@" not in caplog.text
    assert "sesame" not in caplog.text
    [record] = [one for one in caplog.records if one.name.endswith("incidents.store")]
    assert (vars(record)["event"], vars(record)["subject"]) == ("run_failed", "shop/sales")


@pytest.mark.parametrize("cause", ["bad_luck shop", "run_failed", "", "run_failed "])
def test_a_kind_without_a_runbook_is_refused(at: Desk, cause: str) -> None:
    with pytest.raises(ValueError, match="the kinds are run_failed, check_failed"):
        at.incidents.open_incident(cause, "failed")
    assert kind_of(CAUSE) == "run_failed"


def test_silencing_needs_an_existing_incident_and_a_reason(at: Desk) -> None:
    until = datetime.now(UTC) + HOUR
    with pytest.raises(NotFound, match="there is no incident 7; `platform-assets alerts list --all` lists all"):
        at.incidents.silence(7, until, "anna", "known")
    at.incidents.open_incident(CAUSE, "failed")
    with pytest.raises(PlatformError, match="a silence needs a reason"):
        at.incidents.silence(at.only().id, until, "anna", " ")
    silenced = at.incidents.silence(at.only().id, until, "anna", "known")
    assert (silenced.silenced_by, silenced.silence_reason, silenced.silenced_until) == ("anna", "known", until)


def test_a_new_series_of_heartbeats_starts_after_a_gap(at: Desk) -> None:
    first = at.incidents.beat("sensor", timedelta(minutes=3))
    at.pass_time(timedelta(minutes=2))
    assert at.incidents.beat("sensor", timedelta(minutes=3)) == first - timedelta(minutes=2)
    at.pass_time(timedelta(minutes=4))
    assert at.incidents.beat("sensor", timedelta(minutes=3)) > first
