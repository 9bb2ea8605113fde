"""`esios backfill` loads two years of data in Dagster runs, records the runs, and continues after an interruption."""

from __future__ import annotations

import signal
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import pytest

from platform_assets.domains.esios_demand import demo
from platform_assets.domains.esios_demand.settings import EsiosSettings
from platform_assets.landing.demo_server import slow, status
from platform_assets.orchestration.storage import dagster_instance
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.command_line import Done, platform_assets
from platform_assets_tests.domains.esios_demand.conftest import TOKEN
from platform_assets_tests.domains.esios_demand.runs import TABLE, Loaded
from platform_assets_tests.postgres import wait_until
from platform_assets_tests.warm import WarmParent, command

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from platform_assets.lake.table_versions import TableVersion
    from platform_assets.landing.demo_server import DemoServer

YEARS = ("2017-01-01", "2018-12-31")
HOURS = 2 * 365 * 24
REQUESTS = 2 * (1 + 12)
"""Number of requests for two years: two runs, each with a search for the series and twelve months."""
KILLED_AFTER = (1, 13, 14)
"""Numbers of requests after which the backfill is killed. The first run ends after 13 requests, the second after 26."""
KILLED_OFTEN = (1, 13, 14, 26, 5, 12, 14, 13, 2, 14)


@pytest.fixture
def series() -> demo.DemoSeries:
    """Sample values for the server, up to January 2019."""
    return demo.DemoSeries(now=lambda: datetime(2019, 1, 15, 12, tzinfo=UTC))


def variables(home: Path, database_url: str, server: DemoServer) -> Mapping[str, str]:
    return {
        "PLATFORM_HOME": str(home),
        "PLATFORM_DATABASE_URL": database_url,
        "PLATFORM_ESIOS_BASE_URL": server.url,
        "PLATFORM_ESIOS_TOKEN": demo.TOKEN,
    }


def newest(home: Path) -> TableVersion:
    with closing(Services(Settings(home=home))) as services:
        version = services.tables.current(TABLE)
        assert version is not None
        return version


@pytest.mark.slow
@pytest.mark.requirement("ESI-1", "ESI-4")
def test_one_command_loads_two_years_with_one_request_per_month(
    tmp_path: Path, database_url: str, server: DemoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = variables(tmp_path, database_url, server)
    done = platform_assets("esios", "backfill", *YEARS, **given)
    assert (done.code, done.err) == (0, "")
    first, second = done.out.splitlines()
    assert first.startswith("2017-01 to 2017-12: ok ")
    assert second.startswith("2018-01 to 2018-12: ok ")
    for table in ("demand_forecast", "demand_forecast_csv", "demand_forecast_esios"):
        assert f"esios_demand/{table} 17,520 rows" in second
    assert (newest(tmp_path).rows, len(server.requests), server.most_at_once) == (HOURS, REQUESTS, 1)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with dagster_instance() as instance:
        runs = [(run.job_name, run.status.value, run.tags["platform/backfill"]) for run in instance.get_runs()]
    assert runs == [("load_esios_demand", "SUCCESS", "2017-01-01..2018-12-01")] * 2
    # After a finished backfill, the command starts a new one and reads all the months again.
    assert platform_assets("esios", "backfill", *YEARS, **given).code == 0
    assert len(server.requests) == 2 * REQUESTS
    assert newest(tmp_path).version == 1


@pytest.mark.release
@pytest.mark.slow
@pytest.mark.requirement("ESI-4", "PLT-7")
@pytest.mark.parametrize("kills", [KILLED_AFTER, pytest.param(KILLED_OFTEN, marks=pytest.mark.nightly)], ids=len)
def test_a_backfill_that_is_killed_several_times_loads_the_same_rows_as_an_uninterrupted_one(
    warm: WarmParent, tmp_path: Path, database_url: str, server: DemoServer, kills: tuple[int, ...]
) -> None:
    esios = EsiosSettings(esios_base_url=server.url, esios_token=TOKEN)
    with closing(Services(Settings(home=tmp_path / "undisturbed"), (esios,))) as services:
        assert Loaded(services, "2017-01-01", "2018-12-01").result.success
    expected = newest(tmp_path / "undisturbed")
    assert expected.rows == HOURS

    home, output = tmp_path / "home", tmp_path / "output.txt"
    given = variables(home, database_url, server)
    ends = []

    def has_come(requests: int) -> bool:
        return len(server.requests) >= requests or "2018-12: ok" in output.read_text()

    for requests in kills:
        server.requests.clear()
        with output.open("w") as file:
            killed = warm.start(command, "esios", "backfill", *YEARS, stdout=file, stderr=file, variables=given)
        with killed:
            wait_until(partial(has_come, requests), f"it sent {requests} requests, or ended")
            killed.kill_group()
            ends.append(killed.wait())
    # A kill that is due after the last request may come too late, when the backfill has already ended.
    assert ends.count(-signal.SIGKILL) >= len(kills) - 2
    assert platform_assets("esios", "backfill", *YEARS, **given).code == 0
    assert (newest(home).digest, newest(home).parts) == (expected.digest, expected.parts)


@pytest.mark.requirement("ESI-4")
def test_an_interrupted_backfill_continues_with_the_remaining_months(
    tmp_path: Path, database_url: str, server: DemoServer
) -> None:
    given = variables(tmp_path, database_url, server)
    # The 15th request fails. It is for the first month of the second run.
    server.faults.extend([slow(0)] * 14)
    server.constant_fault = status(401)
    failed = platform_assets("esios", "backfill", *YEARS, **given)
    assert failed.code == 1
    assert failed.out.splitlines()[0].startswith("2017-01 to 2017-12: ok ")
    assert "2018-01 to 2018-12: FAILED" in failed.out
    assert "ESIOS refused the token (HTTP 401: empty body). Check PLATFORM_ESIOS_TOKEN" in failed.out
    assert newest(tmp_path).rows == HOURS / 2

    server.constant_fault = None
    server.requests.clear()
    continued = platform_assets("esios", "backfill", *YEARS, **given)
    assert continued.code == 0
    assert continued.out.splitlines()[0] == "2017-01 to 2017-12: loaded before the interruption"
    assert {request.query["start_date"][:4] for request in server.requests[1:]} == {"2017", "2018"}
    assert (newest(tmp_path).rows, len(server.requests)) == (HOURS, REQUESTS / 2)


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("2018-12-31", "2017-01-01", "START 2018-12-31 is after END 2017-01-01; swap them"),
        ("2016-12-31", "2017-01-31", "has no partitions 2016-12-01 to 2017-01-01; its partitions are 2017-01-01 to 20"),
        ("2017-01-01", "2099-01-31", "has no partitions 2017-01-01 to 2099-01-01; its partitions are 2017-01-01 to 20"),
        ("yesterday", "2017-01-01", "does not match the formats '%Y-%m-%d'"),
    ],
)
def test_an_invalid_period_is_refused(tmp_path: Path, database_url: str, start: str, end: str, said: str) -> None:
    done: Done = platform_assets(
        "esios", "backfill", start, end, PLATFORM_HOME=tmp_path, PLATFORM_DATABASE_URL=database_url
    )
    assert done.code != 0
    assert said in " ".join(done.err.replace("│", " ").split())
