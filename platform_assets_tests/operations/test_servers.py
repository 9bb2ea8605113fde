"""The servers of `up`: their ports, commands and environment."""

from __future__ import annotations

import socket
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from platform_assets.app import application
from platform_assets.operations.servers import DatabaseWatch, servers
from platform_assets.operations.up_lock import DatabaseClaim
from platform_assets.orchestration.storage import PROJECT, PlatformStorage
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.database.test_connections import kill_server
from platform_assets_tests.postgres import wait_until

if TYPE_CHECKING:
    from platform_assets.operations.supervisor import Server

TRACKING = "http://mlflow.invalid:5000"


def of(home: Path, **settings: str | int | SecretStr) -> dict[str, Server]:
    return {server.name: server for server in servers(Services(Settings(home=home, **settings)))}  # type: ignore[arg-type]


@pytest.mark.requirement("PLT-2", "PRO-4")
def test_up_starts_the_ui_the_daemon_the_service_and_mlflow(tmp_path: Path, database_url: str) -> None:
    ports = {"dagster_port": 3001, "mlflow_port": 5001, "service_port": 8001}
    found = of(tmp_path, database_url=SecretStr(database_url), **ports)
    assert {name: server.port for name, server in found.items()} == {
        "MLflow": 5001,
        "Dagster UI": 3001,
        "service": 8001,
        "Dagster daemon": None,
    }
    for server in found.values():
        assert Path(server.command[0]).is_file()
        # The URL must not be an argument, because every user of the machine can read a process's arguments.
        assert not any("postgresql" in argument for argument in server.command)
    # MLflow and Dagster have no sign-in, so they listen on loopback only.
    for name, option in (("MLflow", "--host"), ("Dagster UI", "-h")):
        assert found[name].command[found[name].command.index(option) + 1] == "127.0.0.1"
    # The link opens MLflow's list of models, and the note beside the link says that MLflow is read only.
    assert (found["MLflow"].page, "read only" in found["MLflow"].note) == ("/#/models", True)
    automatic = {name for name, server in found.items() if server.environment.get("PLATFORM_AUTOMATION") == "on"}
    assert automatic == {"Dagster UI", "Dagster daemon", "service"}


def test_dagsters_servers_write_into_the_home_and_not_into_the_package(tmp_path: Path, database_url: str) -> None:
    found = of(tmp_path, database_url=SecretStr(database_url), mlflow_tracking_uri=SecretStr(TRACKING))
    for name in ("Dagster UI", "Dagster daemon"):
        folder = Path(found[name].environment["DAGSTER_HOME"])
        assert folder.is_relative_to(tmp_path)
        assert (folder / "dagster.yaml").read_text() == (PROJECT / "dagster.yaml").read_text()


def test_up_starts_no_mlflow_if_a_tracking_server_is_configured(tmp_path: Path) -> None:
    assert set(of(tmp_path, mlflow_tracking_uri=SecretStr(TRACKING))) == {"Dagster UI", "service", "Dagster daemon"}


def test_the_health_path_of_the_service_exists(tmp_path: Path, database_url: str) -> None:
    settings = Settings(home=tmp_path, mlflow_tracking_uri=SecretStr(TRACKING), database_url=SecretStr(database_url))
    services = Services(settings)
    service = next(server for server in servers(services) if server.name == "service")
    assert service.health_path in application(services).openapi()["paths"]
    services.close()


@pytest.mark.requirement("SRV-3", "PLT-2")
def test_mlflow_and_dagster_reconnect_to_a_database_that_restarts_on_another_port(
    embedded_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = Services(Settings(home=embedded_home))
    said: list[str] = []
    with closing(services), ExitStack() as kept:
        claim = DatabaseClaim(services.database, embedded_home)
        watch = DatabaseWatch(services, said.append, kept.enter_context(claim))
        [mlflow] = [server for server in servers(services) if server.name == "MLflow"]
        store = create_engine(mlflow.environment["MLFLOW_BACKEND_STORE_URI"], pool_pre_ping=True)
        kept.callback(store.dispose)

        def experiments() -> int:
            # Set the variable again, because the platform removes PG* variables from its own processes.
            monkeypatch.setenv("PGSERVICEFILE", mlflow.environment["PGSERVICEFILE"])
            with store.connect() as connection:
                return int(connection.execute(text("select count(*) from experiments")).scalar_one())

        count = experiments()
        dagster = PlatformStorage(services.database, [], None)
        dagster.run_storage.optimize_for_webserver(statement_timeout=5_000, pool_recycle=60, max_overflow=1)
        kept.callback(dagster.run_storage._engine.dispose)  # type: ignore[attr-defined]  # a storage in PostgreSQL
        kept.callback(dagster.event_log_storage.dispose)
        before = services.database.url("mlflow").port
        assert dagster.run_storage.get_runs_count() == 0
        watch()
        assert said == []
        # Occupy the server's former port, so that the server restarts on another port.
        kept.enter_context(socket.create_server(("127.0.0.1", kill_server(embedded_home))))

        def is_back() -> bool:
            watch()
            return len(said) > 1

        wait_until(is_back, "the database answered again")
        assert services.database.url("mlflow").port != before
        assert experiments() == count
        assert dagster.run_storage.get_runs_count() == 0
    assert [line.split(":")[0] for line in said] == ["the database does not respond", "the database responds again"]
