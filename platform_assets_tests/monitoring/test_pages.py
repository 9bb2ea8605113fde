"""The monitoring pages: models, charts, incidents and the work list."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from platform_assets.domains import model_spec
from platform_assets.monitoring import overview
from platform_assets.monitoring.charts import DayValue, chart
from platform_assets.monitoring.daily.judging import as_rows
from platform_assets.monitoring.daily.schemas import MODEL_DAYS, TABLE_DAYS
from platform_assets.monitoring.daily.series import Point
from platform_assets.monitoring.drift.evidence import Found
from platform_assets.monitoring.drift.history import MeasuredBatch, Stream
from platform_assets.monitoring.drift.performance_estimate import PerformanceEstimate
from platform_assets_tests.approval.test_browser import CONTRAST, DESK, FAINT_TEXTS, PHONE, page_of, tab_to
from platform_assets_tests.conftest import started_browser
from platform_assets_tests.service import Visitor, keys_of, served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI
    from playwright.sync_api import Browser

    from platform_assets.services import Services
    from platform_assets_tests.service import People

MODEL = "sensor_maintenance_model"
PAGE = f"/monitoring/{MODEL}"
TODAY = datetime.now(UTC).date()
RECORDED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DEVICE = (
    "insert into sensor_maintenance.devices (device, file_digest, line, file_name, recorded_at, probability, "
    "needs_maintenance, threshold, model_version, approval_id, outside_training_range, predicted_at) "
    "values (%s, repeat('a', 64), 1, 'f.csv', %s, %s, %s, 0.5, 1, 1, false, %s)"
)


def publish(services: Services, name: str, rows: list[dict[str, Any]]) -> None:
    with services.engine.stage(pd.DataFrame(rows)) as staged:
        services.tables.publish(name, staged, metadata={})


def devices(services: Services, *flagged: str) -> None:
    """Replace the devices' newest decisions. The given devices need maintenance; the device "healthy" does not."""
    with services.database.pooled() as connection:
        connection.execute(b"delete from sensor_maintenance.devices")
        for number, device in enumerate((*flagged, "healthy")):
            values = [device, RECORDED, 0.99 - number / 100, device != "healthy", RECORDED]
            connection.execute(DEVICE.encode(), values)
        connection.commit()


@pytest.fixture(scope="module", autouse=True)
def measured(services: Services) -> None:
    """Publish 30 days of measurements of a model, with alarms on the last day, and one alarm about a table."""
    rows = []
    for ago in range(30, 0, -1):
        alarm = ago == 1
        points = [
            Point("predictions", 100.0 - 60 * alarm, judged=4.6, noise=0.1, is_open=alarm),
            Point("agreement", 0.9, low=0.85, high=0.95, told="as in the holdout"),
            Point("champion_age", 200.0, told="too old", is_open=alarm),
            Point("failed", 0.0, told="measured"),
        ]
        rows += as_rows(MODEL, TODAY - timedelta(days=ago), points)
    publish(services, MODEL_DAYS.name, rows)
    late = Point("age", 80.0, judged=4.4, noise=0.1, is_open=True)
    publish(services, TABLE_DAYS.name, as_rows("credit_risk/loans", TODAY, [late]))


@pytest.fixture(scope="module")
def worker(services: Services) -> str:
    """Key of a person who may read and label."""
    return keys_of(services).add("workshop", "wanda", {"read", "label"})


@pytest.mark.requirement("MON-1", "MON-2")
def test_the_overview_lists_models_with_alarms_first_and_shows_tables_with_alarms(app: FastAPI, people: People) -> None:
    page = Visitor(app).sign_in(people.rita).see("/monitoring").text
    assert "Models with an alarm: 1 of " in page
    assert "Tables with an alarm: 1." in page
    assert page.index(MODEL) < page.index("credit_risk_model")
    assert "Predictions per day: 40 on " in page
    assert "<strong>credit_risk/loans</strong>, freshness is as usual: failed, " in page
    assert "Launch the job <code>monitor</code>" in page


@pytest.mark.requirement("MON-1")
def test_the_page_of_a_model_shows_its_checks_charts_and_incidents(
    services: Services, app: FastAPI, people: People
) -> None:
    services.incidents.open_incident(
        cause=f"check_failed sensor_maintenance/{MODEL} volume_is_as_usual",
        title="volume is down <b>now</b>",
        severity="error",
        owners=(),
        link="/runs/1",
    )
    [incident] = services.incidents.list()
    services.incidents.silence(incident.id, datetime.now(UTC) + timedelta(hours=1), "anna", "disk <b>replaced</b>")
    page = Visitor(app).sign_in(people.rita).see(PAGE).text
    assert "<strong>volume is as usual</strong>: failed," in page
    assert "<strong>champion is recent</strong>: warning, too old" in page
    assert "<strong>latency is as usual</strong>: no result, no values to check yet" in page
    assert 'aria-label="Predictions per day from ' in page
    assert "lowest 40 predictions, highest 100 predictions, 1 day with an alarm" in page
    assert "volume is down &lt;b&gt;now&lt;/b&gt;" in page
    assert re.search(r", silenced until \S+ \S+ UTC by anna: disk &lt;b&gt;replaced&lt;/b&gt;", page)
    assert "No version has been promoted yet." in page


@pytest.mark.requirement("MON-1")
def test_the_pages_show_drift_of_new_rows_even_if_monitor_has_not_run(
    services: Services, app: FastAPI, people: People
) -> None:
    known = PerformanceEstimate(None, None)
    drifted, usual = Found(0.6, 9.0, 5.0, "higher"), Found(0.1, 0.5, 5.0, "as before")
    batches = [
        MeasuredBatch("batch", "a", "usual.txt", RECORDED, {"heat": usual}, 24, frozenset(), known, RECORDED),
        MeasuredBatch("batch", "b", "hot.txt", RECORDED, {"heat": drifted}, 96, frozenset({"heat"}), known, RECORDED),
    ]
    stream = Stream(MODEL, "sensor_maintenance/readings_incoming")
    services.drift_history.add(stream, 3, batches, ("training rows", {}), "run")
    told = (
        "warning, drift in heat in 1 of 2 batches, first in hot.txt; measured: "
        "120 rows in 2 batches, compared with version 3"
    )
    visitor = Visitor(app).sign_in(people.rita)
    page = visitor.see(PAGE).text
    assert f"<strong>new rows are as in training</strong>: {told} of {MODEL}" in page
    assert "has not been measured yet" not in page
    assert told in visitor.see("/monitoring").text


@pytest.mark.parametrize("path", ["/monitoring", PAGE])
def test_pages_need_a_session_and_signing_in_returns_to_the_requested_page(
    app: FastAPI, path: str, people: People
) -> None:
    response = Visitor(app).see(path)
    assert (response.status_code, response.headers["location"]) == (303, f"/sign-in?next={path.replace('/', '%2F')}")
    visitor = Visitor(app)
    visitor.see("/sign-in")
    assert visitor.send("/sign-in", key=people.rita, next=path).headers["location"] == path


def test_an_unknown_model_is_not_found(app: FastAPI, people: People) -> None:
    response = Visitor(app).sign_in(people.rita).see("/monitoring/nonsense")
    assert response.status_code == 404
    assert "There is no model with this name; the models are " in response.text
    assert '<p><a href="/monitoring">Monitoring</a></p>' in response.text
    assert '<a href="/monitoring" aria-current="true">Monitoring</a>' in response.text


@pytest.mark.requirement("MON-1")
def test_a_model_with_new_rows_is_not_measured_until_monitor_has_run(services: Services) -> None:
    another = dataclasses.replace(model_spec(MODEL), key="sensor_maintenance/another_model")
    is_measured, results, charts = overview.model(services.tables, services.drift_history, another)
    assert (is_measured, [one.passed for one in results], charts) == (False, [None], [])


@pytest.mark.requirement("MON-1", "MON-5")
@pytest.mark.parametrize(("outcome", "label"), [("done", 1.0), ("wrong", 0.0)])
def test_marking_a_device_records_a_label_and_removes_the_device_from_the_work_list(
    services: Services, app: FastAPI, worker: str, outcome: str, label: float
) -> None:
    device = f"press {outcome}"
    devices(services, device, "other")
    visitor = Visitor(app).sign_in(worker)
    assert device in visitor.see(PAGE).text
    response = visitor.send(f"{PAGE}/work", subject=device, at=RECORDED.isoformat(), outcome=outcome)
    assert (response.status_code, response.headers["location"]) == (303, f"{PAGE}#work")
    [kept] = services.labels.history(MODEL, subject=device)
    assert (kept.label, kept.at, kept.sender, kept.standing) == (label, RECORDED, "workshop", "current")
    page = visitor.see(PAGE).text
    assert device not in page
    assert "other" in page
    assert "healthy" not in page


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"outcome": "maybe"}, 422),
        ({"at": "yesterday"}, 422),
        ({"at": "2026-01-02T03:04:05"}, 422),
        ({"subject": ""}, 404),
        ({"subject": "drill"}, 404),
        ({"subject": "lathe\0"}, 404),
        ({"csrf_token": "forged"}, 403),
    ],
)
def test_an_invalid_form_records_no_label(
    services: Services, app: FastAPI, worker: str, fields: dict[str, str], status: int
) -> None:
    devices(services, "lathe")
    visitor = Visitor(app).sign_in(worker)
    visitor.see(PAGE)
    sent = {"subject": "lathe", "at": RECORDED.isoformat(), "outcome": "done"} | fields
    assert visitor.send(f"{PAGE}/work", **sent).status_code == status
    assert services.labels.history(MODEL, subject="lathe") == services.labels.history(MODEL, subject="drill") == []


def test_without_the_scope_label_the_page_has_no_buttons_and_marking_is_refused(
    services: Services, app: FastAPI, people: People
) -> None:
    devices(services, "lathe")
    visitor = Visitor(app).sign_in(people.rita)
    page = visitor.see(PAGE).text
    assert "sign in with a key that has the scope <code>label</code>" in page
    assert "/work" not in page
    sent = {"subject": "lathe", "at": RECORDED.isoformat(), "outcome": "done"}
    assert visitor.send(f"{PAGE}/work", **sent).status_code == 403


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started_browser() as browser:
        yield browser


@pytest.mark.requirement("MON-1")
def test_the_pages_fit_a_phone_and_can_be_used_by_keyboard(
    services: Services, app: FastAPI, worker: str, browser: Browser
) -> None:
    devices(services, "saw")
    with served(app) as address:
        for size, scheme in ((PHONE, "light"), (DESK, "dark")):
            with page_of(browser, size, scheme) as page:
                page.goto(f"{address}/sign-in?next=/monitoring")
                page.fill("input[type=password]", worker)
                page.keyboard.press("Enter")
                page.wait_for_url(f"{address}/monitoring")
                for path in ("/monitoring", PAGE):
                    page.goto(f"{address}{path}")
                    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
                    assert page.evaluate(FAINT_TEXTS, CONTRAST) == []
                    assert page.locator("svg[role=img]").count() >= 1
                if size is DESK:
                    tab_to(page, "Wrong prediction: saw")
                    page.keyboard.press("Enter")
                    page.wait_for_url(f"{address}{PAGE}#work")
                    assert page.locator(".tasks li").count() == 0


def test_a_chart_has_a_text_summary() -> None:
    days = [DayValue(date(2026, 1, day), value, alarm=value < 0.2) for day, value in ((1, 0.5), (2, 0.25), (4, 0.125))]
    drawn = chart("Failed requests", "share", days)
    assert drawn is not None
    assert drawn.summary == (
        "Failed requests from 2026-01-01 to 2026-01-04: newest 12.5%, lowest 12.5%, highest 50.0%, 1 day with an alarm"
    )
    assert drawn.line == "6,6 108.7,71.3 314,104"
    assert drawn.alarms == ((314.0, 104.0),)
    assert chart("Empty", "", [DayValue(date(2026, 1, 1), float("nan"))]) is None
