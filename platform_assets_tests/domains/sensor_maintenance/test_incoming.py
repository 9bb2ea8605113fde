"""New readings are loaded from the real file and from sample files. Without a configured folder, live runs fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from pydantic import SecretStr

from platform_assets.definitions import resources
from platform_assets.domains.sensor_maintenance.defs import readings_incoming
from platform_assets.domains.sensor_maintenance.demo import DEVICES, DRIFTING_PER_DAY, PER_DAY
from platform_assets.domains.sensor_maintenance.settings import SensorMaintenanceSettings
from platform_assets.services import Services
from platform_assets.settings import Settings, SettingsError, read_settings
from platform_assets_tests.instances import empty_instance
from platform_assets_tests.landing.yard import failure, metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "sensor_maintenance/readings_incoming"


@pytest.fixture
def services(tmp_path: Path, database_url: str) -> Iterator[Callable[..., Services]]:
    opened: list[Services] = []

    def open_services(sources: str = "demo", **sensor: Any) -> Services:
        settings = Settings(home=tmp_path / "home", database_url=SecretStr(database_url), sources=sources)  # type: ignore[arg-type]
        opened.append(Services(settings, (SensorMaintenanceSettings(**sensor),)))
        return opened[-1]

    yield open_services
    for one in opened:
        one.close()


def run(services: Services) -> dg.ExecuteInProcessResult:
    with empty_instance() as instance:
        given = resources(lambda: services)
        return dg.materialize([readings_incoming], resources=given, instance=instance, raise_on_error=False)


@pytest.mark.real_data
@pytest.mark.requirement("SEN-1", "PLT-12")
def test_the_real_file_is_loaded_completely(services: Callable[..., Services], real_data: Path, tmp_path: Path) -> None:
    content = (real_data / "sensor" / "real_sensor_data.csv").read_bytes()
    (tmp_path / "zone" / "dev7").mkdir(parents=True)
    (tmp_path / "zone" / "dev7" / "20240402T0930.txt").write_bytes(content)
    opened = services(
        "live",
        sensor_landing_uri=str(tmp_path / "zone"),
        sensor_settle_seconds=0,
        sensor_path_pattern="{device}/{recorded_at}.txt",
    )
    result = run(opened)
    assert result.success, failure(result)
    table = opened.tables.read(NAME).sort_values("line")
    lines = content.decode().splitlines()
    assert [f"{one},{two}" for one, two in zip(table["sensor_1"], table["sensor_2"], strict=True)] == lines[1:]
    assert table["line"].tolist() == list(range(2, 44))
    assert set(table["device"]) == {"dev7"}
    assert {time.isoformat() for time in table["recorded_at"]} == {"2024-04-02T09:30:00+00:00"}
    assert (metadata(result)["demo"], metadata(result)["quarantined_rows"]) == (False, 0)


@pytest.mark.requirement("SEN-1", "PLT-6")
def test_the_first_run_loads_the_sample_files_with_the_time_of_each_reading(services: Callable[..., Services]) -> None:
    opened = services()
    result = run(opened)
    assert result.success, failure(result)
    table = opened.tables.read(NAME)
    assert set(table["device"]) == {f"device_{number:02}" for number in range(1, DEVICES + 1)}
    assert table["recorded_at"].nunique() == len(table) == PER_DAY * (DEVICES - 1) + DRIFTING_PER_DAY - 1
    [bad] = opened.tables.read(f"{NAME}_quarantine").to_dict("records")
    assert (bad["file_name"], bad["line"], bad["broken_rules"]) == (
        f"device_{DEVICES:02}/20260111T060600Z.txt",
        25,
        "sensor_2_is_a_number, sensor_2_is_present",
    )
    assert metadata(result)["demo"] is True
    # The sample files are written only once, so the second run finds no new rows.
    assert (
        not run(opened)
        .asset_materializations_for_node("sensor_maintenance__readings_incoming")[0]
        .metadata["batch_rows"]
        .value
    )


def test_live_runs_are_refused_without_a_configured_folder(services: Callable[..., Services]) -> None:
    result = run(services("live"))
    assert not result.success
    assert "PLATFORM_SENSOR_LANDING_URI is not set; set it to the folder" in failure(result)


def test_a_bad_pattern_is_refused_when_settings_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_SENSOR_PATH_PATTERN", "{device}/{time}.txt")
    with pytest.raises(SettingsError, match=r"PLATFORM_SENSOR_PATH_PATTERN: {time} is not a field; the fields are "):
        read_settings(SensorMaintenanceSettings)


@pytest.mark.parametrize(
    ("hours", "reason"),
    [("0", "greater than 0"), ("nan", "less than 720"), ("720", "less than 720"), ("inf", "less than 720")],
)
def test_silent_hours_out_of_range_are_refused(monkeypatch: pytest.MonkeyPatch, hours: str, reason: str) -> None:
    monkeypatch.setenv("PLATFORM_SENSOR_SILENT_HOURS", hours)
    with pytest.raises(SettingsError, match=f"PLATFORM_SENSOR_SILENT_HOURS: .*{reason}"):
        read_settings(SensorMaintenanceSettings)
