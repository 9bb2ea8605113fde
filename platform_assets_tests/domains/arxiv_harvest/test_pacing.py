"""The request rate of several processes, measured by the server that receives the requests."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url

from platform_assets.database.connections import Database
from platform_assets.domains.arxiv_harvest import demo
from platform_assets.domains.arxiv_harvest.pacing import Pace
from platform_assets.domains.arxiv_harvest.sources import search_arxiv
from platform_assets.landing.http_client import TemporaryError

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets_tests.warm import WarmParent

INTERVAL = 0.4
SEARCHES = 3


def search_often() -> None:
    """Search several times; a warm process runs this function."""
    for _ in range(SEARCHES):
        sys.stdout.write(f"{len(search_arxiv(author='Maestro', max_query_results=2))}\n")


@pytest.mark.requirement("ARX-5")
def test_two_processes_share_one_interval_and_never_send_two_requests_at_once(
    database_url: str, tmp_path: Path, warm: WarmParent
) -> None:
    with demo.server() as server:
        variables = {
            "PLATFORM_HOME": str(tmp_path),
            "PLATFORM_DATABASE_URL": database_url,
            "PLATFORM_ARXIV_BASE_URL": server.url,
            "PLATFORM_ARXIV_CONTACT": "tests@example.org",
            "PLATFORM_ARXIV_INTERVAL_SECONDS": str(INTERVAL),
        }
        with ExitStack() as ended:
            both = [ended.enter_context(warm.start(search_often, variables=variables)) for _ in range(2)]
            assert [process.wait() for process in both] == [0, 0]
            assert [process.stdout.read() for process in both] == ["2\n" * SEARCHES] * 2
        arrivals = sorted(request.arrived for request in server.requests)
        assert len(arrivals) == 2 * SEARCHES
        assert min(later - earlier for earlier, later in pairwise(arrivals)) >= INTERVAL
        assert server.most_at_once == 1
        agents = {request.headers["user-agent"] for request in server.requests}
        assert len(agents) == 1
        assert agents.pop().endswith("(mailto:tests@example.org)")


def test_a_request_that_would_wait_too_long_is_refused(database_url: str) -> None:
    database = Database(make_url(database_url))
    with Pace(database, "there", 60).turn(1):
        with pytest.raises(TemporaryError, match="there was not contacted, because earlier requests"):
            Pace(database, "there", 60).turn(0.01).__enter__()
        # The request rate is limited separately for each server.
        with Pace(database, "elsewhere", 60).turn(1):
            pass
    with pytest.raises(TemporaryError, match="delayed this one by more than 1 s"):
        Pace(database, "there", 60).turn(1).__enter__()
    with Pace(database, "there", 0).turn(1):
        pass


def test_a_failed_request_delays_the_next_request(database_url: str) -> None:
    database = Database(make_url(database_url))
    with pytest.raises(ZeroDivisionError), Pace(database, "there", 60).turn(1):
        raise ZeroDivisionError
    with pytest.raises(TemporaryError):
        Pace(database, "there", 60).turn(1).__enter__()
