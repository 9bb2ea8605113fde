"""The audit of a real MLflow registry reports damaged artifacts and altered tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from platform_assets.models.mlflow_registry import MlflowRegistry
from platform_assets_tests.approval.promotions import Works
from platform_assets_tests.approval.proposals import MODEL, prepared

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.database.connections import Database


@pytest.mark.requirement("PRO-5", "PRO-9")
def test_damaged_artifacts_of_champions_and_open_requests_are_reported(works: Works) -> None:
    previous, current, waiting = works.crown("first"), works.crown("second"), works.train("third")
    works.ask(waiting)
    unused = works.train("fourth")
    assert works.promoter.altered(MODEL) == []
    for version in (previous, current, waiting, unused):
        works.file(version).write_bytes(works.file(version).read_bytes()[:-1])
    assert sorted(line.split(" was altered")[0] for line in works.promoter.altered(MODEL)) == sorted(
        f"{MODEL}: the model file {version.digest}.skops in {works.folder}/models"
        for version in (previous, current, waiting)
    )
    works.file(current).unlink()
    assert any(f"{current.digest}.skops" in line and "is missing" in line for line in works.promoter.altered(MODEL))


@pytest.mark.requirement("PRO-5", "PRO-9", "PLT-12")
def test_altered_and_unreadable_tags_are_reported_and_do_not_prevent_a_promotion(
    database: Database, tmp_path: Path
) -> None:
    registry = MlflowRegistry(database.psycopg2_url("mlflow"), str(tmp_path / "mlflow"), database.lock)
    works = Works(prepared(database), registry, tmp_path, database.lock)
    works.crown("first")
    works.crown("second")
    assert works.promoter.altered(MODEL) == []
    registry._client.set_model_version_tag(MODEL, "1", "platform.metrics", "{")
    registry._client.set_model_version_tag(MODEL, "2", "platform.threshold", "0.99")
    unreadable, altered = works.promoter.altered(MODEL)
    assert unreadable.startswith(f"{MODEL} version 1: the tag platform.metrics is not a JSON")
    assert altered.startswith(
        f"{MODEL} version 2: the registry has threshold 0.99, but the approval request recorded 0.3"
    )
    assert works.promoter.audit() == []
    assert works.promoter.drifted(MODEL) == []
    works.crown("third")
    assert works.promoter.reconcile(MODEL) == []
    assert len(works.promoter.altered(MODEL)) == 2


@pytest.mark.requirement("PRO-7", "PRO-9")
def test_a_restored_version_is_compared_with_its_original_request(database: Database, tmp_path: Path) -> None:
    registry = MlflowRegistry(database.psycopg2_url("mlflow"), str(tmp_path / "mlflow"), database.lock)
    works = Works(prepared(database), registry, tmp_path, database.lock)
    works.crown("first")
    works.crown("second")
    registry._client.delete_registered_model(MODEL)
    works.promoter.reconcile(MODEL)
    assert [version.version for version in registry.versions(MODEL)] == [1]
    assert works.promoter.altered(MODEL) == []
