"""Runs killed at any moment leave nothing that the next one does not mend."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import dagster as dg
import pytest
from pydantic import SecretStr

from platform_assets.core.scratch import clean_scratch
from platform_assets.orchestration.storage import dagster_instance
from platform_assets.settings import Settings
from platform_assets_tests.command_line import PROGRAM, digests
from platform_assets_tests.postgres import empty_databases, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from platform_assets.core.database import Database

KILLS = 10
SEED = 20_261_120
ROWS = 1_400
LINES = [
    "platform-assets: materialising",
    "... credit_risk/loans",
    "ok credit_risk/loans",
    "... credit_risk/loan_features",
    "ok credit_risk/loan_features",
    "... credit_risk/client_features",
    "ok credit_risk/client_features",
]


@dataclass(frozen=True)
class Runs:
    """Starts runs, each in a process group of its own; see `forked_runs.py`."""

    orders: IO[str]
    answers: IO[str]
    output: Path

    def start(self, home: Path, url: str) -> int:
        """Start a run; the id of its process and its group."""
        self.output.unlink(missing_ok=True)
        self.orders.write(json.dumps({"variables": variables(home, url), "output": str(self.output)}) + "\n")
        self.orders.flush()
        return int(self.answers.readline())

    def moment_of_line(self, number: int) -> float:
        """Wait until that many lines about the run's progress were printed; when that was."""
        wait_until(lambda: number == 0 or self._progress() >= number, f"it printed {number} lines")
        return time.monotonic()

    def _progress(self) -> int:
        lines = self.output.read_text().splitlines() if self.output.exists() else []
        return sum(not line.startswith("run ") for line in lines)

    def end(self) -> int:
        """Wait for the run's end; its exit code, or minus the signal that killed it."""
        return int(self.answers.readline())


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    command = [sys.executable, "-m", "platform_assets_tests.integration.forked_runs"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Runs(process.stdin, process.stdout, tmp_path / "output.txt")


def variables(home: Path, url: str) -> dict[str, str]:
    return {"PLATFORM_HOME": str(home), "PLATFORM_DATABASE_URL": url, "PLATFORM_DEMO_ROWS": str(ROWS)}


@pytest.mark.slow
@pytest.mark.requirement("PLT-3", "PLT-7", "PLT-10")
def test_after_ten_runs_killed_at_random_moments_one_that_is_not_makes_the_same_tables(
    runs: Runs, postgres_server: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with empty_databases(postgres_server) as other_url:
        runs.start(tmp_path / "undisturbed", other_url)
        moments = [runs.moment_of_line(number) for number in range(len(LINES) + 1)]
        assert runs.end() == 0
        lines = runs.output.read_text().splitlines()
        assert [line.split()[:2] for line in lines[: len(LINES)]] == [line.split() for line in LINES]
        expected = digests(Settings(home=tmp_path / "undisturbed", database_url=SecretStr(other_url)))

    home = tmp_path / "home"
    chance = random.Random(SEED)
    ends = []
    for _ in range(KILLS):
        process = runs.start(home, database_url)
        number = chance.randrange(len(LINES))
        runs.moment_of_line(number)
        # Somewhere between this line and the next one.
        time.sleep(chance.uniform(0, moments[number + 1] - moments[number]))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        ends.append(runs.end())
    assert ends.count(-signal.SIGKILL) >= KILLS - 2

    last = subprocess.run([PROGRAM, "run"], env=os.environ | variables(home, database_url), check=False)
    assert last.returncode == 0
    settings = Settings(home=home, database_url=SecretStr(database_url))
    assert None not in expected.values()
    assert digests(settings) == expected

    for name, value in variables(home, database_url).items():
        monkeypatch.setenv(name, value)
    with dagster_instance() as instance:
        statuses = Counter(run.status for run in instance.get_runs())
    # A run killed before its start counts as on its way for ten minutes; one killed earlier is not known at all.
    assert set(statuses) <= {
        dg.DagsterRunStatus.FAILURE,
        dg.DagsterRunStatus.SUCCESS,
        dg.DagsterRunStatus.NOT_STARTED,
    }
    assert statuses[dg.DagsterRunStatus.SUCCESS] == 1 + ends.count(0)
    assert statuses[dg.DagsterRunStatus.FAILURE] > 0

    assert clean_scratch(home / "scratch") > 0
    assert list((home / "scratch").iterdir()) == []
