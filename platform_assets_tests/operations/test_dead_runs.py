from __future__ import annotations

import contextlib
import os
import signal
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from platform_assets.operations.dead_runs import fail_dead_runs
from platform_assets.operations.defs import dead_run_sensor
from platform_assets.orchestration.storage import PlatformEventLog, dagster_instance
from platform_assets_tests.instances import empty_instance
from platform_assets_tests.operations import slow_run
from platform_assets_tests.postgres import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from platform_assets_tests.warm import Process, WarmParent


@pytest.fixture
def instance(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("PLATFORM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PLATFORM_DATABASE_URL", database_url)
    with dagster_instance() as instance:
        yield instance


@contextlib.contextmanager
def running(warm: WarmParent, note: Path, *arguments: str) -> Iterator[tuple[Process, str]]:
    """Start a process that waits in the middle of a run. Yield the process and the run's id."""
    with warm.start(slow_run.main, note, *arguments) as process:
        wait_until(note.exists, "the run was in progress")
        yield process, note.read_text().split()[0]


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def set_row(instance: dg.DagsterInstance, run_id: str, assignment: str) -> None:
    with event_log(instance).run_connection() as connection:
        connection.exec_driver_sql(f"update runs set {assignment} where run_id = %s", (run_id,))


def event_log(instance: dg.DagsterInstance) -> PlatformEventLog:
    log = instance.event_log_storage
    assert isinstance(log, PlatformEventLog)
    return log


@pytest.mark.requirement("PLT-10")
def test_a_killed_run_is_marked_as_failed_but_a_live_run_is_not(
    instance: dg.DagsterInstance, warm: WarmParent, tmp_path: Path
) -> None:
    with running(warm, tmp_path / "one") as (doomed, dead), running(warm, tmp_path / "two") as (survivor, live):
        assert fail_dead_runs(instance) == []
        doomed.kill()
        doomed.wait()
        assert status(instance, dead) == dg.DagsterRunStatus.STARTED
        assert fail_dead_runs(instance) == [dead]
        assert fail_dead_runs(instance) == []
        assert status(instance, dead) == dg.DagsterRunStatus.FAILURE
        (failure,) = instance.all_logs(dead, of_type=dg.DagsterEventType.RUN_FAILURE)
        assert failure.get_dagster_event().message is not None
        assert "the process of this run has died" in str(failure.get_dagster_event().message)
        survivor.stdin.write("go on\n")
        survivor.stdin.flush()
        assert survivor.wait() == 0
        assert status(instance, live) == dg.DagsterRunStatus.SUCCESS


@pytest.mark.requirement("PLT-10")
def test_a_killed_run_that_was_being_cancelled_is_marked_as_failed(
    instance: dg.DagsterInstance, warm: WarmParent, tmp_path: Path
) -> None:
    with running(warm, tmp_path / "note") as (process, run_id):
        run = instance.get_run_by_id(run_id)
        assert run is not None
        instance.report_run_canceling(run)
        assert fail_dead_runs(instance) == []
        process.kill()
        process.wait()
        assert fail_dead_runs(instance) == [run_id]


@pytest.mark.requirement("PLT-10")
def test_a_killed_run_is_marked_as_failed_even_if_its_child_process_is_still_alive(
    instance: dg.DagsterInstance, warm: WarmParent, tmp_path: Path
) -> None:
    with running(warm, tmp_path / "note", "fork") as (process, run_id):
        process.kill()
        process.wait()
        child = int((tmp_path / "note").read_text().split()[1])
        try:
            assert fail_dead_runs(instance) == [run_id]
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    ("run_status", "minutes", "expected"),
    [
        (dg.DagsterRunStatus.NOT_STARTED, 11, dg.DagsterRunStatus.FAILURE),
        (dg.DagsterRunStatus.STARTING, 11, dg.DagsterRunStatus.FAILURE),
        (dg.DagsterRunStatus.NOT_STARTED, 9, dg.DagsterRunStatus.NOT_STARTED),
        (dg.DagsterRunStatus.STARTING, 9, dg.DagsterRunStatus.STARTING),
    ],
)
def test_a_run_that_never_started_is_marked_as_failed_after_ten_minutes(
    instance: dg.DagsterInstance, run_status: dg.DagsterRunStatus, minutes: int, expected: dg.DagsterRunStatus
) -> None:
    run = create_run_for_test(instance, status=run_status)
    past = f"now() at time zone 'utc' - interval '{minutes} minutes'"
    set_row(instance, run.run_id, f"create_timestamp = {past}, update_timestamp = {past}")
    assert fail_dead_runs(instance) == ([run.run_id] if expected == dg.DagsterRunStatus.FAILURE else [])
    assert status(instance, run.run_id) == expected


@pytest.mark.parametrize(("hours", "is_dead"), [(1, False), (25, True)])
def test_a_run_that_waits_in_a_celery_queue_is_marked_as_failed_after_a_day(
    instance: dg.DagsterInstance, hours: int, is_dead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_RUN_LAUNCHER", "celery")
    monkeypatch.setenv("PLATFORM_CELERY_BROKER_URL", "redis://host.invalid")
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTING)
    past = f"now() at time zone 'utc' - interval '{hours} hours'"
    set_row(instance, run.run_id, f"create_timestamp = {past}, update_timestamp = {past}")
    assert fail_dead_runs(instance) == [run.run_id] * is_dead


def test_a_sensor_marks_dead_runs_as_failed(instance: dg.DagsterInstance) -> None:
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    tick = dead_run_sensor().evaluate_tick(dg.build_sensor_context(instance=instance))
    assert tick.skip_message == f"runs marked as failed: {run.run_id}"
    assert status(instance, run.run_id) == dg.DagsterRunStatus.FAILURE


def test_a_run_killed_after_its_success_event_is_marked_as_successful(instance: dg.DagsterInstance) -> None:
    @dg.asset
    def done() -> None: ...

    run_id = dg.materialize([done], instance=instance).run_id
    set_row(instance, run_id, "status = 'STARTED'")
    assert fail_dead_runs(instance) == []
    assert status(instance, run_id) == dg.DagsterRunStatus.SUCCESS


def test_no_run_is_marked_as_failed_shortly_after_a_restart_of_the_database(instance: dg.DagsterInstance) -> None:
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    set_row(instance, run.run_id, "start_time = 0")
    assert fail_dead_runs(instance, locks_are_back=timedelta(days=1)) == []
    assert fail_dead_runs(instance, locks_are_back=timedelta(0)) == [run.run_id]


def test_an_instance_without_the_platforms_event_log_is_refused() -> None:
    with empty_instance() as instance, pytest.raises(TypeError, match="PlatformEventLog"):
        fail_dead_runs(instance)
