"""The contract of all model registries, tested with MLflow on PostgreSQL, a registry in memory and one in a file."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import make_url

from platform_assets.base.errors import RegistryError
from platform_assets.database.connections import Database
from platform_assets.models.memory_registry import MemoryRegistry
from platform_assets.models.mlflow_registry import MlflowRegistry
from platform_assets.models.registry import CHALLENGER, CHAMPION, ModelRegistry
from platform_assets_tests.contracts.file_registry import FileRegistry
from platform_assets_tests.contracts.registrations import NAME, registration
from platform_assets_tests.postgres import empty_databases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OTHER = "sensor_maintenance_model"


@pytest.fixture(params=["memory", "file", "mlflow"])
def make_registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], ModelRegistry]]:
    """Return a function that opens the registry as a separate process would. The registry is empty at first."""
    if request.param == "memory":
        memory = MemoryRegistry()
        yield lambda: memory
        return
    if request.param == "file":
        folder = tmp_path_factory.mktemp("registry")
        yield lambda: FileRegistry(folder)
        return
    with empty_databases(request.getfixturevalue("postgres_server")) as url:
        database = Database(make_url(url))
        uri, root = database.psycopg2_url("mlflow"), str(tmp_path_factory.mktemp("mlflow"))
        yield lambda: MlflowRegistry(uri, root, database.lock, scratch=tmp_path_factory.mktemp("scratch"))


@pytest.fixture
def registry(make_registry: Callable[[], ModelRegistry]) -> ModelRegistry:
    return make_registry()


@pytest.mark.requirement("PRO-1", "PLT-7")
def test_a_version_has_the_fields_of_its_registration(
    registry: ModelRegistry, make_registry: Callable[[], ModelRegistry]
) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    given = registration()
    made = registry.register(given)
    assert (made.name, made.version, made.digest, made.fingerprint) == (NAME, 1, given.digest, "print-1")
    assert made.threshold == given.threshold
    assert (made.tables, made.table_digests) == (given.tables, given.table_digests)
    assert made.metrics == {"roc_auc": 0.1 + 0.7, "roc_auc_low": 0.75}
    assert made.parameters == given.parameters
    assert {name: type(value) for name, value in made.parameters.items()} == {
        "model": str,
        "trees": int,
        "depth": float,
    }
    assert made.tags == given.tags
    assert before < made.created_at < datetime.now(UTC) + timedelta(seconds=1)
    assert made.run_id
    others = make_registry()
    assert others.version(NAME, 1) == made
    assert others.versions(NAME) == [made]
    assert others.find(NAME, "print-1") == made
    assert others.by_alias(NAME, CHALLENGER) == made
    assert others.record(NAME, 1) == given.record


@pytest.mark.requirement("PRO-1", "PRO-7")
def test_versions_are_numbered_per_model_and_aliases_can_be_moved(registry: ModelRegistry) -> None:
    first = registry.register(registration("print-1"))
    second = registry.register(registration("print-2", record={"second": True}, tables={"credit_risk/loans": 7}))
    other = registry.register(registration("print-1", name=OTHER))
    assert [first.version, second.version, other.version] == [1, 2, 1]
    assert registry.versions(NAME) == [second, first]
    assert registry.versions(OTHER) == [other]
    assert registry.find(NAME, "print-1") == first
    assert registry.find(OTHER, "print-1") == other
    assert registry.find(NAME, "print-3") is None
    assert registry.by_alias(NAME, CHALLENGER) == second
    assert registry.by_alias(NAME, CHAMPION) is None
    assert registry.record(NAME, 2) == {"second": True}
    assert registry.record(NAME, 1) == registration().record
    for number in (1, 2, 1):
        registry.set_alias(NAME, CHAMPION, number)
        assert registry.by_alias(NAME, CHAMPION) == registry.version(NAME, number)
    assert registry.by_alias(OTHER, CHAMPION) is None
    assert registry.pinned_tables() == {"credit_risk/loans": {3, 7}, "credit_risk/loan_features": {0}}
    assert registry.named_artefacts() == {version.digest for version in (first, second, other)}


@pytest.mark.requirement("PRO-1", "PLT-7")
def test_registering_a_known_fingerprint_returns_the_known_version(registry: ModelRegistry) -> None:
    first = registry.register(registration("print-1"))
    registry.register(registration("print-2"))
    again = registry.register(registration("print-1", digest="e" * 64, record={}, tags={}))
    assert again == first
    assert [version.fingerprint for version in registry.versions(NAME)] == ["print-2", "print-1"]
    # The last registration matched version 1, so the challenger is version 1, although version 2 is newer.
    assert registry.by_alias(NAME, CHALLENGER) == registry.version(NAME, 1)
    registry.ensure_challenger(NAME, 2)
    assert registry.by_alias(NAME, CHALLENGER) == registry.version(NAME, 2)


@pytest.mark.requirement("PRO-1")
def test_a_moved_challenger_alias_is_restored(registry: ModelRegistry) -> None:
    registry.register(registration("print-1"))
    registry.register(registration("print-2"))
    for heal in (
        lambda: registry.ensure_challenger(NAME, 2),
        lambda: registry.register(registration("print-2")),
    ):
        registry.set_alias(NAME, CHALLENGER, 1)
        heal()
        assert registry.by_alias(NAME, CHALLENGER) == registry.version(NAME, 2)


@pytest.mark.requirement("PRO-1")
def test_concurrent_registrations_create_one_version(make_registry: Callable[[], ModelRegistry]) -> None:
    together, made, errors = threading.Barrier(3), [], []

    def register() -> None:
        registry = make_registry()
        together.wait()
        try:
            made.append(registry.register(registration()))
        except Exception as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=register) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert make_registry().versions(NAME) == made[:1]
    assert made == made[:1] * 3


def test_an_empty_registry_has_no_versions_aliases_or_pinned_tables(registry: ModelRegistry) -> None:
    assert registry.versions(NAME) == []
    assert registry.find(NAME, "print-1") is None
    assert registry.by_alias(NAME, CHAMPION) is None
    assert registry.pinned_tables() == {}


def test_errors_for_missing_versions_list_the_registered_versions(registry: ModelRegistry) -> None:
    def answers(name: str, number: int) -> Iterator[str]:
        asks: list[Callable[[], Any]] = [
            lambda: registry.version(name, number),
            lambda: registry.record(name, number),
            lambda: registry.ensure_challenger(name, number),
            lambda: registry.set_alias(name, CHAMPION, number),
        ]
        for ask in asks:
            with pytest.raises(RegistryError) as caught:
                ask()
            yield str(caught.value)

    for told in answers(NAME, 1):
        assert re.search(f"no model {NAME} is registered .registered models: none.; train it", told)
    registry.register(registration("print-1"))
    registry.register(registration("print-2"))
    for told in answers(NAME, 3):
        assert told == f"{NAME} has no version 3; registered versions: 2, 1"
    for told in answers(OTHER, 1):
        assert re.search(f"no model {OTHER} is registered .registered models: {NAME}.; train it", told)


@pytest.mark.requirement("PRO-5", "PRO-7")
def test_tags_can_be_added_and_aliases_removed(registry: ModelRegistry) -> None:
    assert registry.names() == []
    registry.drop_alias(NAME, CHAMPION)
    made = registry.register(registration("print-1"))
    registry.register(registration("print-2", name=OTHER))
    registry.set_tags(NAME, 1, {"approval": "1", "empty": "no longer"})
    registry.set_tags(NAME, 1, {"approval": "2", "Zoë": "😀"})
    expected = {**made.tags, "approval": "2", "empty": "no longer", "Zoë": "😀"}
    assert registry.version(NAME, 1).tags == expected
    assert registry.version(OTHER, 1).tags == made.tags
    with pytest.raises(RegistryError, match="which is reserved; rename them"):
        registry.set_tags(NAME, 1, {"platform.digest": "x"})
    with pytest.raises(RegistryError, match="registered versions: 1"):
        registry.set_tags(NAME, 2, {"a": "b"})
    registry.set_alias(NAME, CHAMPION, 1)
    registry.drop_alias(NAME, CHAMPION)
    registry.drop_alias(NAME, CHAMPION)
    assert registry.by_alias(NAME, CHAMPION) is None
    assert registry.names() == [NAME, OTHER]


@pytest.mark.parametrize("alias", ["", "latest", "LATEST", "v1", "V22", "a b", "a/b", "ä"])
def test_malformed_aliases_are_refused(alias: str) -> None:
    # MLflow needs no database here, because both registries check the alias before they use their storage.
    for registry in (MemoryRegistry(), MlflowRegistry("sqlite://", None, lambda _: threading.Lock())):
        with pytest.raises(RegistryError, match="cannot be an alias"):
            registry.set_alias(NAME, alias, 1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "credit/risk"}, "'credit/risk' cannot be a model's name"),
        ({"name": "it's"}, "cannot be a model's name"),
        ({"name": ""}, "'' cannot be a model's name"),
        ({"fingerprint": "a' or"}, "cannot be a fingerprint"),
        ({"tags": {"platform.tables": "{}", "a": "b"}}, r"the tags \['platform.tables'\] have the prefix"),
    ],
)
def test_malformed_registrations_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(RegistryError, match=said):
        registration(**{"fingerprint": "print-1", **fields})


def test_changing_a_mapping_of_the_caller_does_not_change_the_stored_version(registry: ModelRegistry) -> None:
    tables = {"credit_risk/loans": 3}
    made = registry.register(registration(tables=tables))
    tables["credit_risk/loans"] = 4
    assert isinstance(made.tables, dict)
    made.tables["credit_risk/loans"] = 5
    assert registry.pinned_tables() == {"credit_risk/loans": {3}}
    assert registry.version(NAME, 1).tables == {"credit_risk/loans": 3}
