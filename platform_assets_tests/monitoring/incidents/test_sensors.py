"""Incidents that the sensors open and close. `integration/test_monitoring.py` tests all kinds of incidents."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from dagster._core.definitions.run_status_sensor_definition import RunStatusSensorCursor
from dagster._serdes import serialize_value

from platform_assets.models.memory_registry import MemoryRegistry
from platform_assets.monitoring.incidents.sensors import position
from platform_assets.orchestration import history
from platform_assets.orchestration.storage import dagster_instance
from platform_assets_tests.approval.promotions import Works
from platform_assets_tests.approval.proposals import prepared
from platform_assets_tests.monitoring.incidents.conftest import desk
from platform_assets_tests.monitoring.incidents.plant import OWNER, PRICES, Plant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import dagster as dg

    from platform_assets.database.connections import Database

HOUR = timedelta(hours=1)


@pytest.fixture
def instance(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Dagster instance with the platform's storage. An in-memory instance would not store schedules and sensors."""
    monkeypatch.setenv("PLATFORM_HOME", str(tmp_path))
    monkeypatch.setenv("PLATFORM_DATABASE_URL", database_url)
    with dagster_instance() as instance:
        yield instance


@pytest.fixture
def new_plant(database: Database, tmp_path: Path, instance: dg.DagsterInstance) -> Plant:
    works = Works(prepared(database), MemoryRegistry(), tmp_path, database.lock)
    return Plant(desk(database, {}), works, instance)


@pytest.fixture
def plant(new_plant: Plant) -> Plant:
    """The code location of `plant.py`, after its sensors have been evaluated once."""
    new_plant.look()
    return new_plant


def causes(plant: Plant) -> list[str]:
    return sorted(one.cause for one in plant.desk.incidents.list())


@pytest.mark.requirement("MON-3")
def test_the_incident_of_a_failed_run_closes_when_the_runs_assets_are_materialised(plant: Plant) -> None:
    plant.broken = {"run"}
    plant.materialise()
    plant.materialise()
    plant.materialise(PRICES, "2026-01")
    plant.look()
    sales, prices = causes(plant)[1], causes(plant)[0]
    assert (prices, sales) == ("run_failed shop/prices [2026-01]", "run_failed shop/sales")
    found = next(one for one in plant.desk.incidents.list() if one.cause == sales)
    assert found.title == "the run of shop/sales failed: the file sales.csv has no rows"
    assert (found.owners, found.seen) == ([OWNER], 2)
    assert found.link == f"/runs/{found.occurrence}"
    plant.broken = set()
    plant.materialise(PRICES, "2026-02")
    plant.look()
    assert causes(plant) == [prices, sales]
    plant.materialise(PRICES, "2026-01")
    plant.materialise()
    plant.look()
    assert causes(plant) == []


@pytest.mark.requirement("MON-3")
def test_the_incident_of_a_failed_job_closes_when_the_job_succeeds(plant: Plant) -> None:
    plant.broken = {"op"}
    plant.run("count")
    plant.look()
    assert causes(plant) == ["run_failed count"]
    plant.broken = set()
    plant.run("count")
    plant.look()
    assert causes(plant) == []


def test_runs_that_failed_before_the_first_evaluation_open_no_incident(new_plant: Plant) -> None:
    new_plant.broken = {"run"}
    new_plant.materialise()
    new_plant.look()
    assert causes(new_plant) == []
    new_plant.materialise()
    new_plant.look()
    assert causes(new_plant) == ["run_failed shop/sales"]


def test_the_cursor_of_an_older_release_can_be_read() -> None:
    moment = "2026-11-01T00:00:00+00:00"
    old = serialize_value(RunStatusSensorCursor(17, record_timestamp=moment))  # type: ignore[no-untyped-call]  # Dagster's
    assert json.loads(old)["record_id"] == 17
    assert (position(old), position("18"), position(None), position("?")) == (17, 18, None, None)


@pytest.mark.requirement("MON-3")
def test_a_failed_check_of_severity_warn_opens_no_incident(plant: Plant) -> None:
    plant.broken = {"check", "warning"}
    plant.materialise()
    plant.look()
    assert causes(plant) == []


NIGHT = datetime(2026, 11, 3, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "since", "late"),
    [
        (NIGHT + timedelta(minutes=11), NIGHT - HOUR, NIGHT),
        (NIGHT + timedelta(minutes=9), NIGHT - HOUR, None),
        # The daemon started after the schedule was due.
        (NIGHT + HOUR, NIGHT + timedelta(minutes=1), None),
    ],
)
def test_a_schedule_is_reported_as_silent_if_it_was_not_evaluated_when_due(
    plant: Plant, now: datetime, since: datetime, late: datetime | None
) -> None:
    plant.ticked("nightly", datetime.now(UTC) - (NIGHT - 5 * HOUR))
    [state] = history.automation_states(plant.instance, plant.repository, now, since)
    assert (state.name, state.silent_since) == ("nightly", late)


def test_a_sensor_is_reported_after_two_minutes_of_failures_other_than_an_unreachable_code_location(
    plant: Plant,
) -> None:
    now = datetime.now(UTC)

    def failures() -> list[str | None]:
        states = history.automation_states(plant.instance, plant.repository, now, now)
        return [state.failure for state in sorted(states, key=lambda one: one.name)]

    for name, kind in (("prices_arrived", history.UNREACHABLE_CODE), ("sales_arrived", "PlatformError")):
        plant.ticked(name, timedelta(minutes=5))
        plant.ticked(name, timedelta(minutes=3), "no such folder", kind)
        plant.ticked(name, timedelta(minutes=1), "no such file")
    assert failures() == [None, "no such file"]
    plant.ticked("sales_arrived", timedelta(0))
    assert failures() == [None, None]


def test_a_sensor_is_reported_as_silent_after_ten_minutes_without_evaluation(plant: Plant) -> None:
    plant.ticked("sales_arrived", timedelta(minutes=11))
    now = datetime.now(UTC)
    [state] = history.automation_states(plant.instance, plant.repository, now, now - HOUR)
    assert state.silent_since is not None
    assert state.page == "/locations/__repository__@platform_assets/sensors/sales_arrived"
    # The daemon was down, and has been back for two minutes.
    [state] = history.automation_states(plant.instance, plant.repository, now, now - timedelta(minutes=2))
    assert state.silent_since is None
