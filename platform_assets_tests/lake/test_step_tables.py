"""Steps with pinned inputs, and overtaken runs, which must not publish because a newer run has published first."""

import signal
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from platform_assets.base.frames import Expression
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.assets import table_asset
from platform_assets.lake.delta_tables import TableStore
from platform_assets.lake.schemas import TableSchema
from platform_assets.landing.landed_rows import Landed, land
from platform_assets.landing.source_files import Source
from platform_assets_tests.lake import overtaken_run
from platform_assets_tests.lake.shop import (
    GOOD,
    INDEPENDENT,
    MORE,
    NEWEST,
    OWNERS,
    SALES,
    TOTALS,
    Shop,
    failure,
    independent,
    newest,
    newest_sales,
    sales,
)
from platform_assets_tests.warm import WarmParent


@pytest.mark.requirement("PLT-7")
def test_a_step_reads_a_dependency_at_the_version_that_it_records(shop: Shop) -> None:
    shop.run(sales)

    @table_asset(TOTALS, owners=OWNERS, deps=[sales])
    def asking(tables: dg.ResourceParam[TableStore]) -> Expression:
        """Read the lake through a resource, after a newer version was published."""
        publish_sales(shop, [(9, "oil", 9.0)])
        assert shop.current("shop/sales").version == 1
        assert tables.exists("shop/sales")
        return tables.scan("shop/sales").group_by("item").agg(total_eur=lambda rows: rows.price_eur.sum())

    result = dg.materialize([sales, asking], selection=[asking], resources=shop._resources(), instance=shop.instance)
    assert result.success
    assert shop.rows("shop/totals") == [("salt", 5.0), ("tea", 30.0)]
    assert shop.current("shop/totals").metadata["inputs"]["shop/sales"]["version"] == 0


@pytest.mark.requirement("PLT-7")
def test_an_overtaken_run_does_not_replace_rows_made_from_newer_inputs(shop: Shop) -> None:
    shop.run(sales)

    def overtaken(sales: Expression) -> Expression:
        run_again(shop, MORE)
        return sales.group_by("item").agg(total_eur=sales.price_eur.sum())

    told = run_overtaken(shop, INDEPENDENT, overtaken)
    reason = "because a newer run published it first, from version 1 of shop/sales; this run read version 0"
    assert f"this run did not publish shop/independent, {reason}" in told
    assert shop.rows("shop/independent") == [("salt", 12.0), ("tea", 30.0)]


@pytest.mark.requirement("PLT-7")
def test_an_overtaken_run_is_refused_even_if_the_newer_run_published_equal_rows(shop: Shop) -> None:
    shop.run(sales, independent)

    def overtaken(sales: Expression) -> Expression:
        publish_sales(shop, [(1, "tea", 30.0), (3, "salt", 5.0)])
        assert shop.run(independent).success
        return sales.group_by("item").agg(total_eur=sales.price_eur.max())

    version = shop.current("shop/independent")
    assert "from version 1 of shop/sales" in run_overtaken(shop, INDEPENDENT, overtaken)
    after = shop.current("shop/independent")
    assert (after.version, after.digest, after.made_from) == (0, version.digest, {"": {"shop/sales": 1}})


@pytest.mark.requirement("PLT-7", "PLT-12")
def test_a_run_is_refused_after_a_newer_run_loaded_the_previous_file_again(shop: Shop) -> None:
    shop.run(sales)

    @table_asset(SALES, owners=OWNERS)
    def overtaken(delivery: dg.ResourceParam[Source], engine: dg.ResourceParam[Engine]) -> Landed:
        """Land the second file. Then deliver the first file again, and load it in a newer run."""
        landed = land(delivery, engine)
        shop.deliver(GOOD)
        assert shop.run(sales).success
        return landed

    shop.deliver(MORE)
    before = shop.current("shop/sales")
    result = dg.materialize([overtaken], resources=shop._resources(), instance=shop.instance, raise_on_error=False)
    assert "because another run published it after this run began" in failure(result)
    assert shop.current("shop/sales").version == before.version
    assert len(shop.rows("shop/sales")) == 3


@pytest.mark.requirement("PLT-7")
def test_the_first_published_file_is_kept_if_two_files_are_loaded_concurrently(shop: Shop) -> None:
    shop.run(sales)

    @table_asset(SALES, owners=OWNERS)
    def overtaken(delivery: dg.ResourceParam[Source], engine: dg.ResourceParam[Engine]) -> Landed:
        """Land the old file, while a newer run lands and publishes the new file."""
        landed = land(delivery, engine)
        shop.deliver(MORE + "5,oil,-1\n")
        assert shop.run(sales).success
        return landed

    shop.deliver(GOOD + "7,oil,-7\n")
    result = dg.materialize([overtaken], resources=shop._resources(), instance=shop.instance, raise_on_error=False)
    assert "because another run published it after this run began" in failure(result)
    assert len(shop.rows("shop/sales")) == 4
    assert shop.services.tables.read("shop/sales_quarantine").source_line.tolist() == [6]
    shop.deliver(GOOD)
    assert shop.run(sales).success
    assert len(shop.rows("shop/sales")) == 3


@pytest.mark.requirement("PLT-7")
def test_a_process_that_was_paused_does_not_replace_newer_rows(
    shop: Shop, database_url: str, warm: WarmParent, tmp_path: Path
) -> None:
    shop.run(sales)
    with warm.start(overtaken_run.main, tmp_path, database_url) as process:
        assert process.stdout.readline() == "read\n"
        process.send_signal(signal.SIGSTOP)
        run_again(shop, MORE)
        process.stdin.write("go on\n")
        process.stdin.flush()
        process.send_signal(signal.SIGCONT)
        assert "a newer run published it first, from version 1 of shop/sales" in process.stdout.readline()
        assert process.wait() == 0
    assert shop.rows("shop/independent") == [("salt", 12.0), ("tea", 30.0)]


def run_again(shop: Shop, delivery: str) -> None:
    shop.deliver(delivery)
    assert shop.run(sales, independent).success


def publish_sales(shop: Shop, rows: list[tuple[int, str, float]]) -> None:
    frame = pd.DataFrame(rows, columns=["sale_id", "item", "price_eur"])
    with shop.services.engine.stage(frame) as staged:
        shop.services.tables.publish("shop/sales", staged)


def run_overtaken(shop: Shop, schema: TableSchema, work: Callable[[Expression], Expression]) -> str:
    """Materialise a table. While its function `work` runs, a newer run publishes. Return the error."""
    work.__doc__ = "Overtaken."
    work.__annotations__ = {"sales": Expression, "return": Expression}
    asset = table_asset(schema, owners=OWNERS)(work)
    result = dg.materialize(
        [sales, asset], selection=[asset], resources=shop._resources(), instance=shop.instance, raise_on_error=False
    )
    return failure(result)


@pytest.mark.requirement("PLT-7", "CRE-2")
def test_an_overtaken_run_does_not_replace_newer_online_rows(online: Shop) -> None:

    def overtaken(sales: Expression) -> Expression:
        publish_sales(online, [(8, "tea", 1.0)])
        assert online.run(newest).success
        return newest_sales(sales)

    told = run_overtaken(online, NEWEST, overtaken)
    reason = "because a newer run published it first, from version 1 of shop/sales"
    assert f"this run did not publish shop/newest, {reason}" in told
    assert online.services.online.read("shop/newest").to_pylist() == [{"item": "tea", "sale_id": 8}]
    current = online.services.online.current("shop/newest")
    assert current is not None
    assert current.inputs == {"shop/sales": 1}
