"""Detection and repair of differences between the ledger and a real MLflow registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url

from platform_assets.approval.audit import Finding
from platform_assets.approval.reconciliation import HEAD_TAG, RESTORED_TAG
from platform_assets.database.connections import Database
from platform_assets.models.mlflow_registry import MlflowRegistry
from platform_assets.models.registry import CHALLENGER, CHAMPION
from platform_assets_tests.approval.promotions import Works, champion
from platform_assets_tests.approval.proposals import ANNA, MODEL, PLOTS, prepared

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow import MlflowClient

REPORT = "it flags everybody"


@pytest.fixture
def mlflow_works(database: Database, tmp_path: Path) -> Works:
    registry = MlflowRegistry(database.psycopg2_url("mlflow"), str(tmp_path / "mlflow"), database.lock)
    return Works(prepared(database), registry, tmp_path, database.lock)


def client(works: Works) -> MlflowClient:
    assert isinstance(works.registry, MlflowRegistry)
    return works.registry._client


@pytest.mark.requirement("PRO-5", "PRO-7")
def test_deleted_mlflow_version_is_restored_from_ledger_and_lake(mlflow_works: Works) -> None:
    works = mlflow_works
    lost = works.crown("first")
    bad = works.crown("second")
    newest = works.train("third")
    client(works).delete_model_version(MODEL, "1")
    # Also delete version 2, the champion before the rollback, from MLflow and from the lake.
    client(works).delete_model_version(MODEL, "2")
    works.file(bad).unlink()
    assert works.promoter.rollback(MODEL, ANNA, REPORT).version == 1
    made = works.registry.by_alias(MODEL, CHAMPION)
    assert made is not None
    assert champion(works) == made.version == 4
    assert (made.digest, made.fingerprint, made.threshold) == (lost.digest, lost.fingerprint, lost.threshold)
    assert (made.tables, made.metrics, made.parameters) == (lost.tables, lost.metrics, lost.parameters)
    assert made.tags[RESTORED_TAG] == "1"
    challenger = works.registry.by_alias(MODEL, CHALLENGER)
    assert challenger is not None
    assert challenger.version == newest.version
    names = [file.path for file in client(works).list_artifacts(made.run_id, "plots")]
    assert names == [f"plots/{name}" for name in PLOTS]
    assert works.promoter.reconcile(MODEL) == []


@pytest.mark.requirement("PRO-5")
def test_moved_alias_and_deleted_champion_are_reported_and_repaired(mlflow_works: Works) -> None:
    works = mlflow_works
    works.train("first")
    client(works).set_registered_model_alias(MODEL, CHAMPION, "1")
    assert works.promoter.drifted(MODEL) == [
        f"{MODEL}: the alias `champion` points to version 1, but no version was promoted"
    ]
    assert len(works.promoter.reconcile(MODEL)) == 1
    assert champion(works) is None
    works.crown("second")
    client(works).set_registered_model_alias(MODEL, CHAMPION, "1")
    (told,) = works.promoter.drifted(MODEL)
    assert "the alias `champion` points to version 1, but the champion is version 2, request 1" in told
    works.promoter.reconcile(MODEL)
    assert champion(works) == 2
    client(works).delete_registered_model_alias(MODEL, CHAMPION)
    assert "points to no version" in works.promoter.drifted(MODEL)[0]
    works.promoter.reconcile(MODEL)
    client(works).create_model_version(MODEL, "file:/nowhere")
    client(works).set_registered_model_alias(MODEL, CHAMPION, "3")
    assert "a version that the platform did not register" in works.promoter.drifted(MODEL)[0]
    works.promoter.reconcile(MODEL)
    client(works).set_model_version_tag(MODEL, "2", HEAD_TAG, "x")
    assert "the tag ledger_head is 'x'; it must be" in works.promoter.drifted(MODEL)[0]
    assert works.promoter.audit() == [Finding(f"{MODEL} version 2", "has the malformed head 'x'")]
    works.promoter.reconcile(MODEL)
    client(works).delete_model_version(MODEL, "2")
    assert "was deleted from the registry" in works.promoter.drifted(MODEL)[0]
    works.promoter.reconcile(MODEL)
    assert champion(works) == 4
    assert works.promoter.models() == [MODEL]


@pytest.mark.requirement("PRO-5")
def test_tags_in_the_registry_reveal_that_the_newest_events_were_deleted(works: Works, owner_url: str) -> None:
    works.crown("first")
    works.crown("second", "other_model")
    with Database(make_url(owner_url)).connect("platform") as owner:
        owner.execute("set session_replication_role = replica")
        owner.execute("delete from platform.approval_events where sequence > 3")
        owner.execute("delete from platform.approval_plots where request_id = 2")
        owner.execute("delete from platform.approval_projections where sequence = 6")
        owner.execute("delete from platform.approval_requests where id = 2")
        owner.execute("delete from platform.approval_journal where kind = 'projection' and subject = '6'")
    assert works.ledger.audit() == []
    assert [finding.row for finding in works.promoter.audit()] == ["event 6"]
