"""`MlflowRegistry` on a real MLflow in a real PostgreSQL: runs, copies of models, and failures.

`contracts/test_model_registry.py` tests the behaviour that all registries share.
"""

from __future__ import annotations

import json
import re
import signal
import stat
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from mlflow import MlflowClient, pyfunc
from sqlalchemy import make_url

from platform_assets.base.errors import DatabaseError, PlatformError, RegistryError
from platform_assets.database.connections import Database
from platform_assets.models.mlflow_registry import MlflowRegistry
from platform_assets.models.registry import CHALLENGER, TABLES_TAG
from platform_assets_tests.contracts.registrations import NAME, PNG, registration, small_model
from platform_assets_tests.ports import reserve_port
from platform_assets_tests.postgres import empty_databases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

HOLD = """
import sys
from sqlalchemy import make_url
from platform_assets.database.connections import Database

with Database(make_url(sys.argv[1])).lock("a thing"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def database(database_url: str) -> Database:
    return Database(make_url(database_url))


@pytest.fixture
def tracking_uri(database: Database) -> str:
    return database.psycopg2_url("mlflow")


@pytest.fixture
def client(tracking_uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri, tracking_uri)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "mlflow"


@pytest.fixture
def registry(database: Database, tracking_uri: str, root: Path, tmp_path: Path) -> MlflowRegistry:
    return MlflowRegistry(tracking_uri, str(root), database.lock, scratch=tmp_path / "scratch")


# Contents of MLflow


@pytest.mark.requirement("PRO-1", "PLT-7")
def test_a_registration_stores_the_version_and_the_run_with_its_files(
    registry: MlflowRegistry, client: MlflowClient, root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    version = registry.register(registration(plots={"roc.png": PNG, "pr.png": PNG}))
    assert registry.record(NAME, 1) == registration().record
    assert capfd.readouterr() == ("", "")
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"roc_auc": 0.1 + 0.7, "roc_auc_low": 0.75}
    assert run.data.params == {"model": "forest", "trees": "5", "depth": "2.5", "threshold": str(0.1 + 0.2)}
    assert run.data.tags["git_commit"] == "abc123"
    assert sorted(file.path for file in client.list_artifacts(version.run_id)) == ["model", "plots", "record.json"]
    folder = root / NAME / version.run_id / "artifacts"
    assert (folder / "plots" / "pr.png").read_bytes() == PNG
    assert stat.S_IMODE(folder.stat().st_mode) & stat.S_IRGRP
    model = client.get_model_version_by_alias(NAME, CHALLENGER)
    assert (int(model.version), model.run_id, model.tags["launched_by"]) == (1, version.run_id, "Zoë O'Neill")
    assert "Promoting a version here changes nothing" in client.get_registered_model(NAME).description
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.requirement("PRO-1")
def test_mlflow_can_load_the_copy_of_a_model(registry: MlflowRegistry, client: MlflowClient) -> None:
    registry.register(registration())
    copy = pyfunc.load_model(client.get_model_version_download_uri(NAME, "1"))
    rows = small_model().golden_rows.astype({"children": "float64"})
    np.testing.assert_array_equal(np.asarray(copy.predict(rows))[:, 1], small_model().golden_scores)
    signature = copy.metadata.signature
    assert {column.name: column.type.name for column in signature.inputs} == {"amount": "double", "children": "double"}
    assert signature.outputs.inputs[0].shape == (-1, 2)
    assert copy.input_example is not None
    assert list(copy.input_example.columns) == ["amount", "children"]
    np.testing.assert_array_equal(np.asarray(copy.predict(copy.input_example))[:, 1], small_model().golden_scores[:5])


def test_versions_that_the_platform_did_not_register_are_ignored(
    registry: MlflowRegistry, client: MlflowClient
) -> None:
    client.create_registered_model(NAME)
    client.create_model_version(NAME, "file:///models/none")
    client.set_registered_model_alias(NAME, CHALLENGER, "1")
    assert registry.versions(NAME) == []
    with pytest.raises(RegistryError, match=f"{NAME} version 1 was not registered by the platform"):
        registry.version(NAME, 1)
    with pytest.raises(RegistryError, match=f"{NAME} version 1 was not registered by the platform"):
        registry.by_alias(NAME, CHALLENGER)
    made = registry.register(registration())
    assert made.version == 2
    # `register` adds the description that a registered model from an older release lacks.
    assert "Promoting a version here changes nothing" in client.get_registered_model(NAME).description
    assert registry.by_alias(NAME, CHALLENGER) == made


@pytest.mark.requirement("PRO-9", "PLT-12")
@pytest.mark.parametrize(
    ("tag", "value", "reason"),
    [
        ("platform.metrics", "{", "the tag platform.metrics is not a JSON object with values of the expected type"),
        (
            "platform.metrics",
            '{"roc_auc": "high"}',
            "the tag platform.metrics is not a JSON object with values of the expected type",
        ),
        (
            "platform.parameters",
            "[]",
            "the tag platform.parameters is not a JSON object with values of the expected type",
        ),
        ("platform.threshold", "half", "the tag platform.threshold is 'half', not a number"),
        ("platform.tables", "3", "the tag platform.tables of "),
        ("platform.digest", None, "the tag platform.digest is missing"),
    ],
)
def test_an_unreadable_tag_is_reported_and_only_its_version_is_left_out(
    registry: MlflowRegistry, client: MlflowClient, tag: str, value: str | None, reason: str
) -> None:
    record = {**registration().record, "tables": {"credit_risk/loans": 8}}
    registry.register(registration("print-1", record=record, tables={"credit_risk/loans": 8}))
    second = registry.register(registration("print-2", tables={"credit_risk/loans": 9}))
    if value is None:
        client.delete_model_version_tag(NAME, "1", tag)
    else:
        client.set_model_version_tag(NAME, "1", tag, value)
    [(number, told)] = registry.unreadable_versions(NAME).items()
    assert number == 1
    assert reason in told
    with pytest.raises(RegistryError, match=re.escape(told)):
        registry.version(NAME, 1)
    assert registry.versions(NAME) == [second]
    assert registry.names() == [NAME]
    assert registry.find(NAME, "print-1") is None
    # `pinned_tables` includes the tables of version 1. If its tag is unreadable, they come from the stored record.
    assert registry.pinned_tables() == {"credit_risk/loans": {8, 9}}
    assert registry.register(registration("print-1")).version == 3


def test_a_deleted_experiment_is_restored(registry: MlflowRegistry, client: MlflowClient) -> None:
    registry.register(registration("print-1"))
    experiment = client.get_experiment_by_name(NAME)
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    assert registry.register(registration("print-2")).version == 2


# Tables that registered models were trained on


def register(client: MlflowClient, name: str, *tags: Mapping[str, object] | str | None) -> None:
    """Create one version of a model for each tag; None creates a version without the tag."""
    client.create_registered_model(name)
    for tag in tags:
        text = tag if isinstance(tag, str) else json.dumps(tag)
        client.create_model_version(
            name, "file:///models/none", tags={} if tag is None else {TABLES_TAG: text, "x": "y"}
        )


class SmallPages:
    """A client with two versions per page; MLflow's own default is 10,000."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def search_model_versions(self, wanted: str | None, page_token: str | None) -> Any:
        return self._client.search_model_versions(wanted, max_results=2, page_token=page_token)


@pytest.mark.requirement("PLT-7", "PLT-10")
def test_pinned_tables_returns_the_table_versions_of_all_models(registry: MlflowRegistry, client: MlflowClient) -> None:
    assert registry.pinned_tables() == {}
    register(client, "credit_model", {"shop/sales": 3, "shop/prices": 0}, {"shop/sales": 7}, None, {"shop/sales": "3"})
    register(client, "other_model", {"shop/sales": 4, "shop/stock": 1}, {})
    assert registry.pinned_tables() == {"shop/sales": {3, 4, 7}, "shop/prices": {0}, "shop/stock": {1}}


@pytest.mark.requirement("PLT-10")
def test_pinned_tables_fails_if_a_version_has_an_unreadable_tables_tag_and_no_record(
    registry: MlflowRegistry, client: MlflowClient
) -> None:
    register(client, "credit_model", {"shop/sales": 3}, {})
    for tag in ("shop/sales=3", "[3]", '{"shop/sales": "new"}', '{"shop/sales": null}'):
        client.set_model_version_tag("credit_model", "2", TABLES_TAG, tag)
        with pytest.raises(PlatformError, match=f"the tag {TABLES_TAG} of credit_model version 2 is .* a JSON object"):
            registry.pinned_tables()


@pytest.mark.requirement("PLT-10")
def test_all_pages_of_versions_are_read(client: MlflowClient, database: Database, tracking_uri: str) -> None:
    pages: Any = SmallPages(client)
    register(client, "credit_model", *({"shop/sales": number} for number in range(5)))
    registry = MlflowRegistry(tracking_uri, None, database.lock, client=pages)
    assert registry.pinned_tables() == {"shop/sales": {0, 1, 2, 3, 4}}


# Killed registrations


class Killed(BaseException):
    """Simulates a killed process. It is a `BaseException`, so that the registry does not catch it."""


class Dying:
    """A client whose process is killed at its n-th call, before or after MLflow has executed it.

    Parameters
    ----------
    client
        A real client.
    call
        Number of the call, from 1.
    is_done
        Whether MLflow executes the call before the process is killed.
    """

    def __init__(self, client: MlflowClient, call: int, is_done: bool) -> None:
        self._client, self._call, self._is_done = client, call, is_done
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def ask(*arguments: Any, **more: Any) -> Any:
            self.calls.append(name)
            dies = len(self.calls) == self._call
            if dies and not self._is_done:
                raise Killed
            answer = getattr(self._client, name)(*arguments, **more)
            if dies:
                raise Killed
            return answer

        return ask


@pytest.fixture(scope="module")
def shared_database(postgres_server: Database) -> Iterator[Database]:
    with empty_databases(postgres_server) as url:
        yield Database(make_url(url))


@pytest.mark.requirement("PRO-1", "PLT-10")
@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_repeating_a_registration_that_was_killed_at_any_call_creates_one_version(
    shared_database: Database, tmp_path: Path, is_done: bool
) -> None:
    uri = shared_database.psycopg2_url("mlflow")
    client = MlflowClient(uri, uri)
    good = MlflowRegistry(uri, str(tmp_path / "mlflow"), shared_database.lock)
    died: list[str] = []
    while True:
        call = len(died) + 1
        name = f"model_{call}_{is_done}"
        dying: Any = Dying(client, call, is_done)
        registry = MlflowRegistry(uri, str(tmp_path / "mlflow"), shared_database.lock, client=dying)
        given = registration(name=name)
        try:
            registry.register(given)
        except Killed:
            died.append(dying.calls[-1])
        else:
            break
        # If the killed registration already created a version, repeating it returns that version.
        halfway = good.versions(name)
        assert good.register(given) in (halfway or good.versions(name))
        (version,) = good.versions(name)
        assert good.by_alias(name, CHALLENGER) == version
        assert good.record(name, 1) == given.record
        statuses = {run.info.run_id: run.info.status for run in runs(client, name)}
        assert statuses.pop(version.run_id) == "FINISHED", died
        assert set(statuses.values()) <= {"KILLED"}, died
    assert {"create_run", "log_artifacts", "create_model_version", "set_registered_model_alias"} < set(died)


def runs(client: MlflowClient, name: str) -> list[Any]:
    experiment = client.get_experiment_by_name(name)
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


@pytest.mark.requirement("PRO-1")
def test_ensure_challenger_sets_an_alias_that_a_killed_registration_did_not_set(
    registry: MlflowRegistry, client: MlflowClient, database: Database, tracking_uri: str, root: Path
) -> None:
    registry.register(registration("print-1"))
    calls: Any = Dying(client, 0, is_done=False)
    MlflowRegistry(tracking_uri, str(root), database.lock, client=calls).register(registration("print-2"))
    last: Any = Dying(client, len(calls.calls), is_done=False)
    assert calls.calls[-1] == "set_registered_model_alias"
    with pytest.raises(Killed):
        MlflowRegistry(tracking_uri, str(root), database.lock, client=last).register(registration("print-3"))
    found = registry.find(NAME, "print-3")
    assert found is not None
    assert registry.by_alias(NAME, CHALLENGER) == registry.version(NAME, 2)
    registry.ensure_challenger(NAME, found.version)
    assert registry.by_alias(NAME, CHALLENGER) == found


@pytest.mark.requirement("PLT-10")
def test_runs_of_killed_registrations_are_marked_as_killed(
    registry: MlflowRegistry, client: MlflowClient, database: Database, tracking_uri: str, root: Path
) -> None:
    registry.register(registration("print-1"))
    experiment = client.get_experiment_by_name(NAME)
    assert experiment is not None
    theirs = client.create_run(experiment.experiment_id, run_name="manual").info.run_id
    calls: Any = Dying(client, 0, is_done=False)
    MlflowRegistry(tracking_uri, str(root), database.lock, client=calls).register(registration("print-2"))
    dying: Any = Dying(client, calls.calls.index("log_artifacts") + 1, is_done=True)
    with pytest.raises(Killed):
        MlflowRegistry(tracking_uri, str(root), database.lock, client=dying).register(registration("print-3"))
    registry.register(registration("print-4"))
    statuses = sorted(run.info.status for run in runs(client, NAME) if run.info.run_id != theirs)
    assert statuses == ["FINISHED", "FINISHED", "FINISHED", "KILLED"]
    assert client.get_run(theirs).info.status == "RUNNING"


# Unreachable MLflow


@pytest.mark.requirement("PLT-8")
@pytest.mark.parametrize(
    "uri", ["http://me:hunter2hunter2@127.0.0.1:{}", "postgresql://me:hunter2hunter2@127.0.0.1:{}/x"]
)
def test_the_error_for_an_unreachable_mlflow_shows_its_address_without_secrets(
    uri: str, capfd: pytest.CaptureFixture[str]
) -> None:
    registry = MlflowRegistry(uri.format(port := reserve_port()), None, lambda _: threading.Lock())
    for ask in (
        lambda: registry.find(NAME, "print-1"),
        lambda: registry.version(NAME, 1),
        lambda: registry.by_alias(NAME, CHALLENGER),
        lambda: registry.register(registration()),
        registry.pinned_tables,
    ):
        with pytest.raises(RegistryError, match=rf"the registry in MLflow \(\w+://127.0.0.1:{port}") as caught:
            ask()
        assert "hunter2" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
    assert capfd.readouterr() == ("", "")


@pytest.mark.requirement("PLT-8")
def test_the_error_for_a_dropped_mlflow_database_is_one_line_that_names_the_command_doctor(
    registry: MlflowRegistry, database: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    registry.register(registration())
    with database.maintenance() as connection:
        connection.execute(f'drop database "{database.name("mlflow")}" with (force)'.encode())
    with pytest.raises(RegistryError, match="failed: .*platform-assets doctor") as caught:
        registry.versions(NAME)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


# The lock


def test_only_one_thread_at_a_time_holds_a_lock(database: Database) -> None:
    inside, seen = 0, []

    def work() -> None:
        nonlocal inside
        for _ in range(5):
            with database.lock("a thing"):
                inside += 1
                seen.append(inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 20


def test_waiting_for_a_lock_ends_with_a_timeout_error(database: Database) -> None:
    with (
        database.lock("a thing"),
        database.lock("another thing"),
        pytest.raises(DatabaseError, match="another process has held the lock 'a thing' for more than 0.05 s"),
        database.lock("a thing", seconds=0.05),
    ):
        pytest.fail("two threads hold the lock")
    with database.lock("a thing", seconds=0.05):
        pass


@pytest.mark.requirement("PLT-10")
def test_a_killed_process_releases_its_lock(database: Database, database_url: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, database_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DatabaseError), database.lock("a thing", seconds=0.05):
            pytest.fail("two threads hold the lock")
        holder.send_signal(signal.SIGKILL)
    with database.lock("a thing", seconds=60):
        pass


def test_an_error_releases_the_lock(database: Database) -> None:
    with pytest.raises(KeyError), database.lock("a thing"):
        raise KeyError
    with database.lock("a thing", seconds=0.05):
        pass
