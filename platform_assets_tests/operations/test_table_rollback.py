"""Rolling back a table updates its downstream tables and lists the models trained on the rolled-back versions."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr

from platform_assets.base.errors import TableError
from platform_assets.definitions import resources
from platform_assets.lake.undone_loads import UNDONE
from platform_assets.landing.source_files import Source
from platform_assets.models.memory_registry import MemoryRegistry
from platform_assets.models.registry import UNDONE_TABLES
from platform_assets.operations.table_rollback import (
    affected_models,
    demand_lake_table,
    dependent_tables,
    make_again,
    report_restored,
)
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.approval.proposals import SOMEBODY, promote, proposal
from platform_assets_tests.contracts.registrations import registration
from platform_assets_tests.instances import empty_instance
from platform_assets_tests.lake.shop import ASSETS, GOOD, MORE, NEWEST, SALES, TOTALS, Shop, newest
from platform_assets_tests.postgres import as_owner

MODEL = "credit_risk_model"
"""A model for which the test databases contain an approval policy."""
pytestmark = pytest.mark.requirement("PLT-10", "MON-4")


@pytest.fixture
def shop(tmp_path: Path, database_url: str, owner_url: str) -> Iterator[Shop]:
    as_owner(owner_url, "create schema shop; create table shop.newest (item text primary key, sale_id bigint)")
    settings = Settings(home=tmp_path, database_url=SecretStr(database_url), max_bad_rows=0.5)
    with empty_instance() as instance:
        shop = Shop(instance, Services(settings), Source("SHOP_SALES_URI", str(tmp_path / "sales.csv")))
        for text in (GOOD, MORE):
            shop.deliver(text)
            assert shop.run(*ASSETS, newest).success
        yield shop
        shop.services.close()


def definitions(shop: Shop) -> dg.Definitions:
    return dg.Definitions([*ASSETS, newest], resources=shop._resources(), executor=dg.in_process_executor)


def test_a_rollback_updates_downstream_tables_and_lists_the_affected_models(shop: Shop) -> None:
    before = shop.rows(TOTALS.name)
    tables, registry, found = shop.services.tables, MemoryRegistry(), definitions(shop)
    for number, version in enumerate((0, 1)):
        trained: dict[str, Any] = {
            "tables": {TOTALS.name: version},
            "table_digests": {},
            "fingerprint": f"print-{number}",
        }
        registry.register(registration(name=MODEL, **trained))
    promote(shop.services.ledger, 2, SOMEBODY, model=MODEL)
    request = shop.services.ledger.open_request(proposal(2, model=MODEL, digest="e" * 64))

    restored = tables.restore(SALES.name, 0, "anna", "counted twice")
    report_restored(shop.instance, restored)
    made, others = dependent_tables(found, tables, SALES.name)
    assert (made, others) == (["shop/doubled", "shop/independent", "shop/newest", "shop/totals"], [])
    assert make_again(found, shop.instance, made) == []
    assert shop.rows(TOTALS.name) != before
    assert shop.services.online.read(NEWEST.name).sort_by("item").to_pylist() == [
        {"item": "salt", "sale_id": 3},
        {"item": "tea", "sale_id": 2},
    ]
    event = shop.instance.get_latest_materialization_event(dg.AssetKey(SALES.name.split("/")))
    assert event
    assert event.asset_materialization
    recorded: Any = event.asset_materialization.metadata[UNDONE].value
    assert recorded["reason"] == "counted twice"

    [affected] = affected_models(tables, registry, shop.services.ledger, {SALES.name: {1}})
    assert (affected.model, affected.version, affected.tables) == (MODEL, 2, ["shop/sales version 1"])
    assert (affected.is_champion, affected.requests) == (True, [request.id])
    assert "it is the champion: retrain it, or run `platform-assets rollback credit_risk_model`" in affected.told
    assert json.loads(registry.version(MODEL, 2).tags[UNDONE_TABLES]) == {SALES.name: [1]}
    assert UNDONE_TABLES not in registry.version(MODEL, 1).tags
    affected_models(tables, registry, shop.services.ledger, {TOTALS.name: {1}})
    assert json.loads(registry.version(MODEL, 2).tags[UNDONE_TABLES]) == {SALES.name: [1], TOTALS.name: [1]}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "shop/newest",
            "shop/newest is stored in PostgreSQL, which keeps no old versions; roll back its source table: shop/sales",
        ),
        ("shop/sale", "there is no table shop/sale; the tables are shop/doubled, shop/independent, shop/sales"),
    ],
)
def test_the_error_for_a_table_that_cannot_be_rolled_back_names_the_alternatives(name: str, message: str) -> None:
    needed = {**resources(lambda: Services(Settings())), "delivery": Source("SHOP_SALES_URI", "")}
    with pytest.raises(TableError, match=message):
        demand_lake_table(dg.Definitions([*ASSETS, newest], resources=needed), name)
