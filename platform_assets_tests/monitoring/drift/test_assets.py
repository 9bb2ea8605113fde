"""Dagster evaluates the drift check of new rows, and the sensor that launches a job after an alarm."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from platform_assets.monitoring.defs import definitions
from platform_assets.monitoring.drift.assets import drift_check
from platform_assets.monitoring.drift.reference import JOINT, PROBABILITY
from platform_assets.monitoring.drift.sensors import ALARM_TAG, drift_sensor
from platform_assets.orchestration.declared import Declared
from platform_assets_tests.instances import empty_instance
from platform_assets_tests.monitoring.drift.arrivals import INCOMING, SPEC, Station, batch
from platform_assets_tests.training.breakage_model import ONE_CANDIDATE

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECK = f"distribution_is_as_in_training_of_{SPEC.name}"
KEY = dg.AssetKey(INCOMING.table.split("/"))


@dg.asset(key=KEY)
def readings_incoming() -> None: ...


@dg.op
def nothing() -> None: ...


def job_of(name: str) -> dg.JobDefinition:
    @dg.job(name=name)
    def job() -> None:
        nothing()

    return job


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with empty_instance() as instance:
        yield instance


def checked(station: Station, instance: dg.DagsterInstance) -> dg.AssetCheckEvaluation:
    """Materialise the table and run its drift check. Return the result of the check."""
    result = dg.materialize(
        [readings_incoming, drift_check(SPEC, INCOMING)],
        instance=instance,
        resources={
            "drift_monitor": dg.ResourceDefinition.hardcoded_resource(station.monitor),
            "drift_history": dg.ResourceDefinition.hardcoded_resource(station.history),
        },
    )
    assert result.success
    [evaluation] = result.get_asset_check_evaluations()
    assert (evaluation.check_name, evaluation.asset_key) == (CHECK, KEY)
    return evaluation


@pytest.mark.requirement("SEN-8", "MON-1")
def test_the_check_warns_and_shows_both_distributions(station: Station, instance: dg.DagsterInstance) -> None:
    station.arrive(batch("usual.csv"))
    usual = checked(station, instance)
    assert usual.passed
    assert usual.description == "no drift in 100 rows in 1 batch, compared with version 1 of breakage_model"
    station.arrive(batch("hot.csv", shift=2.0, days=1))
    hot = checked(station, instance)
    assert (hot.passed, hot.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert hot.description == (
        f"drift in {JOINT}, heat, {PROBABILITY} in 1 of 1 batch, first in hot.csv; measured: "
        "100 rows in 1 batch, compared with version 1 of breakage_model"
    )
    metadata: dict[str, Any] = {name: value.value for name, value in hot.metadata.items()}
    for column in ("heat", "noise", PROBABILITY):
        text = metadata[f"plot of {column}"]
        assert base64.b64decode(text.split(",")[1].rstrip(")")).startswith(b"\x89PNG")
    assert metadata["distance of heat"] > 0.5 > metadata["distance of noise"]
    assert "| heat" in metadata["columns"]
    assert ", above the tolerated range of " in metadata["columns"]
    assert "unknown" in metadata["newest_batches"]
    assert "2026-01-02" in metadata["days"]


def test_a_check_without_new_rows_keeps_the_result_of_the_last_measurement(
    station: Station, instance: dg.DagsterInstance
) -> None:
    assert checked(station, instance).description == (
        "nothing has been measured yet: the table somewhere/readings_incoming does not exist yet"
    )
    station.arrive(batch("usual.csv"), batch("hot.csv", shift=2.0, days=1))
    assert not checked(station, instance).passed
    again = checked(station, instance)
    assert not again.passed
    assert again.description is not None
    assert " in 1 of 2 batches, first in hot.csv" in again.description
    assert "no new rows have arrived since the last measurement" in again.description
    station.arrive(batch("usual again.csv", days=2))
    assert checked(station, instance).passed


def test_the_check_fails_with_the_reason_if_new_rows_cannot_be_measured(
    station: Station, instance: dg.DagsterInstance
) -> None:
    station.arrive(batch("a.csv").drop(columns="noise"))
    result = checked(station, instance)
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert result.description is not None
    assert result.description.startswith("not measured: somewhere/readings_incoming has no column 'noise'")


class Watcher:
    """The sensor, with the jobs that it can launch."""

    def __init__(self, station: Station, instance: dg.DagsterInstance, cool_down: timedelta) -> None:
        self.station, self.instance = station, instance
        sensor = drift_sensor(SPEC, INCOMING, "evaluate", cool_down)
        jobs = [job_of(f"{action}_{SPEC.name}") for action in ("evaluate", "train")]
        self.definitions = dg.Definitions(
            sensors=[sensor],
            jobs=jobs,
            resources={"drift_history": dg.ResourceDefinition.hardcoded_resource(station.history)},
        )

    def tick(self) -> dg.RunRequest | str:
        """Evaluate the sensor. Return the requested run, or the reason to skip."""
        repository = self.definitions.get_repository_def()
        context = dg.build_sensor_context(
            instance=self.instance,
            resources={"drift_history": self.station.history},
            repository_def=repository,
        )
        data = repository.get_sensor_def(f"{SPEC.name}_drift").evaluate_tick(context)
        return data.run_requests[0] if data.run_requests else str(data.skip_message)

    def launch(self, request: dg.RunRequest) -> None:
        """Run the requested job with the tags that the daemon would add."""
        job = self.definitions.resolve_job_def(request.job_name or f"evaluate_{SPEC.name}")
        job.execute_in_process(
            instance=self.instance, tags={**request.tags, "dagster/sensor_name": f"{SPEC.name}_drift"}
        )


@pytest.mark.requirement("SEN-8")
def test_each_alarm_launches_one_run_except_during_a_cool_down(station: Station, instance: dg.DagsterInstance) -> None:
    watcher = Watcher(station, instance, timedelta(hours=1))
    assert watcher.tick() == "no drift alarm in somewhere/readings_incoming"
    station.arrive(batch("hot.csv", shift=2.0))
    station.measure()
    request = watcher.tick()
    assert isinstance(request, dg.RunRequest)
    assert request.tags[ALARM_TAG] == "digest of hot.csv"
    # Until the daemon has launched the run, every evaluation requests the same run.
    again = watcher.tick()
    assert isinstance(again, dg.RunRequest)
    assert again.run_key == request.run_key
    watcher.launch(request)
    assert watcher.tick() == "evaluate_breakage_model was already launched for the newest alarm, hot.csv"
    station.arrive(batch("hotter.csv", shift=3.0, days=1))
    station.measure()
    skipped = watcher.tick()
    assert isinstance(skipped, str)
    assert skipped.endswith("; the cool-down is 1:00:00")
    later = Watcher(station, instance, timedelta(0)).tick()
    assert isinstance(later, dg.RunRequest)
    assert later.tags[ALARM_TAG] == "digest of hotter.csv"


def test_a_run_not_launched_by_the_sensor_does_not_start_a_cool_down(
    station: Station, instance: dg.DagsterInstance
) -> None:
    watcher = Watcher(station, instance, timedelta(hours=1))
    watcher.definitions.resolve_job_def(f"evaluate_{SPEC.name}").execute_in_process(instance=instance)
    station.arrive(batch("hot.csv", shift=2.0))
    station.measure()
    assert isinstance(watcher.tick(), dg.RunRequest)


@pytest.mark.requirement("SEN-8")
@pytest.mark.parametrize("action", ["none", "evaluate", "train"])
def test_the_setting_selects_the_job_that_the_sensor_launches(monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    monkeypatch.setenv("PLATFORM_DRIFT_ACTION", action)
    monkeypatch.setenv("PLATFORM_DRIFT_COOL_DOWN_HOURS", "1.5")
    made = definitions(Declared([SPEC, ONE_CANDIDATE], dg.Definitions()))
    checks = [key.name for check in made.asset_checks or () for key in check.check_keys]
    assert [name for name in checks if name.startswith("distribution_")] == [CHECK]
    sensors = [sensor for sensor in made.sensors or () if sensor.name not in {"run_failed", "incidents"}]
    if action == "none":
        assert sensors == []
    else:
        [sensor] = sensors
        assert (sensor.name, sensor.job_name) == ("breakage_model_drift", f"{action}_breakage_model")
        assert "at most once per 1:30:00" in (sensor.description or "")
