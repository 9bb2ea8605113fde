from __future__ import annotations

import re
import shutil
import signal
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import psutil
import pytest
from dagster._core.instance.ref import InstanceRef
from dagster._serdes import deserialize_value, serialize_value
from sqlalchemy import event

from platform_assets.base.errors import PlatformError
from platform_assets.orchestration.storage import PROJECT, PlatformEventLog, dagster_instance
from platform_assets_tests.orchestration.leaky_assets import harmless, materialise

if TYPE_CHECKING:
    from platform_assets_tests.warm import WarmParent

MODULE = """
import dagster as dg

@dg.asset
def loans() -> None:
    print("printed by the step")

defs = dg.Definitions([loans])
"""


@pytest.mark.requirement("PLT-3")
def test_an_instance_opened_from_a_reference_uses_the_history_and_folders_of_the_original(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    reference = deserialize_value(serialize_value(instance.get_ref()), InstanceRef)
    run_id = materialise(harmless, instance)
    with dg.DagsterInstance.from_ref(reference) as other:
        assert [run.run_id for run in other.get_runs()] == [run_id]
        assert (
            other.storage_directory() == instance.storage_directory() == str(tmp_path / "home" / "dagster" / "storage")
        )
    assert not instance.telemetry_enabled
    assert not instance.nux_enabled


def test_a_run_opens_few_connections_and_replaces_lost_connections(instance: dg.DagsterInstance) -> None:
    log = instance.event_log_storage
    assert isinstance(log, PlatformEventLog)
    opened: list[object] = []
    event.listen(log._engine, "connect", lambda connection, _: opened.append(connection))
    materialise(harmless, instance)
    assert 0 < len(opened) < 5
    with log.run_connection() as connection:
        connection.exec_driver_sql(
            "select pg_terminate_backend(pid, 60000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
    assert materialise(harmless, instance) in {run.run_id for run in instance.get_runs() if run.is_success}


def dagsters_command(*arguments: str) -> None:
    """Run the command `dagster` in this process."""
    (program,) = entry_points(group="console_scripts", name="dagster")
    sys.argv = ["dagster", *arguments]
    program.load()()


@pytest.mark.slow
@pytest.mark.requirement("PLT-3")
def test_the_dagster_command_uses_the_platforms_history_even_if_dagster_home_is_not_set(
    instance: dg.DagsterInstance, tmp_path: Path, warm: WarmParent
) -> None:
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    (tmp_path / "little.py").write_text(MODULE)
    with (tmp_path / "told").open("w") as told:
        arguments = ("asset", "materialize", "-f", "little.py", "--select", "loans")
        with warm.start(dagsters_command, *arguments, stdout=told, stderr=told) as process:
            code = process.wait()
    assert code == 0, (tmp_path / "told").read_text()
    (run,) = instance.get_runs()
    assert run.is_success
    printed = [path.read_text() for path in (tmp_path / "home" / "dagster").rglob("*.out")]
    assert printed == ["printed by the step\n"]


def test_the_processes_that_copy_output_to_the_terminal_ignore_ctrl_c(instance: dg.DagsterInstance) -> None:
    others = psutil.Process().children()
    with instance.compute_log_manager.capture_logs(["run", "compute_logs", "step"]):
        helpers = [child for child in psutil.Process().children() if child not in others]
        blocked = [_blocked_signals(helper.pid) for helper in helpers]
    assert helpers
    assert all(signal.SIGINT in one for one in blocked)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def _blocked_signals(pid: int) -> set[int]:
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(re.search(r"^SigBlk:\s*(\w+)$", status, re.MULTILINE)[1], 16)  # type: ignore[index]
    return {number for number in signal.valid_signals() if mask >> (number - 1) & 1}


def test_opening_an_instance_without_dagster_yaml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match=r"has no dagster\.yaml"):
        dagster_instance(project=tmp_path)
    assert list(tmp_path.iterdir()) == []
