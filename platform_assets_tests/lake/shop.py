"""A small shop for tests: a table with an external source, tables made from it, and an online table."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg

from platform_assets.base.frames import Expression, Frame
from platform_assets.definitions import resources
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.assets import IO_MANAGER, online_check, table_asset
from platform_assets.lake.expectations import has_rows, is_positive, is_unique
from platform_assets.lake.schemas import Column, TableSchema
from platform_assets.lake.table_versions import TableVersion
from platform_assets.landing.landed_rows import Landed, land
from platform_assets.landing.source_files import Source
from platform_assets.operations.run_report import Report, materialise_all
from platform_assets.services import Services

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
    """Each sale at twice its price. A doubled price above 100 EUR prevents publication."""
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
    """A table without a schema."""
    return sales.assign(rank=sales.price_eur.rank())


@dg.asset(key_prefix="shop", io_manager_key=IO_MANAGER, ins={"plain_frame": dg.AssetIn(key_prefix="shop")})
def plain_expression(plain_frame: Expression) -> Expression:
    """Another table without a schema, made from `plain_frame`."""
    return plain_frame.filter(plain_frame["rank"] > 1).select("item", "rank")


@dataclass
class Shop:
    """A platform with this module's assets, and the source file of the sales."""

    instance: dg.DagsterInstance
    services: Services
    delivery: Source

    def deliver(self, text: str, *, demo: bool = False) -> None:
        Path(self.delivery.uri).write_text(text)
        self.delivery = replace(self.delivery, demo=demo)

    def run(self, *selected: dg.AssetsDefinition | dg.AssetChecksDefinition) -> dg.ExecuteInProcessResult:
        """Materialise the given assets and run the given checks. All other inputs are read from the lake."""
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


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = (one for one in result.all_events if one.is_step_failure)
    return str(event.step_failure_data.error)
