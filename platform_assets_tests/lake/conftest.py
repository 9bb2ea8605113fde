"""Lakes of all kinds: in a folder, in memory and in an object store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from platform_assets.engine.query_engine import Engine
from platform_assets.lake.delta_tables import MEMORY, TableStore
from platform_assets_tests.lake.sales_lake import Lake
from platform_assets_tests.object_store import ObjectStore, running_object_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="package")
def object_store() -> Iterator[ObjectStore]:
    with running_object_store() as store:
        yield store


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path / "scratch", "200MB", 1)
    yield engine
    engine.close()


@pytest.fixture(params=["folder", "memory", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path, engine: Engine) -> Lake:
    options: dict[str, str] = {}
    if request.param == "s3":
        server: ObjectStore = request.getfixturevalue("object_store")
        uri, options = server.lake(), server.options
    else:
        uri = MEMORY if request.param == "memory" else str(tmp_path / "a 'lake'=1 [x]")
    return Lake(TableStore(uri, engine, options), engine, uri, options)


@pytest.fixture
def folder_lake(tmp_path: Path, engine: Engine) -> Lake:
    uri = str(tmp_path / "lake")
    return Lake(TableStore(uri, engine), engine, uri, {})
