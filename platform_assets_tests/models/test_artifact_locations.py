"""After a home folder is moved or copied, MLflow's paths point to the new folder.

The tests use a real MLflow in PostgreSQL.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from mlflow import MlflowClient
from sqlalchemy import make_url

from platform_assets.database.connections import Database
from platform_assets.models.artifact_locations import follow_home
from platform_assets.models.mlflow_registry import MlflowRegistry
from platform_assets_tests.contracts.registrations import NAME, registration

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.requirement("PLT-12", "PLT-14")


@pytest.fixture
def database(database_url: str) -> Database:
    return Database(make_url(database_url))


@pytest.fixture
def registry_of(database: Database, tmp_path: Path) -> Callable[[Path], MlflowRegistry]:
    """Return a function that opens the registry for a given home."""
    uri = database.psycopg2_url("mlflow")
    return lambda home: MlflowRegistry(uri, str(home / "mlflow"), database.lock, scratch=tmp_path / "scratch")


@pytest.fixture
def client(database: Database) -> MlflowClient:
    uri = database.psycopg2_url("mlflow")
    return MlflowClient(uri, uri)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("carry", [shutil.move, shutil.copytree], ids=["moved", "copied"])
def test_after_a_home_is_moved_or_copied_all_paths_are_below_the_new_home(
    registry_of: Callable[[Path], MlflowRegistry],
    client: MlflowClient,
    tmp_path: Path,
    carry: Callable[[Path, Path], object],
) -> None:
    # The path contains `_` and `%`, which would be wildcards if the SQL compared paths with LIKE.
    old, new = tmp_path / "old_home 100%", tmp_path / "new"
    first = registry_of(old).register(registration("print-1"))
    carry(old, new)
    before = files(old)
    moved = registry_of(new)
    assert moved.version(NAME, 1) == first
    assert moved.record(NAME, 1) == registration().record
    second = moved.register(registration("print-2"))
    assert files(old) == before
    for version in (first, second):
        folder = f"{new}/mlflow/{NAME}/{version.run_id}/artifacts"
        assert client.get_run(version.run_id).info.artifact_uri == folder
        assert client.get_model_version(NAME, str(version.version)).source == f"{folder}/model"
        assert client.get_model_version_download_uri(NAME, str(version.version)) == f"{folder}/model"


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/somewhere/mlruns/0", "{root}/0"),
        ("mlflow-artifacts:/0", "mlflow-artifacts:/0"),
        ("s3://b/mlruns/0", "s3://b/mlruns/0"),
    ],
)
def test_mlflows_default_experiment_does_not_write_into_the_working_directory(
    client: MlflowClient, database: Database, tmp_path: Path, location: str, expected: str
) -> None:
    with database.connect("mlflow") as connection:
        connection.execute(
            "insert into experiments (experiment_id, name, artifact_location, lifecycle_stage)"
            " values (0, 'Default', %s, 'active') on conflict (experiment_id) do update set artifact_location = %s",
            [location, location],
        )
    follow_home(database.psycopg2_url("mlflow"), tmp_path / "mlflow")
    found = client.get_experiment("0").artifact_location
    assert found == expected.format(root=tmp_path / "mlflow")


def test_files_of_a_copied_home_are_fetched_from_the_original_home(
    registry_of: Callable[[Path], MlflowRegistry], tmp_path: Path
) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    # In older releases, a platform with a copied home stored its files in the original home.
    # Registering the version in the original home reproduces this.
    registry_of(original).register(registration("print-1"))
    before = files(original)
    assert registry_of(copy).record(NAME, 1) == registration().record
    assert files(original) == before
    shutil.rmtree(original)
    assert registry_of(copy).record(NAME, 1) == registration().record


def test_experiments_of_other_tools_and_missing_files_keep_their_paths(
    registry_of: Callable[[Path], MlflowRegistry], client: MlflowClient, database: Database, tmp_path: Path
) -> None:
    registry_of(tmp_path / "gone").register(registration("print-1"))
    shutil.rmtree(tmp_path / "gone")
    theirs = client.create_experiment("theirs", str(tmp_path / "theirs"))
    run = client.create_run(theirs).info
    follow_home(database.psycopg2_url("mlflow"), tmp_path / "home" / "mlflow")
    assert client.get_experiment(theirs).artifact_location == str(tmp_path / "theirs")
    assert client.get_run(run.run_id).info.artifact_uri == run.artifact_uri
    lost = client.get_model_version(NAME, "1")
    assert str(lost.source).startswith(str(tmp_path / "gone"))


def test_tracking_uris_that_are_not_databases_are_ignored(tmp_path: Path) -> None:
    follow_home("databricks", tmp_path)
    follow_home(str(tmp_path), tmp_path)
