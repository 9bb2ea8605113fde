"""Checks outside Dagster: the daemon, the disk, the champions, and the dead man's switch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from dagster._daemon.types import DaemonHeartbeat

from platform_assets.monitoring.incidents import problems
from platform_assets.monitoring.incidents.problems import DAEMON, Findings, Problem
from platform_assets.monitoring.incidents.watch import Watch
from platform_assets.orchestration.storage import dagster_instance
from platform_assets.serving.live_models import ModelState
from platform_assets_tests.monitoring.incidents.conftest import desk
from platform_assets_tests.monitoring.incidents.receivers import webhook
from platform_assets_tests.postgres import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.database.connections import Database

GIB = 1 << 30
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("total", "free", "is_full"),
    [(100, 2.1, False), (100, 1.9, True), (10, 0.6, False), (10, 0.4, True), (2, 1.9, False)],
)
def test_a_disk_with_less_than_2_gib_and_less_than_5_percent_free_is_reported_as_nearly_full(
    tmp_path: Path, total: int, free: float, is_full: bool
) -> None:
    found = problems.disk(tmp_path, lambda _: (total * GIB, int(free * GIB)))
    assert bool(found.problems) is is_full


def test_a_champion_that_has_been_failing_for_a_minute_is_reported() -> None:
    now = datetime.now(UTC)
    states = {
        "just": ModelState(failure="no answer", failing_since=now),
        "long": ModelState(failure="the file is gone", failing_since=now - 2 * MINUTE),
        "fine": ModelState(looked_at=now),
    }
    found = problems.champions(states, {"long": ("team:risk",)})
    assert found.sound == {"champion_unloadable fine"}
    [problem] = found.problems
    assert problem.title == "long: the file is gone; requests are refused"
    assert problem.owners == ("team:risk",)


@pytest.mark.requirement("MON-3")
def test_a_daemon_without_recent_heartbeats_is_reported(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_HOME", str(tmp_path))
    monkeypatch.setenv("PLATFORM_DATABASE_URL", database_url)
    now = datetime.now(UTC)

    def beat(*kinds: str, ago: timedelta) -> None:
        with dagster_instance() as instance:
            for kind in kinds:
                instance.add_daemon_heartbeat(DaemonHeartbeat((now - ago).timestamp(), kind, "1", []))

    def silent(since: timedelta) -> str:
        return "".join(one.title for one in problems.daemon(database, now - since).problems)

    # A process does not report a missing daemon in the first three minutes after its start.
    assert (silent(2 * MINUTE), "it never sent a heartbeat" in silent(4 * MINUTE)) == ("", True)
    beat("SENSOR", "SCHEDULER", ago=MINUTE)
    assert silent(60 * MINUTE) == ""
    beat("SENSOR", ago=5 * MINUTE)
    assert silent(60 * MINUTE).startswith("Dagster's daemon is not running (sensor); its last heartbeat was at ")


@pytest.mark.requirement("MON-3")
def test_the_incidents_sensor_is_reported_if_it_is_no_longer_evaluated(database: Database) -> None:
    at = desk(database, {})
    now = datetime.now(UTC)
    assert problems.lookout(at.incidents, now).problems == []
    [never] = problems.lookout(at.incidents, now - 11 * MINUTE).problems
    assert never.title.startswith("the sensor incidents has not been evaluated yet, so failures in Dagster")
    at.incidents.beat(problems.LOOKOUT, MINUTE)
    found = problems.lookout(at.incidents, now - 60 * MINUTE)
    assert found.sound == {never.cause} == {"automation_silent sensor incidents"}
    at.pass_time(11 * MINUTE)
    assert len(problems.lookout(at.incidents, now - 60 * MINUTE).problems) == 1


@pytest.mark.requirement("MON-3")
def test_the_dead_mans_switch_is_called_while_the_daemon_is_alive(database: Database) -> None:
    dead = Findings([Problem(DAEMON, "dead")])
    other = Findings([Problem("disk_nearly_full embedded database", "full")])
    with webhook(500, 200) as switch:
        at = desk(database, {})
        for findings, calls in ((dead, 0), (other, 1), (other, 2)):
            watch = Watch([lambda found=findings: found], at.incidents, at.delivery, switch.url)  # type: ignore[misc]  # a default argument
            # A watch calls the switch at most once a minute.
            watch.look()
            watch.look()
            assert len(switch.received) == calls


def test_the_thread_keeps_checking_after_an_error_until_the_watch_is_closed(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    at, looks = desk(database, {}), []

    def look() -> Findings:
        looks.append(1)
        if len(looks) < 3:
            raise ZeroDivisionError("no")
        return Findings([Problem("disk_nearly_full embedded database", "full")])

    watch = Watch([look], at.incidents, at.delivery, seconds=0.01)
    watch.start()
    wait_until(at.incidents.list, "the problem was reported")
    watch.close()
    assert [one for one in caplog.messages if "ZeroDivisionError" in one] == [
        "cannot check the state of the platform: ZeroDivisionError('no')"
    ]
