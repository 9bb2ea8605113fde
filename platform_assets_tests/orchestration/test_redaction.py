from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from platform_assets.definitions import defs
from platform_assets.orchestration.storage import PROJECT, PlatformEventLog
from platform_assets_tests.orchestration.leaky_assets import SECRET, broken, harmless, leaky, materialise
from platform_assets_tests.postgres import wait_until

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


@pytest.mark.requirement("PLT-8")
@pytest.mark.parametrize("asset", [leaky, broken])
def test_dagster_stores_no_secret(instance: dg.DagsterInstance, asset: dg.AssetsDefinition) -> None:
    run_id = materialise(asset, instance)
    stored = "".join(stored_texts(instance))
    assert run_id in stored
    assert "***" in stored
    assert [word for word in ("hunter2", "hunter3", "Gr\\u00f6\\u00dfe") if word in stored] == []


@pytest.mark.requirement("PLT-8")
def test_a_run_without_logger_configuration_prints_no_secret(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    defs()
    for asset in (leaky, broken):
        materialise(asset, instance)
    printed = "".join(file.read_text() for file in (tmp_path / "home").rglob("compute_logs/**/*.err"))
    assert "leaky - found ***" in printed
    assert "could not log in with ***" in printed
    assert [word for word in ("hunter2", "hunter3") if word in printed] == []


@pytest.mark.requirement("PLT-8")
def test_redaction_changes_only_the_secret_in_an_event(instance: dg.DagsterInstance) -> None:
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
def test_secrets_in_events_stored_in_a_batch_are_masked(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_materialisation_is_recorded_even_if_the_asset_name_contains_a_secret(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_SHOP_TOKEN", "harmless")
    with dg.DagsterInstance.from_ref(instance.get_ref()) as weak:
        run_id = materialise(harmless, weak)
        assert weak.get_latest_materialization_event(dg.AssetKey("harmless")) is not None
        steps = {entry.step_key for entry in weak.all_logs(run_id) if entry.step_key}
        assert steps == {"harmless"}
        run = weak.get_run_by_id(run_id)
        assert run is not None
        assert run.is_success


@pytest.mark.release
@pytest.mark.requirement("PLT-8")
def test_the_daemon_neither_stores_nor_prints_secrets_from_settings_of_an_unknown_domain(
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
    printed = (tmp_path / "told").read_text()
    assert "refused: *** at https://***@stocks.example.org/x" in printed
    assert not [text for text in (*stored_texts(instance), printed) if "token-0815" in text or "pass-4711" in text]


def stored_texts(instance: dg.DagsterInstance) -> list[str]:
    """Return every row of Dagster's tables as text."""
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
