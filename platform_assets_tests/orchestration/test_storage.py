from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef
from dagster._serdes import deserialize_value, serialize_value
from sqlalchemy import event

from platform_assets.base.errors import PlatformError
from platform_assets.orchestration.storage import PROJECT, PlatformEventLog, dagster_instance
from platform_assets_tests.postgres import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from platform_assets_tests.warm import WarmParent

SECRET = 'hunter2 "with" Größe'
MODULE = """
import dagster as dg

@dg.asset
def loans() -> None:
    print("printed by the step")

defs = dg.Definitions([loans])
"""


@pytest.fixture
def instance(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("PLATFORM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PLATFORM_DATABASE_URL", database_url)
    monkeypatch.setenv("PLATFORM_ALERT_WEBHOOK_URL", SECRET)
    monkeypatch.chdir(tmp_path)
    with dagster_instance() as instance:
        yield instance


def materialise(asset: dg.AssetsDefinition, instance: dg.DagsterInstance) -> str:
    checks = [talkative] if asset is leaky else []
    return dg.materialize([asset, *checks], instance=instance, raise_on_error=False).run_id


@dg.asset
def leaky() -> dg.MaterializeResult[None]:
    dg.get_dagster_logger().info("found %s", SECRET)
    return dg.MaterializeResult(
        metadata={
            "text": f"from {SECRET}",
            "json": dg.MetadataValue.json({"deep": [json.dumps({"deeper": SECRET})]}),
            "url": dg.MetadataValue.url("postgresql://user:hunter3@host/name"),
            "rows": 3,
        },
    )


@dg.asset_check(asset=leaky)
def talkative() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, description=f"seen {SECRET}", metadata={"seen": SECRET})


@dg.asset
def broken() -> None:
    raise ValueError(f"could not log in with {SECRET}")


@dg.asset
def harmless() -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"note": "nothing to hide", "rows": 3})


@pytest.mark.requirement("PLT-3")
def test_an_instance_opened_from_its_reference_shares_history_and_folders(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    reference = deserialize_value(serialize_value(instance.get_ref()), InstanceRef)
    run_id = materialise(harmless, instance)
    with dg.DagsterInstance.from_ref(reference) as other:
        assert [run.run_id for run in other.get_runs()] == [run_id]
        assert (
            other.storage_directory() == instance.storage_directory() == str(tmp_path / "home" / "dagster" / "storage")
        )
    assert not instance.telemetry_enabled
    assert not instance.nux_enabled


@pytest.mark.requirement("PLT-8")
@pytest.mark.parametrize("asset", [leaky, broken])
def test_no_secret_reaches_the_history(instance: dg.DagsterInstance, asset: dg.AssetsDefinition) -> None:
    run_id = materialise(asset, instance)
    stored = "".join(stored_texts(instance))
    assert run_id in stored
    assert "***" in stored
    assert [word for word in ("hunter2", "hunter3", "Gr\\u00f6\\u00dfe") if word in stored] == []


@pytest.mark.requirement("PLT-8")
def test_a_redacted_event_keeps_the_rest(instance: dg.DagsterInstance) -> None:
    materialise(leaky, instance)
    found = instance.get_latest_materialization_event(dg.AssetKey("leaky"))
    assert found is not None
    assert found.asset_materialization is not None
    assert {name: value.value for name, value in found.asset_materialization.metadata.items()} == {
        "text": "from ***",
        "json": {"deep": ['{"deeper": "***"}']},
        "url": "postgresql://user:***@host/name",
        "rows": 3,
    }


@pytest.mark.requirement("PLT-8")
def test_events_stored_together_are_redacted_too(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "10")
    for number in range(2):
        instance.report_runless_asset_event(
            dg.AssetMaterialization("reported", partition=str(number), metadata={"by": SECRET})
        )
    events = instance.fetch_materializations(dg.AssetKey("reported"), limit=9).records
    batch = [record.event_log_entry for record in events]
    leaking = [
        entry._replace(dagster_event=entry.get_dagster_event()._replace(message=f"by {SECRET}")) for entry in batch
    ]
    instance.event_log_storage.store_event_batch(leaking)
    messages = [
        record.event_log_entry.get_dagster_event().message
        for record in instance.fetch_materializations(dg.AssetKey("reported"), limit=9).records
    ]
    assert messages[:2] == ["by ***", "by ***"]
    assert len(messages) == 4


def test_a_secret_that_is_part_of_a_name_does_not_lose_the_asset(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_ALERT_WEBHOOK_URL", "harmless")
    with dg.DagsterInstance.from_ref(instance.get_ref()) as weak:
        run_id = materialise(harmless, weak)
        assert weak.get_latest_materialization_event(dg.AssetKey("harmless")) is not None
        steps = {entry.step_key for entry in weak.all_logs(run_id) if entry.step_key}
        assert steps == {"harmless"}
        run = weak.get_run_by_id(run_id)
        assert run is not None
        assert run.is_success


def test_a_run_shares_few_connections_and_survives_their_loss(instance: dg.DagsterInstance) -> None:
    log = instance.event_log_storage
    assert isinstance(log, PlatformEventLog)
    opened: list[object] = []
    event.listen(log._engine, "connect", lambda connection, _: opened.append(connection))
    materialise(harmless, instance)
    assert 0 < len(opened) < 5
    with log.run_connection() as connection:
        connection.exec_driver_sql(
            "select pg_terminate_backend(pid, 60000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
    assert materialise(harmless, instance) in {run.run_id for run in instance.get_runs() if run.is_success}


def dagsters_command(*arguments: str) -> None:
    """What the program `dagster` does."""
    (program,) = entry_points(group="console_scripts", name="dagster")
    sys.argv = ["dagster", *arguments]
    program.load()()


@pytest.mark.slow
@pytest.mark.requirement("PLT-3")
def test_dagsters_command_line_shares_the_history_without_dagster_home(
    instance: dg.DagsterInstance, tmp_path: Path, warm: WarmParent
) -> None:
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    (tmp_path / "little.py").write_text(MODULE)
    with (tmp_path / "told").open("w") as told:
        arguments = ("asset", "materialize", "-f", "little.py", "--select", "loans")
        with warm.start(dagsters_command, *arguments, stdout=told, stderr=told) as process:
            code = process.wait()
    assert code == 0, (tmp_path / "told").read_text()
    (run,) = instance.get_runs()
    assert run.is_success
    printed = [path.read_text() for path in (tmp_path / "home" / "dagster").rglob("*.out")]
    assert printed == ["printed by the step\n"]


SENSOR_THAT_FAILS = """
import os
import dagster as dg

@dg.sensor(job_name="none", minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def failing(context):
    raise RuntimeError(f"refused: {os.environ['PLATFORM_STOCKS_TOKEN']} at {os.environ['PLATFORM_STOCKS_URL']}")

@dg.job
def none():
    pass

defs = dg.Definitions(jobs=[none], sensors=[failing])
"""


@pytest.mark.slow
@pytest.mark.requirement("PLT-8")
def test_the_daemon_stores_no_secret_of_a_domain_that_it_does_not_know(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    (tmp_path / "failing.py").write_text(SENSOR_THAT_FAILS)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("PLATFORM_STOCKS_TOKEN", "token-0815")
    monkeypatch.setenv("PLATFORM_STOCKS_URL", "https://anna:pass-4711@stocks.example.org/x")

    def ticks() -> list[str]:
        return [text for text in stored_texts(instance) if "refused: " in text]

    with (tmp_path / "told").open("w") as told:
        daemon = subprocess.Popen(
            [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-f", "failing.py"],
            cwd=tmp_path,
            stdout=told,
            stderr=told,
        )
        try:
            wait_until(ticks, "the sensor had failed")
        finally:
            daemon.terminate()
            daemon.wait(30)
    assert not [text for text in stored_texts(instance) if "token-0815" in text or "pass-4711" in text]


def test_without_the_projects_file_no_history_of_its_own_is_begun(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match=r"holds no dagster\.yaml"):
        dagster_instance(project=tmp_path)
    assert list(tmp_path.iterdir()) == []


def stored_texts(instance: dg.DagsterInstance) -> list[str]:
    """Whatever Dagster keeps as text, read past its own classes."""
    log = instance.event_log_storage
    assert isinstance(log, PlatformEventLog)
    with log.run_connection() as connection:
        tables = connection.exec_driver_sql(
            "select table_name from information_schema.tables where table_schema = 'public'"
        )
        return [
            row[0]
            for (table,) in tables.fetchall()
            for row in connection.exec_driver_sql(f'select t::text from "{table}" t').fetchall()
        ]
