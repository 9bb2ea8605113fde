"""The job `upkeep`, run in this process with the platform's resources."""

import json
import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from dagster._core.test_utils import create_run_for_test
from pydantic import SecretStr

from platform_assets.base.errors import TableError
from platform_assets.definitions import resources
from platform_assets.lake.lake_identity import IDENTITY_FILE
from platform_assets.models.memory_registry import MemoryRegistry
from platform_assets.models.registry import TABLES_TAG
from platform_assets.operations.defs import upkeep_job, upkeep_schedule
from platform_assets.orchestration.storage import dagster_instance
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.approval.promotions import Works
from platform_assets_tests.approval.proposals import PASSED, prepared, proposal
from platform_assets_tests.instances import empty_instance

NAME, OTHER = "shop/sales", "shop/prices"


@pytest.fixture
def services(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.setenv("PLATFORM_HOME", str(tmp_path))
    monkeypatch.setenv("PLATFORM_DATABASE_URL", database_url)
    services = Services(Settings(home=tmp_path, database_url=SecretStr(database_url)))
    for number in range(3):
        with services.engine.stage(pd.DataFrame({"number": [number]})) as staged:
            services.tables.publish(NAME, staged)
    yield services
    services.close()


def do_upkeep(services: Services, *, raise_on_error: bool = True, **others: Any) -> dg.ExecuteInProcessResult:
    available: Mapping[str, Any] = {
        **resources(lambda: services),
        "pinned_tables": dict,
        "named_artefacts": set,
        **others,
    }
    job = upkeep_job([NAME, "shop/not_made_yet", OTHER])
    with dagster_instance() as instance:
        return job.execute_in_process(instance=instance, resources=available, raise_on_error=raise_on_error)


def readable(services: Services) -> list[int]:
    versions = []
    for number in range(3):
        try:
            services.tables.read(NAME, version=number)
        except TableError:
            continue
        versions.append(number)
    return versions


@pytest.mark.requirement("PLT-10")
@pytest.mark.parametrize(
    ("retention", "pinned", "kept"),
    [
        (timedelta(days=1), {}, [0, 1, 2]),
        (timedelta(0), {}, [2]),
        (timedelta(0), {NAME: {0}}, [0, 2]),
        (timedelta(0), {"shop/other": {0}}, [2]),
        (timedelta(0), {NAME: {1, 7}}, [1, 2]),
    ],
)
def test_upkeep_keeps_recent_versions_and_pinned_versions(
    services: Services, retention: timedelta, pinned: Mapping[str, set[int]], kept: list[int]
) -> None:
    result = do_upkeep(services, retention=retention, pinned_tables=lambda: pinned)
    assert result.output_for_node("vacuum_tables") == {NAME: 3 - len(kept)}
    assert readable(services) == kept


@pytest.mark.requirement("PLT-7", "PLT-10")
def test_upkeep_keeps_table_versions_that_registered_models_were_trained_on(services: Services) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(services.mlflow_tracking_uri, services.mlflow_tracking_uri)
    client.create_registered_model("a_model")
    client.create_model_version("a_model", "file:///nowhere", tags={TABLES_TAG: json.dumps({NAME: 1})})
    do_upkeep(services, retention=timedelta(0), pinned_tables=services.pinned_tables)
    assert readable(services) == [1, 2]


@pytest.mark.requirement("PLT-10")
def test_upkeep_fails_for_a_damaged_table_after_it_vacuumed_all_other_tables(
    services: Services, tmp_path: Path
) -> None:
    for number in range(2):
        with services.engine.stage(pd.DataFrame({"number": [number]})) as staged:
            services.tables.publish(OTHER, staged)
    newest = tmp_path / "lake" / NAME / "_delta_log" / f"{2:020d}.json"
    newest.write_bytes(b"")
    result = do_upkeep(services, retention=timedelta(0), raise_on_error=False)
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert f"the commit {newest} is empty or truncated" in str(failure.step_failure_data.error)
    with pytest.raises(TableError, match="version 0 of shop/prices cannot be read any more"):
        services.tables.read(OTHER, version=0)


@pytest.mark.requirement("PLT-10")
def test_upkeep_deletes_predictions_older_than_the_retention_period(services: Services) -> None:
    kept = services.settings.predictions_days
    with services.database.connect("platform") as connection:
        connection.execute(
            "insert into platform.predictions select gen_random_uuid(), 0, now() - age * interval '1 day',"
            " 'a_model', 1, 1, 'shop', 'r', null, '{}', 0.5, true, 0.5 from unnest(%s::int[]) age",
            [[0, kept - 1, kept + 1]],
        )
        result = do_upkeep(services)
        assert result.output_for_node("forget_old_predictions") == 1
        assert connection.execute("select count(*) from platform.predictions").fetchone() == (2,)


@pytest.mark.requirement("PLT-10")
def test_upkeep_marks_dead_runs_as_failed_and_removes_their_scratch_files(services: Services) -> None:
    with dagster_instance() as instance:
        dead = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED).run_id
    (services.scratch / "engine-dead").mkdir(parents=True)
    (services.scratch / "engine-dead.owned").touch()
    result = do_upkeep(services)
    assert result.output_for_node("fail_runs_of_dead_processes") == [dead]
    assert result.output_for_node("remove_leftovers") == 1
    with dagster_instance() as instance:
        run = instance.get_run_by_id(dead)
    assert run is not None
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert not (services.scratch / "engine-dead").exists()
    # This process still needs its own scratch folder to read the table, so the folder was not removed.
    assert readable(services) == [0, 1, 2]


@pytest.mark.requirement("PLT-10")
def test_upkeep_removes_model_files_that_no_version_and_no_request_refers_to(services: Services) -> None:
    works = Works(
        prepared(services.database), MemoryRegistry(), services.settings.home / "lake", services.database.lock
    )
    registered, requested = works.train(), "1" * 64
    works.ledger.open_request(proposal(1, digest=requested, evidence={**PASSED, "encoder": "2" * 64}))
    folder = works.file(registered).parent
    names = {f"{requested}.skops", f"{'2' * 64}.encoder", f"{'3' * 64}.skops", f"{'4' * 64}.encoder", "a_note.json"}
    unfinished = f".{'5' * 64}.skops.0123abcd"
    for name in {*names, unfinished}:
        (folder / name).touch()
        os.utime(folder / name, (0, 0))
    (folder / f"{'6' * 64}.skops").touch()
    named = works.registry.named_artefacts() | services.ledger.named_artefacts()
    result = do_upkeep(services, named_artefacts=lambda: named)
    assert result.output_for_node("remove_unnamed_models") == 3
    kept = {f"{registered.digest}.skops", f"{requested}.skops", f"{'2' * 64}.encoder", "a_note.json", IDENTITY_FILE}
    assert {path.name for path in folder.iterdir()} == {*kept, f"{'6' * 64}.skops"}


@pytest.mark.requirement("PLT-10", "PRO-7")
def test_upkeep_keeps_table_versions_that_approval_requests_refer_to(services: Services) -> None:
    ledger = prepared(services.database)
    ledger.open_request(proposal(1, evidence={**PASSED, "tables": {NAME: 1}}))
    ledger.open_request(proposal(2, evidence={**PASSED, "tables": {"shop/other": "none"}}))
    do_upkeep(services, retention=timedelta(0), pinned_tables=services.ledger.named_tables)
    assert readable(services) == [1, 2]


@pytest.mark.requirement("PLT-10")
def test_upkeep_deletes_old_runs_except_those_that_materialised_an_asset(services: Services) -> None:
    with dagster_instance() as instance:

        @dg.asset
        def prices() -> None: ...

        @dg.op
        def work(context: dg.OpExecutionContext) -> None:
            context.log.info("a log line")

        @dg.job
        def chore() -> None:
            work()

        made = dg.materialize([prices], instance=instance).run_id
        done, recent = (chore.execute_in_process(instance=instance).run_id for _ in range(2))
        keyed = chore.execute_in_process(instance=instance, tags={"dagster/run_key": "file 1"}).run_id
        with services.database.connect("dagster") as connection:
            connection.execute(
                "update runs set end_time = end_time - 86400 * 91 where run_id = any(%s)", [[made, done, keyed]]
            )
        result = do_upkeep(services)
        assert result.output_for_node("forget_old_runs")["runs"] == 1
        assert {run.run_id for run in instance.get_runs()} == {made, recent, keyed, result.run_id}
        assert instance.get_latest_materialization_event(prices.key) is not None
        lines = {run: len(instance.all_logs(run)) for run in (made, recent, keyed)}
        assert lines[keyed] == 2 < lines[recent]
        assert instance.get_run_by_id(keyed).status == dg.DagsterRunStatus.SUCCESS  # type: ignore[union-attr]


@pytest.mark.requirement("PLT-10")
def test_upkeep_keeps_the_newest_result_of_each_check(services: Services) -> None:
    with dagster_instance() as instance:

        @dg.asset
        def prices() -> None: ...

        @dg.asset_check(asset=prices)
        def are_positive() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=True)

        dg.materialize([prices], instance=instance)
        checked = [
            dg.materialize(
                [are_positive, prices], selection=dg.AssetSelection.checks(are_positive), instance=instance
            ).run_id
            for _ in range(3)
        ]
        with services.database.connect("dagster") as connection:
            connection.execute("update runs set end_time = end_time - 86400 * 91 where run_id = any(%s)", [checked])
        assert do_upkeep(services).output_for_node("forget_old_runs")["runs"] == 2
        assert [run for run in checked if instance.get_run_by_id(run)] == checked[-1:]
        key = dg.AssetCheckKey(prices.key, "are_positive")
        newest = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
        assert (newest.run_id, newest.status.value) == (checked[-1], "SUCCEEDED")
        assert newest.event is not None


@pytest.mark.requirement("PLT-10")
def test_upkeep_deletes_old_measurements_except_the_newest_of_each_model(services: Services) -> None:
    with services.database.connect("platform") as connection:
        connection.execute(
            "insert into platform.drift_batches select 'a_model', 'shop/new', 'batch', age::text, 'a file', 1, 10,"
            " false, null, now() - age * interval '1 day', now() - age * interval '1 day', 'r'"
            " from unnest(array[400, 380, 366]) age"
        )
        connection.execute(
            "insert into platform.drift select model, stream, unit, batch, 'heat', 1, 10, 0, 1, 0, false, ''"
            " from platform.drift_batches"
        )
        assert do_upkeep(services).output_for_node("forget_old_measurements") == 2
        for table in ("drift_batches", "drift"):
            assert connection.execute(f"select batch from platform.{table}".encode()).fetchall() == [("366",)]


@pytest.mark.requirement("PLT-2")
def test_the_schedule_launches_the_job_every_night() -> None:
    job = upkeep_job([])
    schedule = upkeep_schedule(job)
    with empty_instance() as instance, dg.build_schedule_context(instance) as context:
        requests = schedule.evaluate_tick(context).run_requests
    assert len(requests or []) == 1
    assert (schedule.job_name, schedule.cron_schedule, schedule.execution_timezone) == ("upkeep", "30 3 * * *", "UTC")
