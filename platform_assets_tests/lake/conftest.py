"""Fixtures: lakes in a folder, in memory and in object stores, and a platform with the sample domain `shop`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from platform_assets.engine.query_engine import Engine
from platform_assets.lake.delta_tables import MEMORY, TableStore
from platform_assets.landing.source_files import Source
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.instances import empty_instance
from platform_assets_tests.lake.sales_lake import Lake
from platform_assets_tests.lake.shop import GOOD, Shop, newest, newest_is_current, sales
from platform_assets_tests.object_store import ObjectStore, running_object_store
from platform_assets_tests.postgres import as_owner

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


CLOUDS = [pytest.param(store, marks=pytest.mark.release) for store in ("azure_store", "google_store")]


@pytest.fixture(params=["folder", "memory", "object_store", *CLOUDS])
def lake(request: pytest.FixtureRequest, tmp_path: Path, engine: Engine) -> Lake:
    options: dict[str, str] = {}
    if request.param.endswith("_store"):
        server: ObjectStore = request.getfixturevalue(request.param)
        uri, options = server.lake(), server.options
    else:
        uri = MEMORY if request.param == "memory" else str(tmp_path / "a 'lake'=1 {x}")
    return Lake(TableStore(uri, engine, options), engine, uri, options)


@pytest.fixture
def folder_lake(tmp_path: Path, engine: Engine) -> Lake:
    uri = str(tmp_path / "lake")
    return Lake(TableStore(uri, engine), engine, uri, {})


@pytest.fixture
def shop(tmp_path: Path, database_url: str) -> Iterator[Shop]:
    settings = Settings(home=tmp_path, database_url=SecretStr(database_url), max_bad_rows=0.5)
    with empty_instance() as instance:
        shop = Shop(instance, Services(settings), Source("SHOP_SALES_URI", str(tmp_path / "sales.csv")))
        shop.deliver(GOOD)
        yield shop


@pytest.fixture
def online(shop: Shop, owner_url: str) -> Iterator[Shop]:
    """The sample domain `shop`, with an online table that contains the newest sale of each item."""
    as_owner(owner_url, "create schema shop; create table shop.newest (item text primary key, sale_id bigint)")
    assert shop.run(sales, newest, newest_is_current).success
    yield shop
    shop.services.close()
