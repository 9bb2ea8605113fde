"""A little shop: a table from outside, tables made from it, and a table online, through the real wiring."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from pydantic import SecretStr

from platform_assets.base.frames import Expression, Frame
from platform_assets.definitions import resources
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.assets import IO_MANAGER, online_check, table_asset, tables_in_lake
from platform_assets.lake.delta_tables import TableStore
from platform_assets.lake.expectations import has_rows, is_positive, is_unique
from platform_assets.lake.schemas import Column, TableSchema
from platform_assets.lake.table_versions import TableVersion
from platform_assets.landing.landed_rows import Landed, land
from platform_assets.landing.source_files import Source
from platform_assets.operations.run_report import Report, materialise_all
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.instances import empty_instance
from platform_assets_tests.postgres import as_owner

OWNERS = ["team:shop"]
SALE_ID = Column("sale_id", "int64", "Number of the sale.")
PRICE = Column("price_eur", "float64", "What was paid.", "EUR")

SALES = TableSchema(
    name="shop/sales",
    columns=(SALE_ID, Column("item", "string", "What was sold."), PRICE),
    key=("sale_id",),
    source=True,
    expectations=(has_rows(), is_unique("sale_id"), is_positive("price_eur", at_most=1_000)),
)
DOUBLED = TableSchema(
    name="shop/doubled",
    columns=(SALE_ID, PRICE),
    key=("sale_id",),
    expectations=(is_unique("sale_id"), is_positive("price_eur", at_most=100)),
)
TOTALS = TableSchema(
    name="shop/totals",
    columns=(Column("item", "string", "What was sold."), Column("total_eur", "float64", "Its sales.", "EUR")),
    key=("item",),
    expectations=(has_rows(),),
)
NEWEST = TableSchema(
    name="shop/newest",
    columns=(Column("item", "string", "What was sold."), Column("sale_id", "int64", "Its newest sale.")),
    key=("item",),
    store="online",
)
INDEPENDENT = replace(TOTALS, name="shop/independent")

GOOD = "sale_id,item,price_eur\n1,tea,10\n2,tea,20\n3,salt,5\n"
MORE = GOOD + "4,salt,7\n"
TOO_DEAR = GOOD + "4,salt,60\n"


@table_asset(SALES, owners=OWNERS)
def sales(delivery: dg.ResourceParam[Source], engine: dg.ResourceParam[Engine]) -> Landed:
    """One row per sale."""
    return land(delivery, engine)


@table_asset(DOUBLED, owners=OWNERS)
def doubled(sales: Expression) -> Expression:
    """Each sale at twice its price; more than 100 EUR stops the table."""
    return sales.select("sale_id", price_eur=sales.price_eur * 2)


@table_asset(TOTALS, owners=OWNERS, kinds={"pandas"})
def totals(doubled: Frame, sales: Frame) -> Frame:
    """Sum of the doubled prices per item."""
    joined = doubled.merge(sales[["sale_id", "item"]], on="sale_id")
    return joined.groupby("item", as_index=False).agg(total_eur=("price_eur", "sum"))


@table_asset(INDEPENDENT, owners=OWNERS)
def independent(sales: Expression) -> Expression:
    """Sum of the prices per item."""
    return sales.group_by("item").agg(total_eur=sales.price_eur.sum())


def newest_sales(sales: Expression) -> Expression:
    return sales.group_by("item").agg(sale_id=sales.sale_id.max())


@table_asset(NEWEST, owners=OWNERS)
def newest(sales: Expression) -> Expression:
    """The newest sale of each item."""
    return newest_sales(sales)


newest_is_current = online_check(NEWEST, SALES, newest_sales)


@dg.asset(key_prefix="shop", io_manager_key=IO_MANAGER, ins={"sales": dg.AssetIn(key_prefix="shop")})
def plain_frame(sales: Frame) -> Frame:
    """Columns that nobody declared."""
    return sales.assign(rank=sales.price_eur.rank())


@dg.asset(key_prefix="shop", io_manager_key=IO_MANAGER, ins={"plain_frame": dg.AssetIn(key_prefix="shop")})
def plain_expression(plain_frame: Expression) -> Expression:
    """An expression from another plain asset."""
    return plain_frame.filter(plain_frame["rank"] > 1).select("item", "rank")


@dataclass
class Shop:
    """The platform as it is, with these assets and a delivered file."""

    instance: dg.DagsterInstance
    services: Services
    delivery: Source

    def deliver(self, text: str, *, demo: bool = False) -> None:
        Path(self.delivery.uri).write_text(text)
        self.delivery = replace(self.delivery, demo=demo)

    def run(self, *selected: dg.AssetsDefinition | dg.AssetChecksDefinition) -> dg.ExecuteInProcessResult:
        """Materialise or check these; what they need besides is read from the tables."""
        checks = [one for one in selected if isinstance(one, dg.AssetChecksDefinition)]
        assets = [one for one in selected if one not in checks]
        return dg.materialize(
            [*ASSETS, newest, newest_is_current, *(one for one in assets if one not in [*ASSETS, newest])],
            selection=dg.AssetSelection.assets(*assets) | dg.AssetSelection.checks(*checks),
            resources=self._resources(),
            instance=self.instance,
            raise_on_error=False,
        )

    def run_all(self) -> Report:
        return materialise_all(self.definitions(), self.instance, lambda _: None)

    def definitions(self) -> dg.Definitions:
        return dg.Definitions(ASSETS, resources=self._resources(), executor=dg.in_process_executor)

    def current(self, name: str) -> TableVersion:
        version = self.services.tables.current(name)
        assert version is not None
        return version

    def rows(self, name: str) -> list[tuple[Any, ...]]:
        return sorted(self.services.tables.read(name).itertuples(index=False, name=None))

    def _resources(self) -> dict[str, Any]:
        return {**resources(lambda: self.services), "delivery": self.delivery}


ASSETS = [sales, doubled, totals, independent]


@pytest.fixture
def shop(tmp_path: Path, database_url: str) -> Iterator[Shop]:
    settings = Settings(home=tmp_path, database_url=SecretStr(database_url), max_bad_rows=0.5)
    with empty_instance() as instance:
        shop = Shop(instance, Services(settings), Source("SHOP_SALES_URI", str(tmp_path / "sales.csv")))
        shop.deliver(GOOD)
        yield shop


def metadata(result: dg.ExecuteInProcessResult, asset: dg.AssetsDefinition) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node(asset.node_def.name)
    return {name: value.value for name, value in event.metadata.items()}


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {one.check_name: one.passed for one in result.get_asset_check_evaluations()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = (one for one in result.all_events if one.is_step_failure)
    return str(event.step_failure_data.error)


@pytest.mark.requirement("PLT-1")
def test_expressions_and_frames_go_in_and_come_out(shop: Shop) -> None:
    assert shop.run(*ASSETS).success
    assert shop.rows("shop/sales") == [(1, "tea", 10.0), (2, "tea", 20.0), (3, "salt", 5.0)]
    assert shop.rows("shop/doubled") == [(1, 20.0), (2, 40.0), (3, 10.0)]
    assert shop.rows("shop/totals") == [("salt", 10.0), ("tea", 60.0)]


@pytest.mark.requirement("PLT-1")
def test_plain_assets_use_the_same_tables(shop: Shop) -> None:
    result = shop.run(sales, plain_frame, plain_expression)
    assert result.success
    assert shop.rows("shop/plain_expression") == [("tea", 2.0), ("tea", 3.0)]
    seen = metadata(result, plain_expression)
    assert seen["dagster/row_count"] == 2
    assert seen["digest"] == shop.current("shop/plain_expression").digest


@pytest.mark.requirement("PLT-1")
def test_a_person_sees_rows_columns_version_digest_preview_and_source(shop: Shop) -> None:
    shop.run(sales)
    seen = metadata(shop.run(sales), sales)
    version = shop.current("shop/sales")
    assert seen["dagster/row_count"] == version.rows == 3
    assert seen["version"] == version.version
    assert seen["digest"] == version.digest
    assert seen["dagster/uri"] == shop.services.tables.uri("shop/sales")
    assert seen["source"] == f"{shop.delivery.uri} (SHOP_SALES_URI)"
    assert seen["preview"].splitlines()[0].replace(" ", "") == "|sale_id|item|price_eur|"
    assert len(seen["preview"].splitlines()) == 2 + 3
    columns = sales.metadata_by_key[sales.key]["dagster/column_schema"].columns
    assert [(one.name, one.type, one.description, one.constraints.unique) for one in columns] == [
        ("sale_id", "int64", "Number of the sale.", True),
        ("item", "string", "What was sold.", False),
        ("price_eur", "float64", "What was paid. Unit: EUR.", False),
    ]


@pytest.mark.requirement("PLT-1")
def test_an_asset_says_what_it_is(shop: Shop) -> None:
    spec = shop.definitions().resolve_asset_graph().get(totals.key)
    assert (spec.group_name, spec.owners, spec.kinds) == ("shop", OWNERS, {"deltalake", "pandas"})
    assert spec.description == "Sum of the doubled prices per item."
    assert newest.specs_by_key[newest.key].kinds == {"postgres"}


def test_the_lakes_tables_are_known_by_name(shop: Shop) -> None:
    names = ["shop/sales", "shop/sales_quarantine", "shop/doubled", "shop/totals", "shop/independent"]
    assert tables_in_lake(shop.definitions()) == names
    assert tables_in_lake(dg.Definitions([newest])) == []


@pytest.mark.requirement("PLT-7")
def test_data_version_is_the_digest_and_inputs_are_named_with_theirs(shop: Shop) -> None:
    shop.run(*ASSETS)
    event = shop.instance.get_latest_materialization_event(totals.key)
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.tags is not None
    assert event.asset_materialization.tags["dagster/data_version"] == shop.current("shop/totals").digest
    assert shop.current("shop/totals").metadata["inputs"] == {
        name: {"version": shop.current(name).version, "digest": shop.current(name).digest, "demo": False}
        for name in ("shop/doubled", "shop/sales")
    }


@pytest.mark.requirement("PLT-7")
def test_the_commit_names_asset_run_and_source(shop: Shop) -> None:
    result = shop.run(sales)
    said = shop.current("shop/sales").metadata
    assert (said["asset"], said["run"]) == ("shop/sales", result.run_id)
    assert len(said["source_digest"]) == 64


@pytest.mark.parametrize("demo", [True, False])
def test_the_demo_mark_goes_downstream(shop: Shop, demo: bool) -> None:
    shop.deliver(GOOD, demo=demo)
    result = shop.run(*ASSETS)
    assert [metadata(result, asset)["demo"] for asset in ASSETS] == [demo] * len(ASSETS)
    assert shop.current("shop/totals").metadata["demo"] is demo


@pytest.mark.requirement("PLT-7")
def test_the_same_data_again_make_no_new_version(shop: Shop) -> None:
    shop.run(*ASSETS)
    before = {name: shop.services.tables.versions(name) for name in tables_in_lake(shop.definitions())}
    assert shop.run(*ASSETS).success
    assert {name: shop.services.tables.versions(name) for name in before} == before
    shop.deliver(MORE)
    shop.run(*ASSETS)
    assert {name: len(shop.services.tables.versions(name)) for name in before} == {
        name: 1 if name == "shop/sales_quarantine" else 2 for name in before
    }


@pytest.mark.requirement("PLT-5")
def test_checks_that_hold_are_recorded(shop: Shop) -> None:
    assert checks(shop.run(sales)) == {
        "bad_rows_are_within_limit": True,
        "every_value_has_its_type": True,
        "row_count_is_as_usual": True,
        "table_has_rows": True,
        "sale_id_is_unique": True,
        "price_eur_is_positive": True,
    }


@pytest.mark.requirement("PLT-5", "PLT-12")
def test_a_source_that_shrinks_is_published_with_a_warning(shop: Shop) -> None:
    shop.run(sales)
    shop.deliver("sale_id,item,price_eur\n1,tea,10\n")
    result = shop.run(sales)
    assert result.success
    [warning] = [one for one in result.get_asset_check_evaluations() if not one.passed]
    assert (warning.check_name, warning.severity) == ("row_count_is_as_usual", dg.AssetCheckSeverity.WARN)
    assert "1 rows; the median of the last 1 versions is 3" in str(warning.description)
    assert shop.current("shop/sales").rows == 1


@pytest.mark.requirement("PLT-5", "PLT-6")
def test_bad_rows_are_warned_of_and_kept_apart_while_the_good_ones_go_on(shop: Shop) -> None:
    shop.deliver(GOOD + "4,salt,-7\n5,salt,cheap\n")
    result = shop.run(*ASSETS)
    assert result.success
    evaluation = {one.check_name: one for one in result.get_asset_check_evaluations() if one.asset_key == sales.key}
    assert {name for name, one in evaluation.items() if not one.passed} == {
        "price_eur_is_positive",
        "every_value_has_its_type",
    }
    warning = evaluation["price_eur_is_positive"]
    assert warning.severity == dg.AssetCheckSeverity.WARN
    assert {name: value.value for name, value in warning.metadata.items()} == {
        "rows": 5,
        "broken_rows": 1,
        "samples": [{"source_line": 5, "price_eur": -7.0}],
    }
    assert str(warning.description).startswith("price_eur_is_positive does not hold: 1 of 5 rows break it, e.g. {")
    quarantine = shop.services.tables.read("shop/sales_quarantine").sort_values("source_line")
    assert list(zip(quarantine.source_line, quarantine.broken_rules, strict=True)) == [
        (5, "price_eur_is_positive"),
        (6, "price_eur_is_a_number"),
    ]
    assert json.loads(quarantine.source_row.iloc[0]) == {"sale_id": "4", "item": "salt", "price_eur": "-7"}
    assert shop.rows("shop/sales") == [(1, "tea", 10.0), (2, "tea", 20.0), (3, "salt", 5.0)]
    assert metadata(result, sales)["quarantined_rows"] == 2
    assert metadata(result, sales)["quarantined_by_rule"] == {"price_eur_is_a_number": 1, "price_eur_is_positive": 1}


@pytest.mark.requirement("PLT-5")
def test_a_blocking_check_that_fails_is_recorded_and_nothing_is_published(shop: Shop) -> None:
    shop.run(*ASSETS)
    good = shop.current("shop/doubled")
    shop.deliver(TOO_DEAR)
    result = shop.run(sales, doubled)
    assert not result.success
    failed = [one for one in result.get_asset_check_evaluations() if not one.passed]
    assert [(one.check_name, one.severity, one.blocking) for one in failed] == [
        ("price_eur_is_positive", dg.AssetCheckSeverity.ERROR, True)
    ]
    assert [one.asset_key for one in result.get_asset_materialization_events()] == [sales.key]
    assert "shop/doubled is not published, its last good version stays current" in failure(result)
    assert '1 of 4 rows break it, e.g. {"price_eur": 120.0, "sale_id": 4}' in failure(result)
    assert shop.current("shop/doubled") == good
    assert shop.current("shop/sales").rows == 4


@pytest.mark.requirement("PLT-5")
def test_what_is_downstream_of_a_failure_waits_and_what_is_not_goes_on(shop: Shop) -> None:
    shop.deliver(TOO_DEAR)
    report = shop.run_all()
    assert {one.asset: one.state for one in report.outcomes} == {
        "shop/sales": "done",
        "shop/doubled": "failed",
        "shop/totals": "skipped",
        "shop/independent": "done",
    }
    assert shop.rows("shop/independent") == [("salt", 65.0), ("tea", 30.0)]


@pytest.mark.requirement("PLT-5")
def test_a_later_run_reads_the_last_good_version_of_what_was_not_published(shop: Shop) -> None:
    shop.run(*ASSETS)
    shop.deliver(TOO_DEAR)
    shop.run(sales, doubled)
    assert shop.run(totals).success
    assert shop.rows("shop/totals") == [("salt", 10.0), ("tea", 60.0)]
    assert shop.current("shop/totals").metadata["inputs"]["shop/doubled"]["version"] == 0


@pytest.mark.requirement("PLT-6")
def test_too_many_bad_rows_stop_the_load(shop: Shop) -> None:
    shop.run(sales)
    good = shop.current("shop/sales")
    shop.deliver(GOOD + "".join(f"{number},tea,-1\n" for number in range(4, 8)))
    result = shop.run(sales)
    assert "bad_rows_are_within_limit does not hold: 57.14% of 7 rows are bad; 50.00% are allowed" in failure(result)
    assert shop.current("shop/sales") == good
    assert not result.get_asset_materialization_events()


def test_nothing_staged_stays_behind(shop: Shop) -> None:
    shop.run(*ASSETS)
    shop.deliver(TOO_DEAR)
    shop.run(*ASSETS)
    assert list(shop.services.scratch.rglob("staged*")) == []


def test_a_table_that_is_not_there_yet_is_named(shop: Shop) -> None:
    assert "there is no table shop/doubled yet; materialise the asset first" in failure(shop.run(totals))


def test_columns_that_were_not_declared_are_named(shop: Shop) -> None:
    @table_asset(DOUBLED, owners=OWNERS)
    def wrong() -> Frame:
        """Other columns."""
        return pd.DataFrame({"sale_id": [1], "price": [2.0]})

    result = dg.materialize([wrong], resources=shop._resources(), instance=shop.instance, raise_on_error=False)
    assert "shop/doubled lacks the columns ['price_eur'] and has ['price'] without declaring them" in failure(result)


def test_upstream_assets_and_parameters_may_be_called_like_ours(shop: Shop) -> None:
    shop.run(sales, doubled)
    seen: dict[str, object] = {}
    renamed = {"tables": "sales", "validator": "doubled"}

    @table_asset(TOTALS, owners=OWNERS, ins={name: dg.AssetIn(["shop", key]) for name, key in renamed.items()})
    def own(
        tables: Frame, validator: Expression, engine: dg.ResourceParam[Engine], context: dg.AssetExecutionContext
    ) -> Expression:
        """Parameters of all kinds."""
        seen.update(rows=len(tables), engine=engine, run=context.run.run_id)
        return validator.select(item=validator.sale_id.cast("string"), total_eur="price_eur")

    result = dg.materialize([sales, doubled, own], selection=[own], resources=shop._resources(), instance=shop.instance)
    assert seen == {"rows": 3, "engine": shop.services.engine, "run": result.run_id}
    assert shop.rows("shop/totals") == [("1", 20.0), ("2", 40.0), ("3", 10.0)]


def test_our_own_resources_can_be_asked_for(shop: Shop) -> None:
    shop.run(sales)
    seen = {}

    @table_asset(TOTALS, owners=OWNERS, deps=[sales])
    def asking(tables: dg.ResourceParam[TableStore]) -> Expression:
        """Reads the lake itself."""
        seen["tables"] = tables
        return tables.scan("shop/sales").select("item", total_eur="price_eur")

    dg.materialize([sales, asking], selection=[asking], resources=shop._resources(), instance=shop.instance)
    assert seen == {"tables": shop.services.tables}
    assert shop.current("shop/totals").metadata["inputs"]["shop/sales"]["version"] == 0


@pytest.fixture
def online(shop: Shop, owner_url: str) -> Iterator[Shop]:
    """A shop whose newest sales are online."""
    as_owner(owner_url, "create schema shop; create table shop.newest (item text primary key, sale_id bigint)")
    assert shop.run(sales, newest, newest_is_current).success
    yield shop
    shop.services.close()


def online_rows_equal_lake(result: dg.ExecuteInProcessResult) -> bool:
    return checks(result)["online_rows_equal_lake"]


@pytest.mark.requirement("PLT-1", "CRE-5")
def test_online_rows_are_shown_and_equal_the_lake(online: Shop) -> None:
    assert asyncio.run(online.services.online.get("shop/newest", item="tea")) == {"item": "tea", "sale_id": 2}
    result = online.run(newest, newest_is_current)
    assert online_rows_equal_lake(result)
    seen = metadata(result, newest)
    version = online.services.online.current("shop/newest")
    assert version is not None
    assert (seen["dagster/row_count"], seen["digest"]) == (version.rows, version.digest) == (2, version.digest)


@pytest.mark.requirement("CRE-5")
def test_online_rows_that_were_tampered_with_are_found_and_mended(online: Shop) -> None:
    with online.services.database.engine.begin() as connection:
        connection.exec_driver_sql("update shop.newest set sale_id = 1 where item = 'tea'")
    result = online.run(newest_is_current)
    assert not online_rows_equal_lake(result)
    (evaluation,) = result.get_asset_check_evaluations()
    assert evaluation.description == "materialise shop/newest to mend it"
    assert online_rows_equal_lake(online.run(newest, newest_is_current))


@pytest.mark.requirement("CRE-5")
def test_online_rows_behind_the_lake_are_found(online: Shop) -> None:
    online.deliver(MORE)
    online.run(sales)
    assert not online_rows_equal_lake(online.run(newest_is_current))


def test_assets_read_online_tables_too(online: Shop) -> None:
    @table_asset(DOUBLED, owners=OWNERS)
    def reading(newest: Expression) -> Expression:
        """Made from the online table."""
        return newest.select("sale_id", price_eur=newest.sale_id.cast("float64"))

    dg.materialize(
        [sales, newest, reading], selection=[reading], resources=online._resources(), instance=online.instance
    )
    assert online.rows("shop/doubled") == [(2, 2.0), (3, 3.0)]
