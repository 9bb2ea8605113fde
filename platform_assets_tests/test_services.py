"""`open_services` chooses implementations according to the settings, and opens each service on first use."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from platform_assets.approval.ledger_errors import DecisionRefused
from platform_assets.approval.requests import Actor
from platform_assets.base.errors import DatabaseError, RegistryError
from platform_assets.services import Services, open_services
from platform_assets.settings import Settings
from platform_assets.web.api_keys import hashed
from platform_assets_tests.postgres import owner_of

if TYPE_CHECKING:
    from pathlib import Path


def settings(home: Path, **more: Any) -> Settings:
    return Settings(home=home, demo_rows=100, **more)


def test_open_services_creates_no_file(tmp_path: Path) -> None:
    services = open_services(settings(tmp_path / "home"))
    assert isinstance(services, Services)
    assert services.retention == timedelta(days=30)
    services.tables, services.online, services.validator, services.sources, services.incidents  # noqa: B018 - reading opens them
    assert not (tmp_path / "home").exists()
    assert services.engine is services.engine


@pytest.mark.requirement("PLT-4")
@pytest.mark.parametrize(
    ("lake", "folder"), [("", "home/lake/models"), ("memory://", ""), ("elsewhere", "elsewhere/models")]
)
def test_model_artifacts_are_stored_in_the_lake(tmp_path: Path, lake: str, folder: str) -> None:
    location = str(tmp_path / lake) if lake == "elsewhere" else lake
    services = open_services(settings(tmp_path / "home", lake_uri=location))
    digest = services.artefacts.add(b"the bytes of a model")
    (file,) = tmp_path.rglob(f"models/{digest}.skops")
    assert not folder or file.parent == tmp_path / folder
    services.close()
    # If the lake is in memory, closing the services removes the file.
    assert file.exists() == bool(folder)


@pytest.mark.requirement("PLT-4")
def test_a_registry_on_a_tracking_server_opens_no_database(tmp_path: Path) -> None:
    services = open_services(settings(tmp_path / "home", mlflow_tracking_uri="http://127.0.0.1:1"))
    with pytest.raises(RegistryError, match="the registry in MLflow .http://127.0.0.1:1."):
        services.registry.versions("credit_risk_model")
    assert not (tmp_path / "home" / "postgres").exists()


@pytest.mark.requirement("PRO-5", "SRV-1")
def test_settings_determine_the_key_store_and_whether_decisions_need_a_key(tmp_path: Path, database_url: str) -> None:
    alone = open_services(settings(tmp_path / "home", api_keys=f"anna:read:{hashed('secret')}"))
    assert [key.name for key in alone.keys.list()] == ["anna"]
    assert not (tmp_path / "home").exists()
    required = {"database_url": database_url, "approvals_require_identity": "on"}
    with pytest.raises(DatabaseError, match="PLATFORM_APPROVALS_REQUIRE_IDENTITY is on, .* `platform-assets migrate`"):
        open_services(settings(tmp_path, **required)).ledger.models()
    services = open_services(settings(tmp_path, migration_database_url=owner_of(database_url), **required))
    try:
        secret = services.keys.add("anna", "anna", {"read"})
        assert services.keys.check(secret) is not None
        with pytest.raises(DecisionRefused, match="PLATFORM_APPROVALS_REQUIRE_IDENTITY is on"):
            services.ledger.rolled_back("credit_risk_model", Actor("anna"), "bad")
    finally:
        services.close()


@pytest.mark.requirement("PLT-4")
def test_settings_determine_the_row_limit_and_the_database_and_the_tracking_server(
    tmp_path: Path, database_url: str
) -> None:
    embedded = open_services(settings(tmp_path, mlflow_tracking_uri="http://mlflow:5000", max_bad_rows=0.2))
    assert embedded.mlflow_tracking_uri == "http://mlflow:5000"
    assert embedded.validator._max_bad_rows == 0.2
    external = open_services(settings(tmp_path, database_url=database_url))
    try:
        assert not external.database.embedded
        assert external.mlflow_tracking_uri == external.database.psycopg2_url("mlflow")
        assert external.pinned_tables() == {}
        assert external.online.current("credit_risk/client_features") is None
    finally:
        external.database.close()
