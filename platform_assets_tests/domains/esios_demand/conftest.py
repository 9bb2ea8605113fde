"""A demo server with sample values, and a client whose retries wait only milliseconds."""

from __future__ import annotations

from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from platform_assets.domains.esios_demand import demo
from platform_assets.domains.esios_demand.client import Esios, Series
from platform_assets.domains.esios_demand.settings import EsiosSettings
from platform_assets.landing.http_client import HttpClient, Limits
from platform_assets.services import Services
from platform_assets.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from platform_assets.landing.demo_server import DemoServer

QUICK = Limits(read_seconds=20, body_bytes=1 << 20, attempts=3, first_wait_seconds=0.01, longest_wait_seconds=0.02)
TOKEN = SecretStr(demo.TOKEN)
SERIES = Series(demo.INDICATOR, demo.NAME, demo.GEOGRAPHY)
NOW = datetime(2018, 3, 10, 12, tzinfo=UTC)


@pytest.fixture
def series() -> demo.DemoSeries:
    """Sample values for the server, up to seven days after 10 March 2018."""
    return demo.DemoSeries(now=lambda: NOW)


@pytest.fixture
def server(series: demo.DemoSeries) -> Iterator[DemoServer]:
    """A server that imitates the ESIOS API and returns the values of `series`."""
    with demo.server(series) as server:
        yield server


@pytest.fixture
def esios(server: DemoServer) -> Iterator[Esios]:
    """An ESIOS client for `server`."""
    with quick_client(server) as esios:
        yield esios


@contextmanager
def quick_client(
    server: DemoServer, series: Series = SERIES, token: str = demo.TOKEN, limits: Limits = QUICK
) -> Iterator[Esios]:
    """An ESIOS client whose retries wait only milliseconds."""
    with HttpClient("ESIOS", {"x-api-key": token}, limits) as http:
        yield Esios(http, server.url, series, "test", token)


@pytest.fixture
def services(tmp_path: Path, server: DemoServer) -> Iterator[Services]:
    """Services that read from `server`."""
    esios = EsiosSettings(esios_base_url=server.url, esios_token=TOKEN)
    with closing(Services(Settings(home=tmp_path), (esios,))) as services:
        yield services
