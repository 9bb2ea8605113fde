"""Table assets with the real resources: validation, publication, records, and runs that finish out of order."""

import asyncio
import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from platform_assets.base.frames import Expression, Frame
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.assets import table_asset, tables_in_lake
from platform_assets.lake.schemas import Subject
from platform_assets_tests.lake.shop import (
    ASSETS,
    DOUBLED,
    GOOD,
    MORE,
    OWNERS,
    TOO_DEAR,
    TOTALS,
    Shop,
    doubled,
    failure,
    newest,
    newest_is_current,
    plain_expression,
    plain_frame,
    sales,
    totals,
)


def metadata(result: dg.ExecuteInProcessResult, asset: dg.AssetsDefinition) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node(asset.node_def.name)
    return {name: value.value for name, value in event.metadata.items()}


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {one.check_name: one.passed for one in result.get_asset_check_evaluations()}


@pytest.mark.requirement("PLT-1")
def test_assets_accept_and_return_expressions_and_frames(shop: Shop) -> None:
    assert shop.run(*ASSETS).success
    assert shop.rows("shop/sales") == [(1, "tea", 10.0), (2, "tea", 20.0), (3, "salt", 5.0)]
    assert shop.rows("shop/doubled") == [(1, 20.0), (2, 40.0), (3, 10.0)]
    assert shop.rows("shop/totals") == [("salt", 10.0), ("tea", 60.0)]


@pytest.mark.requirement("PLT-1")
def test_plain_dagster_assets_read_and_write_tables(shop: Shop) -> None:
    result = shop.run(sales, plain_frame, plain_expression)
    assert result.success
    assert shop.rows("shop/plain_expression") == [("tea", 2.0), ("tea", 3.0)]
    seen = metadata(result, plain_expression)
    assert seen["dagster/row_count"] == 2
    assert seen["digest"] == shop.current("shop/plain_expression").digest


@pytest.mark.requirement("PLT-1")
def test_the_metadata_show_rows_columns_version_digest_preview_and_source(shop: Shop) -> None:
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
def test_a_table_asset_has_a_description_group_kinds_and_owners(shop: Shop) -> None:
    spec = shop.definitions().resolve_asset_graph().get(totals.key)
    assert (spec.group_name, spec.owners, spec.kinds) == ("shop", OWNERS, {"deltalake", "pandas"})
    assert spec.description == "Sum of the doubled prices per item."
    assert newest.specs_by_key[newest.key].kinds == {"postgres"}


def test_tables_in_lake_lists_lake_tables_and_quarantines(shop: Shop) -> None:
    names = ["shop/sales", "shop/sales_quarantine", "shop/doubled", "shop/totals", "shop/independent"]
    assert tables_in_lake(shop.definitions()) == names
    assert tables_in_lake(dg.Definitions([newest])) == []


@pytest.mark.requirement("PLT-7")
def test_the_data_version_is_the_table_digest_and_the_version_metadata_contain_the_inputs(shop: Shop) -> None:
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
def test_the_commit_metadata_contain_asset_run_and_source_digest(shop: Shop) -> None:
    result = shop.run(sales)
    said = shop.current("shop/sales").metadata
    assert (said["asset"], said["run"]) == ("shop/sales", result.run_id)
    assert len(said["source_digest"]) == 64


@pytest.mark.parametrize("demo", [True, False])
def test_downstream_tables_inherit_the_demo_flag(shop: Shop, demo: bool) -> None:
    shop.deliver(GOOD, demo=demo)
    result = shop.run(*ASSETS)
    assert [metadata(result, asset)["demo"] for asset in ASSETS] == [demo] * len(ASSETS)
    assert shop.current("shop/totals").metadata["demo"] is demo


@pytest.mark.requirement("PLT-7")
def test_unchanged_data_create_no_new_version(shop: Shop) -> None:
    shop.run(*ASSETS)
    names = tables_in_lake(shop.definitions())

    def versions() -> dict[str, list[tuple[int, str, datetime]]]:
        found = {name: shop.services.tables.versions(name) for name in names}
        return {name: [(one.version, one.digest, one.committed_at) for one in all_] for name, all_ in found.items()}

    before = versions()
    assert shop.run(*ASSETS).success
    assert versions() == before
    shop.deliver(MORE)
    shop.run(*ASSETS)
    assert {name: len(shop.services.tables.versions(name)) for name in before} == {
        name: 1 if name == "shop/sales_quarantine" else 2 for name in before
    }


@pytest.mark.requirement("PLT-5")
def test_passed_checks_are_recorded(shop: Shop) -> None:
    assert checks(shop.run(sales)) == {
        "bad_rows_are_within_limit": True,
        "every_value_has_its_type": True,
        "row_count_is_as_usual": True,
        "table_has_rows": True,
        "sale_id_is_unique": True,
        "price_eur_is_positive": True,
    }


@pytest.mark.requirement("PLT-5", "PLT-12")
def test_a_table_whose_source_shrinks_is_published_with_a_warning(shop: Shop) -> None:
    shop.run(sales)
    shop.deliver("sale_id,item,price_eur\n1,tea,10\n")
    result = shop.run(sales)
    assert result.success
    [warning] = [one for one in result.get_asset_check_evaluations() if not one.passed]
    assert (warning.check_name, warning.severity) == ("row_count_is_as_usual", dg.AssetCheckSeverity.WARN)
    assert "1 rows; the median of the last 1 versions is 3" in str(warning.description)
    assert shop.current("shop/sales").rows == 1


@pytest.mark.requirement("PLT-5", "PLT-6")
def test_bad_rows_are_quarantined_with_a_warning_and_good_rows_are_published(shop: Shop) -> None:
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
    assert str(warning.description).startswith("price_eur_is_positive failed: 1 of 5 rows break this rule, e.g. {")
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
def test_a_failed_blocking_check_is_recorded_and_prevents_publication(shop: Shop) -> None:
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
    assert "shop/doubled was not published: " in failure(result)
    assert '1 of 4 rows break this rule, e.g. {"price_eur": 120.0, "sale_id": 4}' in failure(result)
    assert shop.current("shop/doubled") == good
    assert shop.current("shop/sales").rows == 4


@pytest.mark.requirement("PLT-5")
def test_the_reason_of_a_failed_check_contains_no_row_about_a_person(shop: Shop) -> None:
    @table_asset(replace(DOUBLED, name="shop/buyers", subject=Subject("buyer", "sale_id")), owners=OWNERS)
    def buyers(sales: Expression) -> Expression:
        """One row per buyer."""
        return sales.select("sale_id", price_eur=sales.price_eur * 2)

    shop.deliver(TOO_DEAR)
    shop.run(sales)
    result = shop.run(buyers)
    [failed] = [one for one in result.get_asset_check_evaluations() if not one.passed]
    assert failed.description == "price_eur_is_positive failed: 1 of 4 rows break this rule"
    assert failed.metadata["samples"].value == [{"price_eur": 120.0, "sale_id": 4}]
    assert f"shop/buyers was not published: {failed.description}. The last good version" in failure(result)


@pytest.mark.requirement("PLT-5")
def test_a_failure_skips_only_its_downstream_assets(shop: Shop) -> None:
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
def test_a_later_run_reads_the_last_good_version(shop: Shop) -> None:
    shop.run(*ASSETS)
    shop.deliver(TOO_DEAR)
    shop.run(sales, doubled)
    assert shop.run(totals).success
    assert shop.rows("shop/totals") == [("salt", 10.0), ("tea", 60.0)]
    assert shop.current("shop/totals").metadata["inputs"]["shop/doubled"]["version"] == 0


@pytest.mark.requirement("PLT-6")
def test_too_many_bad_rows_prevent_publication(shop: Shop) -> None:
    shop.run(sales)
    good = shop.current("shop/sales")
    shop.deliver(GOOD + "".join(f"{number},tea,-1\n" for number in range(4, 8)))
    result = shop.run(sales)
    assert "bad_rows_are_within_limit failed: 57.14% of 7 rows are bad; the limit is 50.00%" in failure(result)
    assert shop.current("shop/sales") == good
    assert not result.get_asset_materialization_events()


def test_staged_files_are_removed_after_the_run(shop: Shop) -> None:
    shop.run(*ASSETS)
    shop.deliver(TOO_DEAR)
    shop.run(*ASSETS)
    assert list(shop.services.scratch.rglob("staged*")) == []


def test_the_error_names_the_missing_upstream_table(shop: Shop) -> None:
    assert "there is no table shop/doubled yet; materialise the asset first" in failure(shop.run(totals))


def test_the_error_names_missing_and_undeclared_columns(shop: Shop) -> None:
    @table_asset(DOUBLED, owners=OWNERS)
    def wrong() -> Frame:
        """Columns that differ from the schema."""
        return pd.DataFrame({"sale_id": [1], "price": [2.0]})

    result = dg.materialize([wrong], resources=shop._resources(), instance=shop.instance, raise_on_error=False)
    assert "differ from its declaration: missing ['price_eur'], undeclared ['price']" in failure(result)


def test_an_upstream_asset_may_have_the_same_name_as_a_resource(shop: Shop) -> None:
    shop.run(sales, doubled)
    seen: dict[str, object] = {}
    renamed = {"tables": "sales", "validator": "doubled"}

    @table_asset(TOTALS, owners=OWNERS, ins={name: dg.AssetIn(["shop", key]) for name, key in renamed.items()})
    def own(
        tables: Frame, validator: Expression, engine: dg.ResourceParam[Engine], context: dg.AssetExecutionContext
    ) -> Expression:
        """An asset with a parameter of each kind: table, resource and context."""
        seen.update(rows=len(tables), engine=engine, run=context.run.run_id)
        return validator.select(item=validator.sale_id.cast("string"), total_eur="price_eur")

    result = dg.materialize([sales, doubled, own], selection=[own], resources=shop._resources(), instance=shop.instance)
    assert seen == {"rows": 3, "engine": shop.services.engine, "run": result.run_id}
    assert shop.rows("shop/totals") == [("1", 20.0), ("2", 40.0), ("3", 10.0)]


def online_rows_equal_lake(result: dg.ExecuteInProcessResult) -> bool:
    return checks(result)["online_rows_equal_lake"]


@pytest.mark.requirement("PLT-1", "CRE-5")
def test_published_online_rows_equal_the_rows_in_the_lake(online: Shop) -> None:
    assert asyncio.run(online.services.online.get("shop/newest", item="tea")) == {"item": "tea", "sale_id": 2}
    result = online.run(newest, newest_is_current)
    assert online_rows_equal_lake(result)
    seen = metadata(result, newest)
    version = online.services.online.current("shop/newest")
    assert version is not None
    assert (seen["dagster/row_count"], seen["digest"]) == (version.rows, version.digest) == (2, version.digest)


@pytest.mark.requirement("CRE-5")
def test_altered_online_rows_fail_the_check_and_are_replaced_by_a_run(online: Shop) -> None:
    with online.services.database.engine.begin() as connection:
        connection.exec_driver_sql("update shop.newest set sale_id = 1 where item = 'tea'")
    result = online.run(newest_is_current)
    assert not online_rows_equal_lake(result)
    (evaluation,) = result.get_asset_check_evaluations()
    assert evaluation.description == "To fix this, materialise shop/newest."
    assert online_rows_equal_lake(online.run(newest, newest_is_current))


@pytest.mark.requirement("CRE-5")
def test_outdated_online_rows_fail_the_check(online: Shop) -> None:
    online.deliver(MORE)
    online.run(sales)
    assert not online_rows_equal_lake(online.run(newest_is_current))


def test_an_asset_reads_an_online_table(online: Shop) -> None:
    @table_asset(DOUBLED, owners=OWNERS)
    def reading(newest: Expression) -> Expression:
        """Rows made from the online table."""
        return newest.select("sale_id", price_eur=newest.sale_id.cast("float64"))

    dg.materialize(
        [sales, newest, reading], selection=[reading], resources=online._resources(), instance=online.instance
    )
    assert online.rows("shop/doubled") == [(2, 2.0), (3, 3.0)]
