"""Dagster builds the history from sample data, from files with bad rows, and from the real file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from platform_assets import definitions
from platform_assets.definitions import resources
from platform_assets.domains.sensor_maintenance.defs import readings_history
from platform_assets.domains.sensor_maintenance.settings import SensorMaintenanceSettings
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.domains.sensor_maintenance.histories import HISTORY
from platform_assets_tests.instances import empty_instance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Run = Callable[..., dict[str, Any]]

NAME = "sensor_maintenance/readings_history"


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Callable[..., Services]]:
    opened: list[Services] = []

    def open_services(source: Path | str = "", **more: Any) -> Services:
        settings = Settings(home=tmp_path / "home", lake_uri=str(tmp_path / "lake"), **more)
        opened.append(Services(settings, (SensorMaintenanceSettings(sensor_history_uri=str(source)),)))
        return opened[-1]

    yield open_services
    for one in opened:
        one.close()


def materialise(services: Services) -> dict[str, Any]:
    """Materialise the history and return its metadata."""
    with empty_instance() as instance:
        result = dg.materialize(
            [readings_history], resources=resources(lambda: services), instance=instance, raise_on_error=False
        )
        assert result.success, [str(one.step_failure_data.error) for one in result.all_events if one.is_step_failure]
        [event] = [event for event in result.all_events if event.is_step_materialization]
        return {name: value.value for name, value in event.materialization.metadata.items()}


@pytest.mark.requirement("PLT-1", "PLT-6")
def test_sample_data_are_published_and_their_bad_rows_quarantined(services: Callable[..., Services]) -> None:
    opened = services(demo_rows=1_500)
    found = materialise(opened)
    assert found["demo"] is True
    assert sum(dict(found["quarantined_by_rule"]).values()) >= found["quarantined_rows"] == 8
    table = opened.tables.read(NAME)
    assert len(table) == 1_492
    assert list(table.columns) == ["row", "sensor_1", "sensor_2", "label"]


@pytest.mark.requirement("PLT-6", "PLT-12")
def test_bad_rows_are_quarantined_and_repeated_readings_are_kept(
    services: Callable[..., Services], tmp_path: Path
) -> None:
    lines = ["label,row,sensor_2,sensor_1", "1.0,9,0.5,0.25", "1.0,9,0.5,0.25", "0,9,0.5,0.25", "2,9,1,1", ",9,1,1"]
    lines += ["1,9,,1", "1,9,1,inf", "1,9,1,1e7", "1,9,1", "0,9,-0.5,1e-3"]
    file = tmp_path / "history.csv"
    file.write_text("\n".join(lines), encoding="utf-8")
    opened = services(file, max_bad_rows=0.9)
    materialise(opened)
    table = opened.tables.read(NAME).sort_values("row")
    # Rows are numbered by their line in the file, even if the source has its own column `row`.
    assert table.to_numpy().tolist() == [[2, 0.25, 0.5, 1], [3, 0.25, 0.5, 1], [4, 0.25, 0.5, 0], [11, 0.001, -0.5, 0]]
    bad = opened.tables.read(f"{NAME}_quarantine").sort_values("source_line")
    assert bad["source_line"].tolist() == [5, 6, 7, 8, 9, 10]


@pytest.mark.real_data
def test_the_real_history_is_loaded_completely(services: Callable[..., Services], real_data: Path) -> None:
    opened = services(real_data / HISTORY, sources="live")
    found = materialise(opened)
    table = opened.tables.read(NAME)
    assert (len(table), table["label"].sum(), found["quarantined_rows"]) == (1_500, 750, 0)
    assert table[["sensor_1", "sensor_2"]].duplicated().sum() == 0


@pytest.mark.requirement("SEN-5")
def test_training_and_prediction_jobs_share_no_table_and_no_pool() -> None:
    """With a shared table or pool, the nightly training run and the predictions of files would wait for each other."""
    found = definitions.defs()
    train = found.resolve_job_def("train_sensor_maintenance_model")
    assert train.asset_layer.executable_asset_keys == {
        dg.AssetKey(NAME.split("/")),
        dg.AssetKey(["sensor_maintenance", "sensor_maintenance_model"]),
    }
    assert found.resolve_job_def("evaluate_sensor_maintenance_model").asset_layer.executable_asset_keys == set()
    jobs = [job for job in found.get_repository_def().get_all_jobs() if "sensor_maintenance" in job.name]
    assert not {pool for job in jobs for node in job.all_node_defs for pool in node.pools}
