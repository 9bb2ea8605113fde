from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from platform_assets.operations.supervisor import PATIENCE_SECONDS
from platform_assets.web.http_server import SECONDS_TO_FINISH
from platform_assets.web.workers import STOP_SECONDS
from platform_assets_tests.postgres import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).with_name("worker_program.py")


@dataclass(frozen=True)
class Crew:
    supervisor: subprocess.Popen[bytes]
    folder: Path

    def pids(self) -> dict[int, int]:
        """Return the process ids, keyed by worker number. A replacement overwrites the id of its predecessor."""
        return {int(file.name): int(file.read_text().split()[0]) for file in self.folder.glob("[0-9]")}

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def end(self, number: signal.Signals) -> int:
        self.supervisor.send_signal(number)
        return self.supervisor.wait(60)


@contextmanager
def crew_of(count: int, folder: Path, behaviour: str = "serves") -> Iterator[Crew]:
    command = [sys.executable, str(PROGRAM), str(count), str(folder), behaviour]
    with (folder / "log").open("wb") as log:
        supervisor = subprocess.Popen(command, stderr=log, start_new_session=True)
    try:
        yield Crew(supervisor, folder)
    finally:
        if supervisor.poll() is None:
            os.killpg(supervisor.pid, signal.SIGKILL)
        supervisor.wait()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.requirement("SRV-1", "PLT-9")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_killed_worker_is_replaced_and_a_signal_to_the_supervisor_ends_all_workers(
    number: signal.Signals, tmp_path: Path
) -> None:
    with crew_of(3, tmp_path) as crew:
        wait_until(lambda: len(crew.pids()) == 3, "three workers served")
        first = crew.pids()
        os.kill(first[2], signal.SIGKILL)
        wait_until(lambda: crew.pids()[2] != first[2], "the killed worker was replaced")
        assert {one: crew.pids()[one] for one in (1, 3)} == {one: first[one] for one in (1, 3)}
        wait_until(lambda: f"process {crew.pids()[2]}" in crew.log(), "the supervisor logged the new worker")
        assert crew.end(number) == 0
        assert not any(map(is_alive, (*first.values(), *crew.pids().values())))
    assert f"worker 2 (process {first[2]}) was killed by SIGKILL; starting a replacement now" in crew.log()


def test_the_command_make_up_waits_longer_than_the_service_needs_to_stop_its_workers() -> None:
    assert SECONDS_TO_FINISH < STOP_SECONDS < PATIENCE_SECONDS


@pytest.mark.requirement("SRV-1")
def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    with crew_of(2, tmp_path) as crew:
        wait_until(lambda: len(crew.pids()) == 2, "two workers served")
        crew.end(signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, crew.pids().values())), "the workers had ended")


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize(
    ("behaviour", "code", "told"),
    [
        ("cannot start", 7, "worker 1 cannot start\n"),
        ("killed at start", 1, "was killed by SIGKILL before it accepted"),
    ],
)
def test_the_service_ends_and_logs_the_reason_once_if_workers_cannot_start(
    behaviour: str, code: int, told: str, tmp_path: Path
) -> None:
    with crew_of(3, tmp_path, behaviour) as crew:
        assert crew.supervisor.wait(60) == code
        assert crew.log().count(told) == 1
        assert crew.log().count("\n") == 1


@pytest.mark.requirement("SRV-1")
def test_a_worker_that_cannot_start_is_restarted_after_a_pause_if_another_worker_serves(tmp_path: Path) -> None:
    with crew_of(2, tmp_path, "first only") as crew:
        wait_until(lambda: crew.log().count("worker 2 cannot start") == 3, "the second worker was started three times")
        pids = crew.pids()
        assert list(pids) == [1]
        assert is_alive(pids[1])
        assert crew.log().count("starting a replacement now") == 1
        assert "starting a replacement in 1 s" in crew.log()
        assert crew.end(signal.SIGTERM) == 0


@pytest.mark.requirement("SRV-1")
def test_a_worker_that_keeps_dying_is_replaced_after_longer_and_longer_pauses(tmp_path: Path) -> None:
    with crew_of(1, tmp_path, "dies") as crew:
        wait_until(lambda: "starting a replacement in 2 s" in crew.log(), "the worker had died three times")
        assert "starting a replacement in 1 s" in crew.log()
        assert crew.end(signal.SIGTERM) == 0


@pytest.mark.requirement("SRV-3")
def test_a_worker_gets_the_answers_of_other_workers_although_some_hang_or_fail(tmp_path: Path) -> None:
    with crew_of(4, tmp_path, "asks") as crew:
        wait_until((tmp_path / "answers").exists, "the first worker had answers")
        wait_until(lambda: (tmp_path / "answers").read_text() == "[2] 300000", "the answers were written")
        assert crew.end(signal.SIGTERM) == 0
