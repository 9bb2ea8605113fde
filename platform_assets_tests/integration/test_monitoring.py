"""Each kind of fault is detected, alerted once, shown on the page, and closed after its recovery."""

from __future__ import annotations

import html
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest
import requests
from dagster._core.definitions.freshness import FreshnessState

from platform_assets import definitions
from platform_assets.app import application
from platform_assets.domains.credit_risk import demo
from platform_assets.domains.sensor_maintenance.model import MODEL
from platform_assets.domains.sensor_maintenance.schemas import READINGS_HISTORY
from platform_assets.models.registry import CHAMPION
from platform_assets.monitoring.incidents.kinds import KINDS
from platform_assets.operations import servers
from platform_assets.operations.supervisor import ServerEnded
from platform_assets.orchestration.storage import dagster_instance
from platform_assets_tests.approval.proposals import ANNA, PLOTS, owner_at, register
from platform_assets_tests.contracts.registrations import registration, small_model
from platform_assets_tests.integration.watched_platform import WatchedPlatform, page
from platform_assets_tests.monitoring.incidents.receivers import mail_server, webhook
from platform_assets_tests.postgres import owner_of, wait_until
from platform_assets_tests.service import keys_of, served, wait_until_live

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd

    from platform_assets_tests.monitoring.incidents.receivers import Mailbox, WebhookServer

LOANS = "credit_risk/loans"
LATE = dg.AssetKey(["esios_demand", "demand_forecast"])
BROKEN_MODEL, EXPIRED_MODEL = "credit_risk_model", "sentence_relevance_model"
REFUSALS = (503, 200, 200, 503)
MAIL = "maintenance@example.org"
SENSOR, SCHEDULE = "sensor_history_changed", "audit_nightly"
FAILED_CHECKS = {
    f"check_failed {MODEL.key} volume_is_as_usual",
    f"check_failed {MODEL.key} failures_are_as_usual",
    f"check_failed {MODEL.key} requested_rows_are_as_in_training",
    f"check_failed {MODEL.key} labels_agree_with_predictions",
    f"check_failed {LOANS} volume_is_as_usual",
}
"""Incidents that the job `monitor` opens for failed checks."""
OTHERS = {
    f"run_failed {LOANS}",
    f"automation_failed sensor {SENSOR}",
    f"automation_silent schedule {SCHEDULE}",
    f"data_late {LATE.to_user_string()}",
    f"champion_unloadable {BROKEN_MODEL}",
    f"request_expired {EXPIRED_MODEL}",
    "disk_nearly_full embedded database",
    "audit_found approvals",
    "daemon_silent Dagster",
    "server_ended platform-assets up",
}


@contextmanager
def platform(database_url: str, folder: Path, hook: str, smtp: str) -> Iterator[WatchedPlatform]:
    """Yield a platform that sends messages about the model by email, and all other messages to the webhook."""
    variables = {
        "PLATFORM_HOME": folder / "home",
        "PLATFORM_LAKE_URI": "memory://",
        "PLATFORM_DATABASE_URL": database_url,
        "PLATFORM_MIGRATION_DATABASE_URL": owner_of(database_url),
        "PLATFORM_RATE_LIMIT": "off",
        "PLATFORM_DEMO_ROWS": 1_500,
        "PLATFORM_CREDIT_LOANS_URI": folder / "loans.csv",
        "PLATFORM_ALERT_WEBHOOK_URL": hook,
        "PLATFORM_ALERT_SMTP_URL": smtp,
        "PLATFORM_ALERT_ROUTES": f"{MODEL.owners[0]}={MAIL}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, str(value))
        definitions.services.cache_clear()
        with owner_at(database_url) as connection:
            register(connection, ANNA)
        with dagster_instance() as instance:
            try:
                yield WatchedPlatform(instance, database_url, folder / "loans.csv")
            finally:
                definitions.services().close()
                definitions.services.cache_clear()


def usual_days(at: WatchedPlatform, loans: list[str]) -> None:
    """Simulate 45 days without faults."""
    at.load(loans[:-3])
    assert at.materialise(READINGS_HISTORY.name)
    at.promote()
    for day in range(45, 0, -1):
        at.answer(day, 100 + day % 7)
    assert at.run("monitor")
    at.pass_days(1)
    at.load(loans[:-2])
    at.answer(1, 100)
    assert at.daily() == {}
    at.usual_past(LOANS)


def shifted(rows: pd.DataFrame) -> pd.DataFrame:
    """Shift the mean of `sensor_1`, and double the values of `sensor_2`."""
    return rows.assign(sensor_1=rows["sensor_1"] + 1, sensor_2=2 * rows["sensor_2"])


def stuck(rows: pd.DataFrame) -> pd.DataFrame:
    """Set `sensor_2` to the same value in all rows."""
    return rows.assign(sensor_2=0.1)


def plant_in_data(at: WatchedPlatform, loans: list[str], address: str, key: str) -> None:
    """Create faults that the job `monitor` finds: drift, failures, flipped labels, missing requests and rows."""
    at.pass_days(6)
    asked = [at.answer(day, 50, shifted if day > 3 else stuck, failures=25) for day in range(6, 0, -1)]
    at.asked = asked[:2]
    label(at, address, key, flipped=True)
    # Remove half of the table's rows, and replace one category by another.
    at.load([line.replace(",Pensioner,", ",Working,") for line in loans[: len(loans) // 2]])


def label(at: WatchedPlatform, address: str, key: str, *, flipped: bool) -> None:
    """Send a label for each prediction of the two requests in `at.asked`."""
    now = datetime.now(UTC).isoformat()
    labels = [
        {"request_id": request, "place": place, "label": float(positive != flipped), "observed_at": now}
        for request in at.asked
        for place, positive in enumerate(at.decisions(request))
    ]
    headers = {"Authorization": f"Bearer {key}"}
    response = requests.post(f"{address}/labels/{MODEL.name}", json={"labels": labels}, headers=headers, timeout=400)
    assert response.json()["stored"] == len(labels), response.text


def plant_elsewhere(at: WatchedPlatform) -> None:
    """Create faults that the sensors, the audit, `serve` and `up` find."""
    at.loans.write_text("")
    assert not at.materialise(LOANS)
    at.history.ticked(SENSOR, timedelta(minutes=3), "no such folder")
    at.history.ticked(SCHEDULE, timedelta(days=1, minutes=30))
    at.history.became(LATE, FreshnessState.FAIL)
    at.works.ask(at.works.train("late", EXPIRED_MODEL), lifetime=timedelta(0))
    at.services.ledger.expire()
    promote_without_file(at)
    assert at.run("audit")
    at.disk_is_full = at.daemon_is_dead = True
    with pytest.raises(ServerEnded), servers.watched(at.services):
        raise ServerEnded("MLflow ended with exit code 1; last lines of its log:\n  GET /client/5008804")


def promote_without_file(at: WatchedPlatform) -> None:
    """Promote a version whose file has disappeared, so that the service cannot load it."""
    services = at.services
    digest = services.artefacts.save(small_model())
    version = services.registry.register(registration("broken", name=BROKEN_MODEL, digest=digest, plots=PLOTS))
    number = at.works.approve(version)
    at.hide(digest)
    services.ledger.promoted(number)
    services.registry.set_alias(BROKEN_MODEL, CHAMPION, version.version)
    wait_until(lambda: services.live_models.state()[BROKEN_MODEL].failure, "the service failed to load the version")


def repair(at: WatchedPlatform, loans: list[str]) -> None:
    """Repair all faults that can be repaired immediately."""
    at.load(loans[:-2])
    at.history.ticked(SENSOR, timedelta(0))
    at.history.ticked(SCHEDULE, timedelta(0))
    at.history.became(LATE, FreshnessState.PASS)
    at.works.ask(at.works.train("next", EXPIRED_MODEL))
    at.unhide()
    at.services.promoter.reconcile(BROKEN_MODEL)
    wait_until_live(at.services, BROKEN_MODEL)
    assert at.run("audit")
    at.disk_is_full = at.daemon_is_dead = False
    with servers.watched(at.services):
        pass
    # The incident of an unloadable champion closes when no process has reported the problem for three minutes.
    at.desk.pass_time(timedelta(minutes=4))


def recover(at: WatchedPlatform, loans: list[str], address: str, key: str) -> None:
    """Correct the labels, and simulate days without faults."""
    label(at, address, key, flipped=False)
    at.pass_days(9)
    for day in range(9, 0, -1):
        at.answer(day, 100)
    assert at.run("monitor")
    at.pass_days(1)
    at.load(loans[:-1])
    at.answer(1, 100)


@pytest.mark.slow
@pytest.mark.requirement("MON-1", "MON-2", "MON-3", "ESI-6", "PRO-6")
def test_each_kind_of_fault_is_detected_and_shown_and_alerted_once_and_closed_after_recovery(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "SHARE_OF_BAD_LINES", 0)
    loans = demo.generate(tmp_path / "all.csv", 3_000).read_text().splitlines(keepends=True)
    with (
        webhook(*REFUSALS, 200) as hook,
        mail_server("451 try later") as box,
        platform(database_url, tmp_path, hook.url, box.url) as at,
        served(application(at.services)) as address,
    ):
        key = keys_of(at.services).add("rita", "rita", {"read", "label"})
        usual_days(at, loans)
        assert "Models with an alarm: 0 of" in page(address, key)
        plant_in_data(at, loans, address, key)
        assert set(at.daily()) == FAILED_CHECKS
        plant_elsewhere(at)
        at.look()
        assert set(at.opened()) == FAILED_CHECKS | OTHERS
        assert {one.partition(" ")[0] for one in at.opened()} == set(KINDS)
        assert_told_once(hook, box, "opened")
        assert_shown(at, address, key)
        repair(at, loans)
        at.look()
        assert set(at.opened()) == FAILED_CHECKS
        recover(at, loans, address, key)
        assert at.daily() == {}
        assert_told_once(hook, box, "closed")
        assert "Models with an alarm: 0 of" in page(address, key)


def assert_told_once(hook: WebhookServer, box: Mailbox, state: str) -> None:
    """Check that the owners of each incident were notified of its `state` exactly once, by email or by the webhook."""
    by_mail = {one for one in FAILED_CHECKS | OTHERS if MODEL.key in one}
    # A message that the receiver refuses is sent again with the same key.
    assert len(hook.received) == len({one["key"] for one in hook.received}) + REFUSALS.count(503)
    told = {one["key"]: f"{one['event']} {one['subject']}" for one in hook.received if one["state"] == state}
    assert sorted(told.values()) == sorted((FAILED_CHECKS | OTHERS) - by_mail)
    mails = [one for one in box.mails if f"] {state} incident" in one["Subject"]]
    assert (len(mails), {one["To"] for one in mails}) == (len(by_mail), {MAIL})


def assert_shown(at: WatchedPlatform, address: str, key: str) -> None:
    """Check that the pages show each incident, each drifted feature, and the warning about the lost category."""
    overview = html.unescape(page(address, key)).replace("<strong>", "").replace("</strong>", "")
    for incident in at.desk.incidents.list():
        assert incident.title in overview
    assert f"{LOANS}, uniqueness is as usual: warning" in overview
    of_model = html.unescape(page(address, key, f"/monitoring/{MODEL.name}"))
    for feature in MODEL.feature_names:
        assert f"{feature}, requested rows from " in of_model
