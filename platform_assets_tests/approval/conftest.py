"""Fixtures for approval tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url

from platform_assets.database.connections import Database
from platform_assets.models.memory_registry import MemoryRegistry
from platform_assets_tests.approval.promotions import Works
from platform_assets_tests.approval.proposals import ledger_at, prepared

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from platform_assets.approval.ledger import Ledger


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    with ledger_at(database_url) as ledger:
        yield ledger


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(make_url(database_url))
    yield database
    database.close()


@pytest.fixture
def works(database: Database, tmp_path: Path) -> Works:
    return Works(prepared(database), MemoryRegistry(), tmp_path, database.lock)
