from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from platform_assets.base.errors import TableError
from platform_assets.definitions import resources
from platform_assets.operations.shared_lake import IDENTITY_FILE, demand_shared_lake, is_shared
from platform_assets.orchestration.storage import dagster_instance
from platform_assets.services import Services
from platform_assets.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def machine(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Services]]:
    """Return the services of a machine that shares the database but has its own home."""
    opened = []
    monkeypatch.setenv("PLATFORM_DATABASE_URL", database_url)
    monkeypatch.setenv("PLATFORM_EXECUTOR", "celery")
    monkeypatch.setenv("PLATFORM_CELERY_BROKER_URL", "redis://host.invalid")

    def open_machine(name: str) -> Services:
        monkeypatch.setenv("PLATFORM_HOME", str(tmp_path / name))
        opened.append(Services(load_settings()))
        return opened[-1]

    yield open_machine
    for services in opened:
        services.close()


@pytest.mark.requirement("PLT-9")
def test_a_step_on_a_machine_with_another_lake_fails_and_writes_nothing(
    machine: Callable[[str], Services], tmp_path: Path
) -> None:
    ran = []

    @dg.op(required_resource_keys={"tables"})
    def write() -> None:
        ran.append(True)

    @dg.job(executor_def=dg.in_process_executor)
    def step() -> None:
        write()

    for name, fails in (("one", False), ("two", True), ("one", False)):
        services = machine(name)
        with dagster_instance() as instance:
            assert is_shared(instance, services) != fails
            given = resources(lambda services=services: services)  # type: ignore[misc]  # mypy cannot infer it
            result = step.execute_in_process(instance=instance, resources=given, raise_on_error=False)
            told = " ".join(str(event.message) for event in result.all_events)
        assert result.success != fails, told
    assert len(ran) == 2
    assert not (tmp_path / "two" / "lake").exists()


def test_the_error_names_the_lake_and_the_fix_and_a_copy_of_the_lake_is_accepted(
    machine: Callable[[str], Services], tmp_path: Path
) -> None:
    first, second = machine("one"), machine("two")
    with dagster_instance() as instance:
        demand_shared_lake(instance, first)
        with pytest.raises(TableError, match="the lake .*two/lake of the machine .* PLATFORM_LAKE_URI"):
            demand_shared_lake(instance, second)
        identity = (tmp_path / "one" / "lake" / "models" / IDENTITY_FILE).read_bytes()
        second.artefacts.write_note(IDENTITY_FILE, identity)
        demand_shared_lake(instance, second)
