"""The servers of `up`: their ports, commands and environment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from platform_assets.app import application
from platform_assets.operations.servers import servers
from platform_assets.services import Services
from platform_assets.settings import Settings

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
    automatic = {name for name, server in found.items() if server.environment.get("PLATFORM_AUTOMATION") == "on"}
    assert automatic == {"Dagster UI", "Dagster daemon"}


def test_up_starts_no_mlflow_if_a_tracking_server_is_configured(tmp_path: Path) -> None:
    assert set(of(tmp_path, mlflow_tracking_uri=SecretStr(TRACKING))) == {"Dagster UI", "service", "Dagster daemon"}


def test_the_health_path_of_the_service_exists(tmp_path: Path, database_url: str) -> None:
    settings = Settings(home=tmp_path, mlflow_tracking_uri=SecretStr(TRACKING), database_url=SecretStr(database_url))
    services = Services(settings)
    service = next(server for server in servers(services) if server.name == "service")
    assert service.health_path in application(services).openapi()["paths"]
    services.close()
