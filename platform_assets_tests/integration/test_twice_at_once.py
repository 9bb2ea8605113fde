"""Launch each job in two processes at the same time: all work is done once, and nothing is lost."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from platform_assets.approval.requests import State
from platform_assets.domains.arxiv_harvest.harvest import read_saved_searches
from platform_assets.domains.arxiv_harvest.schemas import PAPERS
from platform_assets.domains.credit_risk.model import MODEL as CREDIT
from platform_assets.domains.esios_demand.schemas import DEMAND_FORECAST
from platform_assets.domains.sensor_maintenance.model import MODEL as SENSORS
from platform_assets.domains.sensor_maintenance.schemas import PREDICTIONS, READINGS_INCOMING
from platform_assets.models.registry import CHAMPION
from platform_assets.monitoring.daily.schemas import MODEL_DAYS, TABLE_DAYS
from platform_assets.orchestration.in_process_runs import partition_tags
from platform_assets.services import open_services
from platform_assets.settings import load_settings
from platform_assets_tests.approval.proposals import SOMEBODY, proposal
from platform_assets_tests.command_line import OTHER_ROWS
from platform_assets_tests.contracts.registrations import registration
from platform_assets_tests.domains.sensor_maintenance.plant import EVIDENCE, THRESHOLD, Plant, model_of
from platform_assets_tests.integration import two_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from platform_assets.services import Services
    from platform_assets_tests.warm import WarmParent

MONTHS = ("2026-01-01", "2026-02-01")
FILES, LINES = 6, 40


@dataclass(frozen=True)
class Twice:
    """A job to trigger twice.

    Attributes
    ----------
    job
        Name of the job.
    options
        Options of the run, or the partitions of a backfill.
    prepare
        Creates the input of the job.
    assert_done_once
        Checks the outcome.
    """

    job: str
    assert_done_once: Callable[[Services], None]
    options: Any = field(default_factory=dict)
    prepare: Callable[[Services], Any] = lambda _: {}


def rows_of(services: Services, table: str, *key: str) -> int:
    """Return the number of rows of a table, after checking that their keys are unique."""
    found = services.tables.read(table, columns=[*key])
    assert not found.duplicated().any()
    return len(found)


def count(services: Services, query: str) -> int:
    with services.database.pooled() as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def drop_files(services: Services) -> None:
    plant = Plant(services)
    plant.promote(2.0)
    for number in range(FILES):
        plant.drop(f"pump{number}/1767225600.txt", *((number + line / 100, 0.5) for line in range(LINES)))


def assert_files_landed_once(services: Services) -> None:
    assert rows_of(services, READINGS_INCOMING.name, *READINGS_INCOMING.key) == FILES * LINES
    assert rows_of(services, PREDICTIONS.name, *PREDICTIONS.key) == FILES * LINES
    assert len(Plant(services).in_database("file_digest", "line")) == FILES * LINES


def assert_harvested_once(services: Services) -> None:
    found = rows_of(services, PAPERS.name, "arxiv_id")
    assert found > 0
    assert count(services, "select count(*) from arxiv_harvest.queries") == 2 * len(read_saved_searches())
    repeated = (
        "select count(*) from (select 1 from arxiv_harvest.results r join arxiv_harvest.queries q on q.id = r.query_id"
        " join arxiv_harvest.papers p on p.id = r.paper_id"
        " group by q.saved_search, p.arxiv_id, p.version having count(*) > 1) as found"
    )
    assert count(services, repeated) == 0


def assert_hours_loaded_once(services: Services) -> None:
    hours = (31 + 28) * 24
    assert rows_of(services, DEMAND_FORECAST.name, *DEMAND_FORECAST.key) == hours
    assert count(services, "select count(*) from esios_demand.demand_forecast_esios") == hours


def assert_trained_once(services: Services) -> None:
    versions = services.registry.versions(CREDIT.name)
    assert [version.version for version in versions] == [1]
    assert [request.version for request in services.ledger.requests(CREDIT.name)] == [1]


def approve(services: Services) -> dict[str, Any]:
    """Register and approve a version, and return a run configuration with the id of its approval request."""
    model = model_of(2.0)
    named: dict[str, Any] = {"digest": services.artefacts.save(model), "threshold": THRESHOLD}
    version = services.registry.register(registration(name=SENSORS.name, model=model, **named)).version
    request = services.ledger.open_request(proposal(version, model=SENSORS.name, evidence=EVIDENCE, **named))
    services.ledger.decide(request.id, "approve", SOMEBODY, "better")
    return {"run_config": {"ops": {"load_request": {"config": {"request": request.id}}}}}


def assert_promoted_once(services: Services) -> None:
    [request] = services.ledger.requests(SENSORS.name)
    assert request.state is State.PROMOTED
    kinds = [event.kind for event in services.ledger.history(request.id)]
    assert kinds.count("promote") == 1
    champion = services.registry.by_alias(SENSORS.name, CHAMPION)
    assert champion is not None
    assert champion.version == request.version


def assert_measured_once(services: Services) -> None:
    assert rows_of(services, TABLE_DAYS.name, *TABLE_DAYS.key) > 0
    rows_of(services, MODEL_DAYS.name, *MODEL_DAYS.key)


SEQUENCES = {
    "files": [
        Twice("predict_sensor_maintenance", assert_files_landed_once, prepare=drop_files),
        Twice("monitor", assert_measured_once),
        Twice("upkeep", assert_files_landed_once),
    ],
    "models": [
        Twice("train_credit_risk_model", assert_trained_once),
        Twice("promote_model", assert_promoted_once, prepare=approve),
    ],
    "arxiv": [Twice("harvest_arxiv", assert_harvested_once)],
    "esios": [
        Twice("load_esios_demand", assert_hours_loaded_once, {"tags": partition_tags(*MONTHS)}),
        Twice("load_esios_demand", assert_hours_loaded_once, [*MONTHS]),
    ],
}
"""The jobs of each test, in the order of execution. If a job's options are a list of partitions, they are
backfilled."""


@pytest.fixture
def services(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    variables = {
        "PLATFORM_HOME": str(tmp_path / "home"),
        "PLATFORM_DATABASE_URL": database_url,
        "PLATFORM_DEMO_ROWS": str(OTHER_ROWS),
        "PLATFORM_SENSOR_LANDING_URI": str(tmp_path / "home" / "zone"),
        "PLATFORM_SENSOR_SETTLE_SECONDS": "0",
        "PLATFORM_SENSOR_PATH_PATTERN": "{device}/{recorded_at}.txt",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "home" / "zone").mkdir(parents=True)
    with closing(open_services(load_settings())) as services:
        yield services


@pytest.mark.slow
@pytest.mark.requirement("PLT-9")
@pytest.mark.parametrize("sequence", SEQUENCES)
def test_a_job_that_is_triggered_twice_at_once_does_its_work_once(
    sequence: str, services: Services, warm: WarmParent, tmp_path: Path
) -> None:
    for number, case in enumerate(SEQUENCES[sequence]):
        options = json.dumps(case.options or case.prepare(services) or {})
        gate = tmp_path / f"gate{number}"
        with ExitStack() as stack:
            started = [stack.enter_context(warm.start(two_runs.main, case.job, gate, options)) for _ in range(2)]
            assert [process.stdout.readline() for process in started] == ["ready\n"] * 2
            gate.touch()
            outcomes = [process.stdout.read() for process in started]
            assert [process.wait() for process in started] == [0, 0]
        assert [json.loads(outcome) for outcome in outcomes] == [[], []], case.job
        case.assert_done_once(services)
