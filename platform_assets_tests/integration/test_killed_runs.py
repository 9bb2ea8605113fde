"""Runs killed at any moment leave nothing that the next one does not mend."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from pydantic import SecretStr

from platform_assets.core.scratch import clean_scratch
from platform_assets.orchestration.storage import dagster_instance
from platform_assets.settings import Settings
from platform_assets_tests.command_line import digests
from platform_assets_tests.postgres import empty_databases, wait_until
from platform_assets_tests.warm import Process, WarmParent, command

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.core.database import Database

KILLS = 10
SEED = 20_261_120
ROWS = 1_400
LINES = [
    "platform-assets: materialising",
    "... credit_risk/loans",
    "ok credit_risk/loans",
    "... optimisation/compact_table",
    "ok optimisation/compact_table",
    "... optimisation/distances",
    "ok optimisation/distances",
    "... credit_risk/loan_features",
    "ok credit_risk/loan_features",
    "... credit_risk/client_features",
    "ok credit_risk/client_features",
]


@dataclass(frozen=True)
class Runs:
    """Starts runs, each in a process group of its own."""

    warm: WarmParent
    output: Path

    def start(self, home: Path, url: str) -> Process:
        """Start a run."""
        with self.output.open("w") as output:
            return self.warm.start(command, "run", stdout=output, stderr=output, variables=variables(home, url))

    def moment_of_line(self, number: int) -> float:
        """Wait until that many lines about the run's progress were printed; when that was."""
        wait_until(lambda: number == 0 or self._progress() >= number, f"it printed {number} lines")
        return time.monotonic()

    def _progress(self) -> int:
        return sum(not line.startswith("run ") for line in self.output.read_text().splitlines())


def variables(home: Path, url: str) -> dict[str, str]:
    return {"PLATFORM_HOME": str(home), "PLATFORM_DATABASE_URL": url, "PLATFORM_DEMO_ROWS": str(ROWS)}


@pytest.mark.slow
@pytest.mark.requirement("PLT-3", "PLT-7", "PLT-10")
def test_after_ten_runs_killed_at_random_moments_one_that_is_not_makes_the_same_tables(
    warm: WarmParent, postgres_server: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(warm, tmp_path / "output.txt")
    with empty_databases(postgres_server) as other_url, runs.start(tmp_path / "undisturbed", other_url) as run:
        moments = [runs.moment_of_line(number) for number in range(len(LINES) + 1)]
        assert run.wait() == 0
        lines = runs.output.read_text().splitlines()
        assert [line.split()[:2] for line in lines[: len(LINES)]] == [line.split() for line in LINES]
        expected = digests(Settings(home=tmp_path / "undisturbed", database_url=SecretStr(other_url)))

    home = tmp_path / "home"
    chance = random.Random(SEED)
    ends = []
    for _ in range(KILLS):
        with runs.start(home, database_url) as run:
            number = chance.randrange(len(LINES))
            runs.moment_of_line(number)
            # Somewhere between this line and the next one.
            time.sleep(chance.uniform(0, moments[number + 1] - moments[number]))
            run.kill_group()
            ends.append(run.wait())
    assert ends.count(-signal.SIGKILL) >= KILLS - 2

    with runs.start(home, database_url) as last:
        assert last.wait() == 0
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
