"""A run completes all work, no matter when earlier runs were killed."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from pydantic import SecretStr

from platform_assets.domains.credit_risk.demo import generate
from platform_assets.orchestration.storage import dagster_instance
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.command_line import OTHER_ROWS, digests, models
from platform_assets_tests.postgres import empty_databases, wait_until
from platform_assets_tests.warm import Process, WarmParent, command

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.database.connections import Database

SEED = 20_261_120
ROWS = 3_000
LAST = "ok credit_risk/credit_risk_model"
"""Start of the progress line that a run prints after its last asset."""


@dataclass(frozen=True)
class Runs:
    """Starts `platform-assets run`, and reads its output."""

    warm: WarmParent
    output: Path
    source: Path

    def start(self, home: Path, url: str) -> Process:
        """Start a run."""
        with self.output.open("w") as output:
            return self.warm.start(command, "run", stdout=output, stderr=output, variables=self.variables(home, url))

    def variables(self, home: Path, url: str) -> dict[str, str]:
        """Return the environment variables of a run."""
        return {
            "PLATFORM_HOME": str(home),
            "PLATFORM_DATABASE_URL": url,
            "PLATFORM_CREDIT_LOANS_URI": str(self.source),
            "PLATFORM_DEMO_ROWS": str(OTHER_ROWS),
        }

    def moment_of_line(self, number: int) -> float:
        """Wait until the run has printed `number` progress lines; return the current time."""
        wait_until(lambda: number == 0 or self._progress() >= number, f"it printed {number} lines")
        return time.monotonic()

    def stay_at_line(self, number: int, seconds: float) -> None:
        """Wait until the run has printed `number` progress lines, and then up to `seconds` more.

        The wait ends when the run prints the next line, because this run may be faster than the measured one.
        """
        end = self.moment_of_line(number) + seconds
        while time.monotonic() < end and self._progress() <= number:
            time.sleep(0.01)

    def printed_last(self) -> bool:
        """Return whether the run has materialised its last asset."""
        return LAST in (" ".join(line.split()[:2]) for line in self._progress_lines())

    def _progress(self) -> int:
        return len(self._progress_lines())

    def _progress_lines(self) -> list[str]:
        return [line for line in self.output.read_text().splitlines() if not line.startswith("run ")]


def undisturbed(runs: Runs, home: Path, url: str) -> list[float]:
    """Complete a run; return the time at which it started, followed by the time of each progress line."""
    moments: list[float] = []
    with runs.start(home, url) as run:
        while not (moments and runs.printed_last()):
            moments.append(runs.moment_of_line(len(moments)))
        assert run.wait() == 0, runs.output.read_text()
    return moments


def runs_of_mlflow(settings: Settings) -> set[str]:
    """Return the set of the states that MLflow's runs have."""
    from mlflow import MlflowClient

    services = Services(settings)
    try:
        client = MlflowClient(services.mlflow_tracking_uri, services.mlflow_tracking_uri)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return {run.info.status for run in client.search_runs(experiments)}
    finally:
        services.close()


@pytest.mark.slow
@pytest.mark.requirement("PLT-3", "PLT-7", "PLT-10")
@pytest.mark.parametrize("kills", [(2, 2), pytest.param((6, 4), marks=pytest.mark.nightly)])
def test_a_run_after_several_killed_runs_makes_one_model_and_the_same_tables_as_an_undisturbed_run(
    warm: WarmParent,
    postgres_server: Database,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kills: tuple[int, int],
) -> None:
    runs = Runs(warm, tmp_path / "output.txt", generate(tmp_path / "loans.csv", ROWS))
    with empty_databases(postgres_server) as other_url:
        moments = undisturbed(runs, tmp_path / "undisturbed", other_url)
        expected = digests(Settings(home=tmp_path / "undisturbed", database_url=SecretStr(other_url)))
    durations = [later - earlier for earlier, later in pairwise(moments)]

    home = tmp_path / "home"
    chance = random.Random(SEED)
    ends = []
    leftovers: set[str] = set()
    # Kill some runs at a random time, and the others while they train and register the model.
    early, late = kills
    numbers = [*chance.choices(range(len(durations)), durations, k=early), *[len(durations) - 1] * late]
    for number in chance.sample(numbers, len(numbers)):
        with runs.start(home, database_url) as run:
            runs.stay_at_line(number, chance.uniform(0, durations[number]))
            run.kill_group()
            ends.append(run.wait())
        leftovers.update(path.name for path in (home / "scratch").glob("*"))
    assert ends.count(-signal.SIGKILL) >= 0.75 * len(ends)

    with runs.start(home, database_url) as last:
        assert last.wait() == 0
    settings = Settings(home=home, database_url=SecretStr(database_url))
    assert None not in expected.values()
    assert digests(settings) == expected
    assert list(models(settings)) == [1]
    assert runs_of_mlflow(settings) >= {"FINISHED"}
    assert "RUNNING" not in runs_of_mlflow(settings)

    for name, value in runs.variables(home, database_url).items():
        monkeypatch.setenv(name, value)
    with dagster_instance() as instance:
        statuses = Counter(run.status for run in instance.get_runs())
    # NOT_STARTED is allowed: a run that was killed before its first step keeps this status for ten minutes.
    assert set(statuses) <= {
        dg.DagsterRunStatus.FAILURE,
        dg.DagsterRunStatus.SUCCESS,
        dg.DagsterRunStatus.NOT_STARTED,
    }
    # There can be more successful runs than exit codes of 0, because a run can be killed after it has recorded its
    # success.
    assert statuses[dg.DagsterRunStatus.SUCCESS] >= 1 + ends.count(0)
    assert statuses[dg.DagsterRunStatus.FAILURE] > 0

    # Killed runs leave scratch folders, which the next run removes.
    assert leftovers
    assert list((home / "scratch").iterdir()) == []
