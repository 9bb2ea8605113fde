"""The asset that loads the forecast into an SQL table."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from pydantic import SecretStr

from platform_assets.definitions import resources
from platform_assets.domains.esios_demand import defs, demo
from platform_assets.domains.esios_demand.settings import EsiosSettings
from platform_assets.orchestration.in_process_runs import partition_tags
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.instances import empty_instance

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from platform_assets.landing.demo_server import DemoServer

MONTH, HOURS = "2018-02-01", 672
TABLE = "CREATE TABLE demand_forecast_esios (name TEXT, id INTEGER, datetime TEXT, demand_forecast {type}, "
KEY = "update_timestamp TEXT, PRIMARY KEY (id, datetime))"


def run(
    services: Services, selection: Sequence[dg.AssetsDefinition] | None = None
) -> tuple[dg.ExecuteInProcessResult, dict[str, Any]]:
    """Harvest and load a month. Return the run's result and the metadata of the asset that loads the SQL table."""
    with empty_instance() as instance:
        result = dg.materialize(
            [defs.demand_forecast, defs.demand_forecast_esios],
            selection=selection,
            resources=resources(lambda: services),
            instance=instance,
            tags=partition_tags(MONTH, MONTH),
            raise_on_error=False,
        )
    if not result.success:
        return result, {}
    [event] = result.asset_materializations_for_node("esios_demand__demand_forecast_esios")
    return result, {name: value.value for name, value in event.metadata.items()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    [failed] = [one for one in result.all_events if one.is_step_failure]
    assert failed.step_failure_data.user_failure_data is not None
    return str(failed.step_failure_data.user_failure_data.description)


def services_with(server: DemoServer, **settings: Any) -> Services:
    esios = EsiosSettings(esios_base_url=server.url, esios_token=SecretStr(demo.TOKEN))
    return Services(Settings(**settings), (esios,))


@pytest.mark.requirement("ESI-3")
def test_the_forecast_is_loaded_into_the_database_of_the_platform(
    tmp_path: Path, server: DemoServer, database_url: str
) -> None:
    with closing(services_with(server, home=tmp_path, database_url=database_url)) as services:
        _, first = run(services)
        _, second = run(services)
        with services.database.connect("platform") as connection:
            rows = connection.execute("select * from esios_demand.demand_forecast_esios order by datetime").fetchall()
    assert (first["dagster/row_count"], first["rows_inserted"], first["rows_unchanged"]) == (HOURS, HOURS, 0)
    assert (second["rows_inserted"], second["rows_updated"], second["rows_unchanged"]) == (0, 0, HOURS)
    assert len(rows) == HOURS
    assert [str(value) for value in (*rows[0][:3], rows[0][4])] == [
        demo.NAME,
        "460",
        "2018-01-31 23:00:00",
        "2018-03-10 06:37:31",
    ]
    assert {row[3] for row in rows} == set(services.tables.read("esios_demand/demand_forecast")["demand_forecast"])


@pytest.mark.requirement("ESI-3")
def test_the_forecast_is_loaded_into_the_configured_database(tmp_path: Path, server: DemoServer) -> None:
    file = tmp_path / "energy.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute(TABLE.format(type="REAL") + KEY)
        settings = {"home": tmp_path, "sql_target_dialect": "sqlite", "sql_target_database": str(file)}
        with closing(services_with(server, **settings)) as services:
            _, facts = run(services)
        assert facts["target"] == f"the SQLite file {file}"
        [(count, first)] = database.execute("select count(*), min(datetime) from demand_forecast_esios").fetchall()
        assert (count, first) == (HOURS, "2018-01-31 23:00:00")


@pytest.mark.requirement("ESI-3", "PLT-3")
def test_sample_data_are_loaded_into_the_configured_database_only_on_request(tmp_path: Path) -> None:
    file = tmp_path / "energy.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute(TABLE.format(type="REAL") + KEY)
        settings = {"home": tmp_path, "sql_target_url": f"sqlite:///{file}"}
        with closing(Services(Settings(**settings), (EsiosSettings(),))) as services:  # type: ignore[arg-type]
            refused, _ = run(services)
        assert "demand_forecast_esios contains sample data, which are not loaded into the SQLite file" in failure(
            refused
        )
        assert "PLATFORM_SQL_TARGET_DEMO=on" in failure(refused)
        # The sources are live now, but the table still contains sample data. The load is refused, because the check
        # looks at the rows, not at the settings.
        real = Settings(sources="live", **settings)  # type: ignore[arg-type]
        with closing(Services(real, (EsiosSettings(),))) as services:
            assert "contains sample data" in failure(run(services, [defs.demand_forecast_esios])[0])
        assert database.execute("select count(*) from demand_forecast_esios").fetchall() == [(0,)]
        asked = Settings(sql_target_demo="on", **settings)  # type: ignore[arg-type]
        with closing(Services(asked, (EsiosSettings(),))) as services:
            assert run(services, [defs.demand_forecast_esios])[1]["rows_inserted"] == HOURS


@pytest.mark.requirement("ESI-3")
def test_an_unsuitable_target_table_fails_the_step_and_keeps_the_forecast(tmp_path: Path, server: DemoServer) -> None:
    file = tmp_path / "energy.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute(TABLE.format(type="TEXT") + KEY)
    with closing(services_with(server, home=tmp_path, sql_target_url=f"sqlite:///{file}")) as services:
        result, _ = run(services)
        assert len(services.tables.read("esios_demand/demand_forecast")) == HOURS
    assert "demand_forecast is TEXT, which cannot store double values" in failure(result)
