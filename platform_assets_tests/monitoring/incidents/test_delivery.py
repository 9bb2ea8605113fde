"""Messages about incidents are sent in order. None is lost if a sender is killed. The tests use real receivers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from platform_assets.monitoring.incidents.messages import claim
from platform_assets_tests.monitoring.incidents import killed_delivery
from platform_assets_tests.monitoring.incidents.conftest import Desk, desk
from platform_assets_tests.monitoring.incidents.receivers import KILL, mail_server, webhook
from platform_assets_tests.ports import reserve_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from platform_assets.database.connections import Database
    from platform_assets_tests.monitoring.incidents.receivers import WebhookServer
    from platform_assets_tests.warm import WarmParent

CAUSE = "run_failed shop/sales"
HOUR = timedelta(hours=1)


@pytest.fixture
def hook() -> Iterator[WebhookServer]:
    with webhook() as server:
        yield server


@pytest.fixture
def at(database: Database, hook: WebhookServer) -> Desk:
    return desk(database, {"default": [hook.url]})


def fail(at: Desk, run: str = "1", *owners: str) -> None:
    at.incidents.open_incident(CAUSE, f"run {run} failed", "error", owners, f"/runs/{run}", run)


@pytest.mark.requirement("MON-3", "ESI-6")
def test_the_opening_and_the_recovery_of_an_incident_are_each_sent_once(at: Desk, hook: WebhookServer) -> None:
    for run in ("1", "2"):
        fail(at, run)
        at.delivery.deliver()
        at.delivery.deliver()
    number = at.only().id
    [message] = hook.received
    assert message == {
        "text": f"[error] opened incident {number}: run 1 failed\nhttps://runs.example/runs/1\n"
        "What to do: docs/alerts.md#run_failed",
        "event": "run_failed",
        "subject": "shop/sales",
        "link": "https://runs.example/runs/1",
        "incident": number,
        "state": "opened",
        "severity": "error",
        "owners": [],
        "runbook": "docs/alerts.md#run_failed",
        "key": f"incident-{number}-opened-1",
        "header": f"incident-{number}-opened-1",
    }
    at.incidents.recover(CAUSE)
    assert (at.delivery.deliver(), at.delivery.deliver()) == (1, 0)
    assert hook.told[1:] == ["closed run_failed shop/sales"]


@pytest.mark.requirement("MON-3")
def test_a_refused_message_is_sent_again_before_any_later_message(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with webhook(500, 429, 302, 404, 200) as hook:
        at = desk(database, {"default": [hook.url]})
        fail(at)
        assert at.delivery.deliver() == 1
        at.incidents.recover(CAUSE)
        at.delivery.deliver()
        assert hook.told == ["opened run_failed shop/sales"] * 5 + ["closed run_failed shop/sales"]
        assert len({one["header"] for one in hook.received[:5]}) == 1
    assert "sesame" not in caplog.text
    assert "the webhook returned HTTP 404" in caplog.text


@pytest.mark.requirement("MON-3")
def test_messages_to_an_unreachable_receiver_stay_unsent_and_do_not_delay_other_receivers(
    database: Database, hook: WebhookServer
) -> None:
    gone = f"http://127.0.0.1:{reserve_port()}/services/sesame"
    at = desk(database, {"default": [gone, hook.url]}, pause=HOUR)
    fail(at)
    assert at.delivery.deliver() == 1
    assert hook.told == ["opened run_failed shop/sales"]
    assert at.incidents.unsent() == {at.only().id: 1}
    at.pass_time(2 * HOUR)
    assert at.delivery.deliver() == 0


@pytest.mark.requirement("MON-3", "ESI-6")
def test_messages_go_to_the_routes_of_the_owners_or_else_to_the_default_route(
    database: Database, hook: WebhookServer
) -> None:
    with mail_server("451 try later") as box, webhook() as default:
        routes = {"team:shop": [hook.url, "shop@example.org"], "default": [default.url]}
        at = desk(database, routes, box.url)
        fail(at, "1", "team:shop", "bert@example.org")
        at.incidents.open_incident("data_late shop/prices", "late")
        at.delivery.deliver()
        at.incidents.recover(CAUSE)
        at.delivery.deliver()
    assert (hook.told[0], default.told) == ("opened run_failed shop/sales", ["opened data_late shop/prices"])
    opened, closed = [one for one in box.mails if one["To"] == "shop@example.org"]
    number = opened["Message-ID"].split("-")[1]
    assert opened["Subject"] == f"[error] opened incident {number}: run 1 failed"
    assert opened["Message-ID"] == f"<incident-{number}-opened-1@example.org>"
    assert opened["References"] == closed["References"] == f"<incident-{number}@example.org>"
    assert "https://runs.example/runs/1" in opened.get_content()
    assert [one["To"] for one in box.mails].count("bert@example.org") == 2


@pytest.mark.requirement("MON-3")
def test_a_flapping_problem_sends_at_most_three_messages_until_it_stays_closed(at: Desk, hook: WebhookServer) -> None:
    for run in range(5):
        fail(at, str(run))
        at.delivery.deliver()
        at.incidents.recover(CAUSE)
        at.delivery.deliver()
    assert hook.told == [f"{event} run_failed shop/sales" for event in ("opened", "closed", "reopened")]
    at.pass_time(2 * HOUR)
    at.delivery.deliver()
    assert hook.told[3:] == ["closed run_failed shop/sales"]


def test_a_problem_that_ends_before_anything_was_sent_sends_nothing(at: Desk, hook: WebhookServer) -> None:
    fail(at)
    at.incidents.recover(CAUSE)
    assert (at.delivery.deliver(), hook.told) == (0, [])


@pytest.mark.requirement("MON-3")
def test_a_silenced_incident_sends_nothing_even_if_it_reopens(at: Desk, hook: WebhookServer) -> None:
    fail(at)
    at.incidents.silence(at.only().id, datetime.now(UTC) + 10 * HOUR, "anna", "known")
    at.delivery.deliver()
    at.incidents.recover(CAUSE)
    at.pass_time(2 * HOUR)
    fail(at, "2")
    at.delivery.deliver()
    assert hook.told == []
    at.pass_time(9 * HOUR)
    at.delivery.deliver()
    assert hook.told == ["opened run_failed shop/sales"]


@pytest.mark.requirement("MON-3")
def test_a_shorter_silence_replaces_a_longer_one(at: Desk, hook: WebhookServer) -> None:
    fail(at)
    for time in (10 * HOUR, HOUR):
        at.incidents.silence(at.only().id, datetime.now(UTC) + time, "anna", "known")
    at.pass_time(2 * HOUR)
    at.delivery.deliver()
    assert hook.told == ["opened run_failed shop/sales"]
    assert at.only().silence == ""


@pytest.mark.requirement("MON-3")
def test_an_error_that_stays_open_is_escalated_once(database: Database, hook: WebhookServer) -> None:
    with webhook() as boss:
        at = desk(database, {"default": [hook.url], "escalation": [boss.url]})
        fail(at)
        at.incidents.open_incident("data_late shop/prices", "late", "warning")
        at.delivery.deliver()
        at.pass_time(25 * HOUR)
        at.delivery.deliver()
        at.pass_time(25 * HOUR)
        at.delivery.deliver()
        assert boss.told == ["escalated run_failed shop/sales"]
        assert hook.told.count("escalated run_failed shop/sales") == 1
        at.incidents.recover(CAUSE)
        at.delivery.deliver()
        assert boss.told[1:] == hook.told[-1:] == ["closed run_failed shop/sales"]


def test_a_destination_that_was_removed_from_the_settings_is_not_called(
    at: Desk, database: Database, hook: WebhookServer
) -> None:
    fail(at)
    other = desk(database, {}, pause=HOUR)
    assert other.delivery.deliver() == 0
    assert other.incidents.unsent() == {other.only().id: 1}
    assert hook.told == []


def test_two_senders_do_not_send_the_same_message(at: Desk, hook: WebhookServer) -> None:
    fail(at)
    with at.incidents.transaction() as connection:
        assert claim(connection) is not None
    assert (at.delivery.deliver(), hook.told) == (0, [])
    at.pass_time(timedelta(minutes=3))
    assert (at.delivery.deliver(), len(hook.told)) == (1, 1)


@pytest.mark.requirement("MON-3")
@pytest.mark.parametrize(("when", "requests"), [("written", 1), ("claimed", 1), ("asked", 2)])
def test_no_message_is_lost_if_its_sender_is_killed(
    when: str, requests: int, warm: WarmParent, database: Database, database_url: str
) -> None:
    with webhook(*([KILL, 200] if when == "asked" else [200])) as hook:
        with warm.start(killed_delivery.main, database_url, hook.url, when) as process:
            if when == "asked":
                hook.victim = int(process.stdout.readline())
                process.stdin.write("go\n")
                process.stdin.flush()
            assert process.wait() == -9
        at = desk(database, {"default": [hook.url]})
        # Other senders can send the message once the killed sender's lease has expired.
        at.pass_time(timedelta(minutes=3))
        at.delivery.deliver()
        at.delivery.deliver()
        assert hook.told == ["opened run_failed shop/sales"] * requests
        assert len({one["header"] for one in hook.received}) == 1
        assert at.incidents.unsent() == {}
