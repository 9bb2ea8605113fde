"""The sensor of a landing zone launches its job while files are waiting. Its skip reason counts the files by cause."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from platform_assets.definitions import resources
from platform_assets.landing import sensors
from platform_assets.landing.sensors import files_landed_sensor
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.landing.yard import (
    DECLARED,
    HEADER,
    JOB,
    Yard,
    YardSettings,
    parcels,
    parcels_landed,
    take_parcels,
)

if TYPE_CHECKING:
    from platform_assets_tests.landing.conftest import OpenYard

pytestmark = pytest.mark.requirement("PLT-2", "SEN-1")


@dataclass
class Watched:
    """A landing zone and its sensor. `tick` evaluates the sensor as Dagster's daemon does."""

    yard: Yard
    instance: dg.DagsterInstance
    sensor: dg.SensorDefinition = parcels_landed
    resources: tuple[str, ...] = ("zones",)

    @property
    def repository(self) -> dg.RepositoryDefinition:
        given = resources(lambda: self.yard.services)
        return dg.Definitions(
            [parcels], jobs=[take_parcels], sensors=[self.sensor], resources=given, executor=dg.in_process_executor
        ).get_repository_def()

    def tick(self, cursor: str | None = None) -> str:
        """Return `launch`, or the reason to skip."""
        services = self.yard.services
        given = {name: getattr(services, name) for name in self.resources}
        repository = self.repository
        context = dg.build_sensor_context(
            instance=self.instance, cursor=cursor, resources=given, repository_def=repository
        )
        with context:
            data = self.sensor.evaluate_tick(context)
        if not data.run_requests:
            return str(data.skip_message).replace(self.yard.root, "ZONE")
        [request] = data.run_requests
        assert request.run_key is None
        return "launch"

    def run(self, *, may_fail: bool = False) -> dg.ExecuteInProcessResult:
        job = self.repository.get_job(JOB)
        result = job.execute_in_process(instance=self.instance, raise_on_error=False)
        assert result.success != may_fail
        return result


@pytest.fixture
def watched(yard: Yard, instance: dg.DagsterInstance) -> Watched:
    return Watched(yard, instance)


NOTHING = "no file in ZONE (PLATFORM_YARD_URI) is ready"


def test_each_new_file_launches_the_job_once_even_if_the_cursor_or_dagsters_storage_is_lost(
    watched: Watched, instance: dg.DagsterInstance
) -> None:
    assert watched.tick() == NOTHING
    watched.yard.drop("a.txt", f"{HEADER}1,1\n")
    assert watched.tick() == "launch"
    assert watched.tick() == "launch"
    watched.run()
    for cursor in (None, "", "nonsense"):
        assert watched.tick(cursor) == f"{NOTHING}; landed but not processed: 1"
    watched.yard.drop("copy.txt", f"{HEADER}1,1\n")
    instance.wipe()
    assert watched.tick() == f"{NOTHING}; landed but not processed: 1"
    watched.yard.drop("b.txt", f"{HEADER}2,1\n")
    assert watched.tick() == "launch"
    watched.run()
    assert len(watched.yard.rows()) == 2


def test_no_run_is_launched_while_another_run_of_the_job_is_unfinished(
    watched: Watched, instance: dg.DagsterInstance
) -> None:
    watched.yard.drop("a.txt", f"{HEADER}1,1\n")
    run = instance.create_run_for_job(watched.repository.get_job(JOB), status=dg.DagsterRunStatus.STARTED)
    assert watched.tick() == f"run {run.run_id} of {JOB} has not finished; ready: 1"
    instance.report_run_canceled(run)
    assert "consecutive failed runs of take_parcels: 1; the next run starts at " in watched.tick()


def test_the_skip_reason_counts_waiting_files_and_gives_the_cause(
    open_yard: OpenYard, instance: dg.DagsterInstance
) -> None:
    watched = Watched(open_yard(yard_settle_seconds=30), instance)
    watched.yard.drop("empty.txt", "")
    watched.yard.drop("a.txt", f"{HEADER}1,1\n")
    watched.yard.drop("b.txt", f"{HEADER}2,1\n")
    said = watched.tick()
    assert said == f"{NOTHING}; just written or not yet read: 3, for example a.txt"
    watched.yard.pass_time(31)
    assert watched.tick() == "launch"
    watched.yard.remove("b.txt")
    watched.run()
    assert watched.tick() == (f"{NOTHING}; landed but not processed: 1; removed before landing: 1; unusable: 1")


def test_failed_runs_are_retried_after_increasing_waits(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "ZONE_RETRY", (-1, 3_600))
    watched.yard.drop("a.txt", f"{HEADER}1,1\n")
    root = watched.yard.root
    for launch in ("launch", f"consecutive failed runs of {JOB}: 2; the next run starts at "):
        watched.yard.files.mv(root, f"{root} away", recursive=True)
        watched.run(may_fail=True)
        watched.yard.files.mv(f"{root} away", root, recursive=True)
        assert watched.tick().startswith(launch)
    # A successful manual run ends the wait.
    watched.run()
    watched.yard.drop("b.txt", f"{HEADER}2,1\n")
    assert watched.tick() == "launch"


def test_landed_files_launch_the_job_as_soon_as_they_can_be_processed(yard: Yard, instance: dg.DagsterInstance) -> None:
    held: list[str] = ["the model has no champion"]

    def waits_for(context: dg.SensorEvaluationContext) -> str | None:
        assert context.resources.retention
        return held[0] if held else None

    sensor = files_landed_sensor("parcels_landed", DECLARED, JOB, waits_for, {"retention"})
    watched = Watched(yard, instance, sensor, ("zones", "retention"))
    yard.drop("a.txt", f"{HEADER}1,1\n")
    watched.run()
    assert watched.tick() == f"{NOTHING}; landed but not processed: 1 (the model has no champion)"
    held.clear()
    assert watched.tick() == "launch"
    with yard.services.database.pooled() as connection, connection.transaction():
        yard.zone.mark_processed(connection, [yard.file("a.txt").digest], "run")
    assert watched.tick() == NOTHING


def test_with_live_sources_the_sensor_skips_if_the_zones_uri_is_not_set(
    tmp_path: Any, instance: dg.DagsterInstance
) -> None:
    with closing(Services(Settings(home=tmp_path, sources="live"), (YardSettings(),))) as services:
        assert Watched(Yard(services, str(tmp_path)), instance).tick() == "PLATFORM_YARD_URI is not set"
    assert not (tmp_path / "postgres").exists()


def test_an_unreachable_zone_fails_the_tick_with_an_error_that_contains_no_password(
    open_yard: OpenYard, instance: dg.DagsterInstance
) -> None:
    watched = Watched(open_yard("ftp://reader:hunter2-of-the-zone@127.0.0.1:1/in"), instance)
    with pytest.raises(Exception, match="/in .PLATFORM_YARD_URI. cannot be listed: ") as raised:
        watched.tick()
    assert "hunter2" not in str(raised.value)
