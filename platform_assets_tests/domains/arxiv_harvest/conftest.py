"""A simulated arXiv server with sample papers, and services that search it and use a real database."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from platform_assets.domains.arxiv_harvest import demo
from platform_assets.domains.arxiv_harvest.client import Arxiv
from platform_assets.domains.arxiv_harvest.settings import ArxivSettings
from platform_assets.domains.arxiv_harvest.storage import Searches
from platform_assets.landing.http_client import HttpClient, Limits
from platform_assets.services import Services
from platform_assets.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from platform_assets.landing.demo_server import DemoServer

QUICK = Limits(read_seconds=0.5, attempts=3, first_wait_seconds=0.01, longest_wait_seconds=0.02)
PLENTY = 30.0


@pytest.fixture
def server() -> Iterator[DemoServer]:
    """A server that simulates arXiv's API and has the sample papers."""
    with demo.server() as server:
        yield server


@pytest.fixture
def arxiv(server: DemoServer) -> Iterator[Arxiv]:
    """A client of `server` that does not pause between requests."""
    with quick_client(server) as arxiv:
        yield arxiv


@contextmanager
def quick_client(server: DemoServer) -> Iterator[Arxiv]:
    """Yield a client of the server that waits only milliseconds before it retries."""
    with HttpClient("arXiv", {}, QUICK, keep_connections=False) as http:
        yield Arxiv(http, server.url + demo.PATH, "test")


@pytest.fixture
def wait_seconds() -> float:
    """Seconds for which `POST /arxiv` waits for its search. A module or test may override this fixture."""
    return 1


@pytest.fixture
def own_services(database_url: str, tmp_path: Path, server: DemoServer, wait_seconds: float) -> Iterator[Services]:
    """Services that search `server`, without a pause between requests."""
    settings = Settings(home=tmp_path, database_url=SecretStr(database_url), rate_limit="off")
    arxiv = ArxivSettings(arxiv_base_url=server.url, arxiv_interval_seconds=0, arxiv_wait_seconds=wait_seconds)
    with closing(Services(settings, (arxiv,))) as services:
        yield services


@pytest.fixture
def stored(own_services: Services) -> Searches:
    """The stored searches."""
    return Searches(lambda: own_services.database.engine)
