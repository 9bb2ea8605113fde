from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from platform_assets import definitions, domains
from platform_assets.domains import traced_answers
from platform_assets.services import Services
from platform_assets.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

DOMAIN = '''
"""A domain that is not listed anywhere."""

import dagster as dg


@dg.asset(key=["weather", "temperatures"], group_name="weather")
def temperatures() -> None: ...


@dg.asset_check(asset=temperatures)
def temperatures_are_present() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


measure = dg.define_asset_job("measure", selection=[temperatures])
measure_hourly = dg.ScheduleDefinition(job=measure, cron_schedule="0 * * * *", name="measure_hourly")


@dg.asset(key=["weather", "climate"], group_name="weather", partitions_def=dg.MonthlyPartitionsDefinition("2026-01-01"))
def climate() -> None: ...


climate_monthly = dg.build_schedule_from_partitioned_job(
    dg.define_asset_job("average", selection=[climate]), name="climate_monthly"
)


@dg.op
def calibrate() -> None: ...


@dg.job
def calibrate_all() -> None:
    calibrate()


@dg.sensor(job=calibrate_all)
def thermometer_arrived() -> dg.SkipReason:
    return dg.SkipReason("no new thermometer")
'''
PRODUCTION = {
    "PLATFORM_ENV": "production",
    "PLATFORM_SOURCES": "live",
    "PLATFORM_DATABASE_URL": "postgresql://nobody:nothing@host.invalid/none",
    "PLATFORM_LAKE_URI": "s3://lake/tables",
}
# Program that serialises the description of the code location that Dagster displays.
DESCRIBE = """
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._serdes import serialize_value
from platform_assets.definitions import defs

shown = serialize_value(RepositorySnap.from_def(defs().get_repository_def()))
"""


def asset_keys(found: dg.Definitions) -> set[str]:
    return {key.to_user_string() for key in found.resolve_asset_graph().materializable_asset_keys}


@pytest.fixture
def weather(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Add a domain `weather` in another folder."""
    (tmp_path / "weather").mkdir()
    (tmp_path / "weather" / "__init__.py").touch()
    (tmp_path / "weather" / "defs.py").write_text(DOMAIN)
    monkeypatch.setattr(domains, "__path__", [*domains.__path__, str(tmp_path)])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(f"{domains.__name__}.weather"):
            del sys.modules[name]


@pytest.mark.requirement("PLT-1")
def test_the_definitions_are_loadable() -> None:
    dg.Definitions.validate_loadable(definitions.defs())


def test_every_domain_has_definitions() -> None:
    groups = {key.split("/")[0] for key in asset_keys(definitions.defs())}
    assert groups == {folder.parent.name for folder in Path(domains.__path__[0]).glob("*/defs.py")} | {"monitoring"}


@pytest.mark.usefixtures("weather")
def test_a_new_domain_is_discovered() -> None:
    found = definitions.defs()
    assert "weather/temperatures" in asset_keys(found)
    assert asset_keys(found) > {"credit_risk/loans"}
    checks = {key.name for key in found.resolve_asset_graph().asset_check_keys}
    assert "temperatures_are_present" in checks
    repository = found.get_repository_def()
    assert set(repository.job_names) >= {"measure", "calibrate_all", "upkeep"}


@pytest.mark.requirement("PLT-2")
@pytest.mark.usefixtures("weather")
@pytest.mark.parametrize(("automation", "status"), [("off", "STOPPED"), ("on", "RUNNING")])
def test_automation_switches_the_schedules_and_sensors_of_all_domains_on_or_off(
    automation: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_AUTOMATION", automation)
    repository = definitions.defs().get_repository_def()
    automations: list[Any] = [*repository.schedule_defs, *repository.sensor_defs]
    statuses = {it.name: it.default_status.name for it in automations}
    assert set(statuses) >= {
        *("upkeep_nightly", "measure_hourly", "climate_monthly", "run_failed", "thermometer_arrived"),
        *("train_credit_risk_model_nightly", "credit_risk_model_new_data", "credit_loans_changed"),
    }
    assert set(statuses.values()) == {status}


# Ignore the warning, because Dagster itself reads this deprecated property.
@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`:DeprecationWarning")
@pytest.mark.requirement("PLT-4")
def test_development_and_production_have_the_same_definitions(tmp_path: Path) -> None:
    here: dict[str, str] = {}
    exec(DESCRIBE, here)
    in_production = subprocess.run(
        [sys.executable, "-c", f"{DESCRIBE}\nprint(shown, end='')"],
        cwd=tmp_path,
        env=os.environ | PRODUCTION,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    assert "client_features" in here["shown"]
    assert in_production == here["shown"]
    assert "host.invalid" not in in_production


def test_the_executor_is_in_process() -> None:
    assert definitions.defs().executor is dg.in_process_executor


def test_services_are_created_once_from_the_settings_without_writing_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PLATFORM_HOME", str(tmp_path))
    definitions.services.cache_clear()
    try:
        assert definitions.services() == Services(Settings(home=tmp_path), answers=traced_answers)
        assert definitions.services() is definitions.services()
        assert definitions.services().scratch == tmp_path / "scratch"
        assert list(tmp_path.iterdir()) == []
    finally:
        definitions.services.cache_clear()
