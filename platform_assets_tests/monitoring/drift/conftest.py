"""Fixtures for tests of drift."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url

from platform_assets.database.connections import Database
from platform_assets_tests.monitoring.drift.arrivals import Station, forget
from platform_assets_tests.postgres import empty_databases
from platform_assets_tests.training.bench import Bench, opened

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A bench with one trained model version."""
    with opened(tmp_path_factory.mktemp("bench")) as bench:
        bench.train()
        yield bench


@pytest.fixture(scope="module")
def database(postgres_server: Database) -> Iterator[Database]:
    """A database that all tests of a module share."""
    with empty_databases(postgres_server) as url:
        database = Database(make_url(url))
        yield database
        database.close()


@pytest.fixture
def station(bench: Bench, trained: Bench, database: Database) -> Iterator[Station]:
    """The drift monitor of a trained model, before any new rows have arrived."""
    bench.take_over(trained)
    yield Station(bench, database)
    forget(database)


@pytest.fixture
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A new bench with published readings."""
    with opened(tmp_path_factory.mktemp("own")) as bench:
        yield bench
