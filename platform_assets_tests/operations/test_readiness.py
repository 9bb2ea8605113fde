"""Readiness of a model: each unmet requirement is reported with its fix."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from pydantic import SecretStr

from platform_assets.models.registry import UNDONE_TABLES
from platform_assets.monitoring.drift.logged_rows import of_requests
from platform_assets.operations.backup_record import Backup, record_backup
from platform_assets.operations.readiness import Requirement, readiness
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets.training.model_spec import Kpi
from platform_assets.training.proposal import proposal_of
from platform_assets.training.training_results import REPRODUCED_TAG
from platform_assets_tests.approval.proposals import ANNA, prepared
from platform_assets_tests.contracts.registrations import registration
from platform_assets_tests.training.breakage_model import ONE_CANDIDATE, publish, readings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def services(tmp_path: Path, database_url: str) -> Iterator[Services]:
    settings = Settings(home=tmp_path, database_url=SecretStr(database_url))
    with closing(Services(settings)) as services:
        yield services


def examined(services: Services) -> dict[str, Requirement]:
    return {found.name: found for found in readiness(services, ONE_CANDIDATE)}


def measure_requests(services: Services) -> None:
    """Measure the drift of a few rows, as if predictions for them had been requested."""
    at = pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 9, pa.timestamp("us", "UTC"))
    rows = pa.table({"day": ["2026-01-01"] * 9, "at": at, "heat": [0.1] * 9, "noise": [0.2] * 9})
    services.drift_monitor.measure(of_requests(ONE_CANDIDATE), "a run", services.engine.as_expression(rows))


@pytest.mark.requirement("PLT-11")
def test_each_unmet_requirement_is_reported_with_its_fix_and_can_be_met(services: Services) -> None:
    found = examined(services)
    assert not found["version"].is_met
    assert found["version"].fix == "train it: the job train_breakage_model"
    assert found["approval"].found == "no version was approved and promoted"

    publish(services.tables, services.engine, readings(), demo=True)
    training = services.trainer.train(ONE_CANDIDATE, "user", lambda _: None)
    ledger, version = prepared(services.database, keep_heads=services.kept_heads.keep), training.version
    request = ledger.open_request(proposal_of(ONE_CANDIDATE, training, None))
    ledger.decide(request.id, "approve", ANNA, "better")
    services.promoter.promote(request.id)
    found = examined(services)
    met = {name for name, one in found.items() if one.is_met}
    assert {"card", "business KPI", "owner", "version", "table versions", "freshness", "audit"} <= met
    assert {"gate", "approval"} <= met
    assert "approved by anna" in found["approval"].found
    gaps = {name: one.fix for name, one in found.items() if not one.is_met}
    assert gaps["training data"].startswith("set the sources")
    assert gaps["reproduced"] == "run `platform-assets reproduce breakage_model 1`"
    assert gaps["backup"] == "run `platform-assets backup DIR`, at least every 7 days"
    assert {"drift monitoring", "labels", "alerts", "environment", "identity"} <= gaps.keys()

    services.registry.set_tags(version.name, version.version, {REPRODUCED_TAG: "2026-01-01 00:00 UTC"})
    record_backup(services.database, Backup(datetime.now(UTC) - timedelta(days=6), "/backup on a machine"), "", 0)
    publish(services.tables, services.engine, readings(1_200 + ONE_CANDIDATE.retraining.min_new_rows))
    measure_requests(services)
    found = examined(services)
    assert found["drift monitoring"].is_met
    assert (found["reproduced"].found, found["reproduced"].is_met) == ("identical on 2026-01-01 00:00 UTC", True)
    assert found["backup"].is_met
    assert not found["freshness"].is_met
    assert "has 1,000 more rows than at training time" in found["freshness"].found


@pytest.mark.requirement("PLT-11")
def test_a_model_trained_on_a_load_that_was_undone_or_erased_is_not_ready(services: Services) -> None:
    table = ONE_CANDIDATE.tables[0]
    publish(services.tables, services.engine, readings())
    tags = {UNDONE_TABLES: json.dumps({table: [0]})}
    version = services.registry.register(registration("print-1", name=ONE_CANDIDATE.name, tables={table: 0}))
    assert examined(services)["loads"].is_met
    services.registry.set_tags(version.name, version.version, tags)
    found = examined(services)
    assert found["loads"].found == f"trained on a load that was undone later: {table} version 0"
    assert found["loads"].fix == "train again: the job train_breakage_model"

    publish(services.tables, services.engine, readings(700))
    for path in services.settings.home.joinpath("lake", table).glob("*.parquet"):
        path.unlink()
    found = examined(services)
    assert "cannot be read any more" in found["table versions"].found
    assert found["table versions"].fix == "train again: the job train_breakage_model"
    assert "fewer rows than at training time" in found["freshness"].found


@pytest.mark.requirement("PLT-11")
def test_a_model_is_not_ready_without_an_alert_route_for_its_owner(services: Services) -> None:
    routes = SecretStr(f"{ONE_CANDIDATE.owners[0]}=https://hooks.example/risk")
    settings = services.settings.model_copy(update={"alert_routes": routes})
    with closing(Services(settings)) as routed:
        assert examined(routed)["alerts"].is_met
    other = services.settings.model_copy(update={"alert_routes": SecretStr("team:other=https://hooks.example/risk")})
    with closing(Services(other)) as unrouted:
        assert examined(unrouted)["alerts"].fix == "set PLATFORM_ALERT_WEBHOOK_URL or PLATFORM_ALERT_ROUTES"


@pytest.mark.requirement("PLT-11")
def test_a_model_with_an_incomplete_declaration_is_not_ready(services: Services) -> None:
    kpi = Kpi("hours of standstill", " ", "")
    card = replace(ONE_CANDIDATE.card, business_kpi=kpi, limits=(), label=" ")
    found = {one.name: one for one in readiness(services, replace(ONE_CANDIDATE, card=card, owners=()))}
    assert found["card"].found == "empty: label, limits"
    assert found["business KPI"].found == "missing: owner, target"
    assert (found["owner"].is_met, found["owner"].found) == (False, "none")


@pytest.mark.requirement("PLT-11")
def test_a_model_is_not_ready_if_the_registry_is_unreachable(services: Services) -> None:
    settings = services.settings.model_copy(update={"mlflow_tracking_uri": SecretStr("http://127.0.0.1:9")})
    with closing(Services(settings)) as broken:
        found = examined(broken)
    assert not found["version"].is_met
    assert "the registry in MLflow" in found["version"].found
    assert found["card"].is_met
