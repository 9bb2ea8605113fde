"""Tests of the demand assets, in Dagster runs with the real resources and a demo server instead of the ESIOS API."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from platform_assets.domains.esios_demand import defs, demo
from platform_assets.domains.esios_demand.months import HOUR, Month, start_of
from platform_assets.domains.esios_demand.settings import EsiosSettings
from platform_assets.landing.demo_server import status
from platform_assets.orchestration.in_process_runs import partition_tags
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.domains.esios_demand.conftest import NOW, TOKEN
from platform_assets_tests.domains.esios_demand.runs import TABLE, Loaded

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.base.frames import Frame
    from platform_assets.lake.table_versions import TableVersion
    from platform_assets.landing.demo_server import DemoServer

FEBRUARY, MARCH = Month.with_key("2018-02-01"), Month.with_key("2018-03-01")


def newest(services: Services) -> TableVersion:
    version = services.tables.current(TABLE)
    assert version is not None
    return version


def stored(services: Services, at: datetime, version: int | None = None) -> tuple[float, str]:
    """Return the value and the update time that the table stores for an hour."""
    table: Frame = services.tables.read(TABLE, version=version)
    [row] = table[table["datetime"] == at.replace(tzinfo=None)].to_dict("records")
    return row["demand_forecast"], str(row["update_timestamp"])


@pytest.fixture
def loaded(services: Services) -> Loaded:
    """Return the result of a run that loads February and March."""
    return Loaded(services, FEBRUARY.key, MARCH.key)


@pytest.mark.requirement("ESI-1", "ESI-2", "ESI-4", "ESI-5")
def test_two_months_are_loaded_checked_and_exported(services: Services, loaded: Loaded) -> None:
    assert loaded.result.success
    assert loaded.failed == {"every_hour_is_present"}
    table = services.tables.read(TABLE).sort_values("datetime", ignore_index=True)
    assert list(table.columns) == ["name", "id", "datetime", "demand_forecast", "update_timestamp"]
    end = start_of(date(2018, 3, 18))
    assert len(table) == 672 + len(MARCH.hours(end))
    assert [str(at) for at in (table["datetime"].iloc[0], table["datetime"].iloc[-1])] == [
        "2018-01-31 23:00:00",
        "2018-03-17 22:00:00",
    ]
    assert set(table["id"]) == {460}
    assert set(table["name"]) == {"Previsión diaria de la demanda eléctrica peninsular"}
    assert set(map(str, table["update_timestamp"])) == {"2018-03-10 06:37:31"}
    assert loaded.facts[FEBRUARY.key]["state"] == "complete"
    assert {key: facts["dagster/partition_row_count"] for key, facts in loaded.facts.items()} == {
        FEBRUARY.key: 672,
        MARCH.key: 408,
    }
    text = (services.settings.home / "exports" / "demand_forecast_esios.csv").read_bytes().decode("utf-8")
    lines = text.splitlines()
    assert lines[0] == "name,id,datetime,demand_forecast,update_timestamp"
    assert lines[1] == f"{demo.NAME},460,2018-01-31 23:00:00,{demo.megawatts(FEBRUARY.start):.1f},2018-03-10 06:37:31"
    assert len(lines) == 1 + len(table)
    assert [path.name for path in (services.settings.home / "exports").iterdir()] == ["demand_forecast_esios.csv"]


@pytest.mark.requirement("ESI-5")
def test_missing_hours_are_listed_and_the_other_hours_are_published(services: Services, loaded: Loaded) -> None:
    check = loaded.checks["every_hour_is_present"]
    assert check.severity == dg.AssetCheckSeverity.WARN
    # The newest published hour is years old, so the remaining hours of March count as missing.
    assert str(check.description).startswith("2018-03: 335 of 743 hours missing: 2018-03-17 23:00, 2018-03-18 00:00, ")
    assert str(check.description).endswith(" and 315 more UTC")
    assert check.metadata["months"].value == {
        FEBRUARY.key: {"expected_hours": 672, "missing_hours": 0},
        MARCH.key: {"expected_hours": 743, "missing_hours": 335},
    }
    assert newest(services).rows == 1080


@pytest.mark.requirement("ESI-4")
def test_loading_unchanged_months_again_creates_no_table_version(
    services: Services, loaded: Loaded, series: demo.DemoSeries
) -> None:
    assert loaded.result.success
    before = newest(services)
    series.updated_at = datetime(2018, 3, 11, 6, tzinfo=UTC)
    again = Loaded(services, FEBRUARY.key, MARCH.key)
    assert again.facts[MARCH.key]["unchanged"] == 408
    assert (newest(services).version, newest(services).digest) == (before.version, before.digest)


@pytest.mark.requirement("ESI-4")
def test_a_correction_replaces_the_value_and_keeps_the_earlier_version(
    services: Services, loaded: Loaded, series: demo.DemoSeries
) -> None:
    assert loaded.result.success
    at = FEBRUARY.start + 30 * HOUR
    first = newest(services)
    series.updated_at = datetime(2018, 3, 11, 6, 0, 5, tzinfo=UTC)
    series.changed[at] = value = demo.megawatts(at) + 100
    corrected = Loaded(services, FEBRUARY.key)
    assert corrected.facts[FEBRUARY.key]["hours_corrected"] == 1
    assert corrected.facts[FEBRUARY.key]["corrections"] == [
        {"datetime": "2018-02-02 05:00:00", "before": demo.megawatts(at), "after": value}
    ]
    assert stored(services, at) == (value, "2018-03-11 06:00:05")
    assert stored(services, at + HOUR) == (demo.megawatts(at + HOUR), "2018-03-10 06:37:31")
    assert stored(services, at, first.version) == (demo.megawatts(at), "2018-03-10 06:37:31")
    assert newest(services).parts[MARCH.key] == first.parts[MARCH.key]


@pytest.mark.requirement("ESI-5", "ESI-6")
def test_an_hour_that_was_missing_is_added_by_the_next_run(services: Services, series: demo.DemoSeries) -> None:
    late = FEBRUARY.start + 5 * HOUR
    series.missing.add(late)
    check = Loaded(services, FEBRUARY.key).checks["every_hour_is_present"]
    assert check.description == "2018-02: 1 of 672 hours missing: 2018-02-01 04:00 UTC"
    series.missing.clear()
    complete = Loaded(services, FEBRUARY.key)
    assert complete.failed == set()
    assert complete.facts[FEBRUARY.key]["hours_new"] == 1


@pytest.mark.requirement("ESI-5")
def test_a_repeated_hour_fails_the_run_and_nothing_is_published(
    services: Services, loaded: Loaded, server: DemoServer
) -> None:
    assert loaded.result.success
    before = newest(services)
    server.constant_fault = demo.edited(
        lambda body: (
            body.get("indicator", {}).get("values", []).extend(body["indicator"]["values"][:2])
            if "indicator" in body
            else None
        )
    )
    doubled = Loaded(services, FEBRUARY.key)
    assert not doubled.result.success
    check = doubled.checks["datetime_is_unique"]
    assert (check.passed, check.severity, check.metadata["broken_rows"].value) == (
        False,
        dg.AssetCheckSeverity.ERROR,
        4,
    )
    assert "datetime_is_unique failed: 4 of 674 rows" in doubled.failures[0]
    assert newest(services) == before


@pytest.mark.requirement("ESI-5")
def test_implausible_values_and_jumps_and_flat_lines_cause_warnings(
    services: Services, series: demo.DemoSeries
) -> None:
    series.quarter_hourly = False
    series.changed |= {FEBRUARY.start + 40 * HOUR: 45_001, FEBRUARY.start + 50 * HOUR: 14_999}
    series.changed |= {FEBRUARY.start + number * HOUR: 25_000 for number in range(100, 106)}
    loaded = Loaded(services, FEBRUARY.key)
    assert loaded.result.success
    assert loaded.failed == {"demand_forecast_is_within_bounds", "no_hour_jumps", "no_line_is_flat"}
    assert {loaded.checks[name].severity for name in loaded.failed} == {dg.AssetCheckSeverity.WARN}
    assert loaded.checks["demand_forecast_is_within_bounds"].metadata["broken_rows"].value == 2
    assert loaded.checks["no_line_is_flat"].description == "flat lines (1): 6 hours from 2018-02-05 03:00"
    assert "at 2018-02-02 15:00" in str(loaded.checks["no_hour_jumps"].description)
    assert newest(services).rows == 672


@pytest.mark.requirement("ESI-6")
def test_an_unpublished_month_does_not_fail_the_run(services: Services) -> None:
    loaded = Loaded(services, "2018-05-01")
    assert loaded.result.success
    assert loaded.facts["2018-05-01"]["state"] == "not published yet"
    assert newest(services).rows == 0
    assert Loaded(services, FEBRUARY.key).failed == set()
    assert newest(services).rows == 672


@pytest.mark.requirement("ESI-6")
def test_an_api_error_fails_the_step_and_leaves_the_table_unchanged(
    services: Services, loaded: Loaded, server: DemoServer
) -> None:
    assert loaded.result.success
    before = newest(services)
    server.constant_fault = status(401, b"HTTP Token: Access denied.")
    failed = Loaded(services, FEBRUARY.key)
    assert not failed.result.success
    assert (
        "ESIOS refused the token (HTTP 401: HTTP Token: Access denied.). Check PLATFORM_ESIOS_TOKEN"
        in failed.failures[0]
    )
    assert "Traceback" not in failed.failures[0].split("Stack Trace")[0]
    assert newest(services) == before


def test_unknown_fields_of_a_response_are_listed_in_the_metadata(services: Services, server: DemoServer) -> None:
    server.constant_fault = demo.edited(lambda body: body.get("indicator", body).update(licence="new"))
    assert Loaded(services, FEBRUARY.key).facts[FEBRUARY.key]["unknown_fields"] == ["indicator.licence"]


@pytest.mark.requirement("ESI-1")
def test_the_error_for_a_missing_token_names_the_setting(tmp_path: Path) -> None:
    with closing(Services(Settings(home=tmp_path, sources="live"), (EsiosSettings(),))) as services:
        assert (
            "PLATFORM_ESIOS_TOKEN is not set, but api.esios.ree.es requires a token"
            in Loaded(services, FEBRUARY.key).failures[0]
        )


@pytest.mark.requirement("ESI-1", "PLT-3")
def test_sample_data_are_read_over_http_and_not_mixed_with_real_data(tmp_path: Path, server: DemoServer) -> None:
    settings = Settings(home=tmp_path)
    with closing(Services(settings, (EsiosSettings(),))) as services:
        loaded = Loaded(services, "2017-10-01")
        assert (loaded.result.success, loaded.failed) == (True, set())
        assert (loaded.facts["2017-10-01"]["demo"], loaded.facts["2017-10-01"]["server"]) == (True, "demo")
        assert newest(services).rows == 745
    real = EsiosSettings(esios_base_url=server.url, esios_token=TOKEN)
    with closing(Services(settings, (real,))) as services:
        refused = Loaded(services, "2017-10-01")
    assert (
        "contains sample data, which must not be mixed with real data. Use another PLATFORM_HOME" in refused.failures[0]
    )


def test_a_table_that_contains_another_series_is_refused(
    services: Services, loaded: Loaded, server: DemoServer
) -> None:
    assert loaded.result.success
    other = EsiosSettings(esios_base_url=server.url, esios_token=TOKEN, esios_indicator=1775)
    with closing(Services(services.settings, (other,))) as others:
        assert "contains the series 460, not 1775" in Loaded(others, FEBRUARY.key).failures[0]


@pytest.mark.requirement("ESI-4", "PLT-2")
def test_the_schedule_requests_the_months_of_recent_and_coming_days(services: Services) -> None:
    schedule = defs.load_esios_demand_daily
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 9 * * *", "Europe/Madrid")
    assert (schedule.job_name, schedule.default_status) == ("load_esios_demand", dg.DefaultScheduleStatus.STOPPED)
    context = dg.build_schedule_context(
        scheduled_execution_time=datetime(2018, 3, 5, 8, 30, tzinfo=UTC), resources={"sources": services.sources}
    )
    [request] = schedule.evaluate_tick(context).run_requests or ()
    assert {name: value for name, value in request.tags.items() if "partition" in name} == partition_tags(
        FEBRUARY.key, MARCH.key
    )


def test_the_last_partition_is_the_next_month() -> None:
    keys = defs.MONTHS.get_partition_keys(current_time=NOW)
    assert (keys[0], keys[-2:]) == ("2017-01-01", ["2018-03-01", "2018-04-01"])
    window = defs.MONTHS.time_window_for_partition_key(MARCH.key)
    assert (window.start.astimezone(UTC), window.end.astimezone(UTC)) == (MARCH.start, MARCH.end)
