from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from sqlalchemy import make_url

from platform_assets.base.errors import OtherLake
from platform_assets.database.connections import Database
from platform_assets.definitions import resources
from platform_assets.lake.lake_identity import (
    IDENTITY_FILE,
    BoundLake,
    bind_lake,
    bound_lake,
    demand_own_lake,
    lake_identity,
    refuse_other_lake,
)
from platform_assets.services import Services
from platform_assets.settings import load_settings
from platform_assets_tests.command_line import platform_assets
from platform_assets_tests.ports import reserve_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.requirement("PLT-12")


@pytest.fixture
def machine(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Services]]:
    """Yield a function that opens services with a `PLATFORM_HOME` of a given name. All homes share one database."""
    opened = []
    monkeypatch.setenv("PLATFORM_DATABASE_URL", database_url)

    def open_machine(name: str) -> Services:
        monkeypatch.setenv("PLATFORM_HOME", str(tmp_path / name))
        opened.append(Services(load_settings()))
        return opened[-1]

    yield open_machine
    for services in opened:
        services.close()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(make_url(database_url))) as database:
        yield database


def bound(database: Database) -> BoundLake | None:
    with closing(database.connect("platform")) as connection:
        return bound_lake(connection)


@pytest.mark.requirement("PLT-9")
def test_a_step_with_another_lake_fails_and_writes_nothing(machine: Callable[[str], Services], tmp_path: Path) -> None:
    ran = []

    @dg.op(required_resource_keys={"tables"})
    def write() -> None:
        ran.append(True)

    @dg.job(executor_def=dg.in_process_executor)
    def step() -> None:
        write()

    for name, fails in (("one", False), ("two", True), ("one", False)):
        services = machine(name)
        from platform_assets.orchestration.storage import dagster_instance

        with dagster_instance() as instance:
            given = resources(lambda services=services: services)  # type: ignore[misc]  # mypy cannot infer it
            result = step.execute_in_process(instance=instance, resources=given, raise_on_error=False)
            told = " ".join(str(event.message) for event in result.all_events)
        assert result.success != fails, told
    assert len(ran) == 2
    assert not (tmp_path / "two" / "lake").exists()


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "up",
        "serve",
        "serve --workers 2",
        "upkeep",
        "keys list",
        "decide list",
        "audit",
        "alerts list",
        "erase client 1",
        "backup {tmp}/backup",
        "esios backfill 2024-01-01 2024-01-02",
        "table rollback credit_risk/loans 0 --reason wrong",
    ],
)
def test_every_command_refuses_the_database_of_another_lake(
    machine: Callable[[str], Services], command: str, tmp_path: Path
) -> None:
    machine("one").demand_own_lake()
    machine("two")
    found = platform_assets(*command.format(tmp=tmp_path).split(), PLATFORM_SERVICE_PORT=reserve_port())
    assert found.code == 1, found.err
    assert "OtherLake" in found.err
    assert str(tmp_path / "one" / "lake") in found.err
    assert str(tmp_path / "two" / "lake") in found.err
    assert not (tmp_path / "two" / "lake").exists()


def test_migrate_refuses_the_database_of_another_lake_but_needs_no_lake(
    machine: Callable[[str], Services], database: Database, owner_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_MIGRATION_DATABASE_URL", owner_url)
    one = machine("one")
    one.demand_own_lake()
    two = machine("two")
    assert platform_assets("migrate").code == 0
    assert lake_identity(two.settings.lake) == ""
    two.artefacts.write_note(IDENTITY_FILE, b"another")
    refused = platform_assets("migrate")
    assert refused.code == 1
    assert str(one.settings.lake) in refused.err
    adopted = platform_assets("migrate", "--adopt-lake")
    assert adopted.code == 0, adopted.err
    two.demand_own_lake()
    with pytest.raises(OtherLake, match="belongs to the lake .*two"):
        demand_own_lake(database, one.settings.lake)


def test_the_doctor_names_both_lakes(machine: Callable[[str], Services]) -> None:
    machine("one").demand_own_lake()
    machine("two")
    output = platform_assets("doctor").out
    assert "broken database: the database" in output
    assert output.count("belongs to the lake") == 1
    assert "broken history: not examined: same problem as database" in output


def test_a_moved_or_copied_lake_keeps_its_database(database: Database, tmp_path: Path) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    demand_own_lake(database, one)
    Path(one).rename(two)
    demand_own_lake(database, two)
    assert (found := bound(database)) is not None
    assert found.place.startswith(two)
    with pytest.raises(OtherLake, match="belongs to the lake .*two.* uses the lake .*one.*no identity"):
        demand_own_lake(database, one)


def test_a_new_database_refuses_the_lake_of_another_database(database: Database, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / IDENTITY_FILE).write_text("of another")
    with pytest.raises(OtherLake, match=r"the database .* is new, but the lake is not.*of another.*--adopt-lake"):
        demand_own_lake(database, str(tmp_path))
    assert bound(database) is None
    bind_lake(database, str(tmp_path))
    demand_own_lake(database, str(tmp_path))


def test_a_lake_in_memory_is_only_used_with_an_unbound_database(database: Database, tmp_path: Path) -> None:
    demand_own_lake(database, "memory://")
    demand_own_lake(database, str(tmp_path))
    with pytest.raises(OtherLake, match="uses the lake memory://"):
        demand_own_lake(database, "memory://")


def test_the_first_process_that_can_write_to_the_lake_stores_the_lakes_identity_there(
    database: Database, tmp_path: Path
) -> None:
    # Put a file in place of the folder `models`. Then no process can read or write an identity there, not even as root.
    lake = tmp_path / "lake"
    lake.mkdir()
    (lake / "models").touch()
    demand_own_lake(database, str(lake))
    assert (found := bound(database)) is not None
    assert not found.is_marked
    (lake / "models").unlink()
    demand_own_lake(database, str(lake))
    assert lake_identity(str(lake)) == found.identity
    assert bound(database) == BoundLake(found.identity, found.place, is_marked=True)


def test_an_unreachable_lake_is_not_checked(database: Database, tmp_path: Path) -> None:
    demand_own_lake(database, str(tmp_path))
    demand_own_lake(database, "s3://bucket-without-credentials/lake?region=x")
    refuse_other_lake(database, "s3://bucket-without-credentials/lake?region=x")


def test_only_one_of_several_new_lakes_is_bound_to_a_new_database(database: Database, tmp_path: Path) -> None:
    lakes = [str(tmp_path / name) for name in "abcd"]
    refused = []

    def open_lake(lake: str) -> None:
        try:
            demand_own_lake(database, lake)
        except OtherLake:
            refused.append(lake)

    threads = [threading.Thread(target=open_lake, args=[lake]) for lake in lakes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    assert sorted(lake for lake in lakes if not lake_identity(lake)) == sorted(refused)
