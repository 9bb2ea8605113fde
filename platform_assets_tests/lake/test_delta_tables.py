"""The contract of `TableStore`, tested in a folder, in memory and in an object store."""

from __future__ import annotations

import datetime as dt
import decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from platform_assets.base.errors import TableError
from platform_assets_tests.lake.sales_lake import NAME, NOW, Lake, by_month, contents, sales


@pytest.mark.requirement("CRE-2")
def test_published_rows_can_be_read_and_the_version_describes_them(lake: Lake) -> None:
    assert lake.store.current(NAME) is None
    assert not lake.store.exists(NAME)
    before = dt.datetime.now(dt.UTC).replace(microsecond=0)
    published = lake.publish(sales(1, 2, 3), metadata={"asset": NAME, "demo": True})
    assert lake.store.exists(NAME)
    assert lake.store.current(NAME) == published
    assert lake.store.versions(NAME) == [published]
    assert (published.name, published.version, published.rows) == (NAME, 0, 3)
    assert published.metadata == {"asset": NAME, "demo": True}
    assert before <= published.committed_at <= dt.datetime.now(dt.UTC)
    assert contents(lake.store.read(NAME)) == [(0, 1.0), (1, 2.0), (2, 3.0)]
    assert lake.store.read(NAME, columns=["amount"]).columns.tolist() == ["amount"]
    assert lake.store.scan(NAME).count().to_pyarrow().as_py() == 3


@pytest.mark.requirement("PLT-7")
def test_the_same_rows_in_another_order_or_file_layout_make_no_new_version(lake: Lake, tmp_path: Path) -> None:
    first = lake.publish(sales(1, 2, 3))
    backwards = lake.publish(sales(1, 2, 3).iloc[::-1], metadata={"run": "another"})
    files = [tmp_path / f"{row}.parquet" for row in range(3)]
    for row, file in enumerate(files):
        sales(1, 2, 3).iloc[[row]].to_parquet(file, index=False)
    in_pieces = lake.publish(lake.engine.parquet(*files))
    assert backwards == in_pieces == first
    assert lake.store.versions(NAME) == [first]


@pytest.mark.requirement("PLT-7")
def test_changed_rows_make_a_new_version_and_the_previous_version_stays_readable(lake: Lake) -> None:
    old = lake.publish(sales(1, 2))
    new = lake.publish(sales(1, 3))
    assert new.digest != old.digest
    assert lake.store.versions(NAME) == [new, old]
    assert lake.store.versions(NAME, limit=1) == [new]
    assert contents(lake.store.read(NAME)) == [(0, 1.0), (1, 3.0)]
    assert contents(lake.store.read(NAME, version=old.version)) == [(0, 1.0), (1, 2.0)]
    back = lake.publish(sales(1, 2))
    assert (back.version, back.digest) == (2, old.digest)


def test_a_new_schema_replaces_the_old_one(lake: Lake) -> None:
    lake.publish(sales(1))
    lake.publish(pd.DataFrame({"amount": ["much"], "at": [pd.Timestamp("2017-01-01 10:00")]}))
    assert lake.store.read(NAME).to_dict("list") == {"amount": ["much"], "at": [pd.Timestamp("2017-01-01 10:00")]}
    assert lake.store.read(NAME, version=0).to_dict("list") == {"id": [0], "amount": [1.0]}


def test_an_empty_table_keeps_its_columns(lake: Lake) -> None:
    published = lake.publish(sales(1).head(0))
    assert published.rows == 0
    assert dict(lake.store.read(NAME).dtypes) == {"id": "int64", "amount": "float64"}
    assert lake.publish(sales(1).head(0)) == published
    assert lake.publish(sales(1).head(0).rename(columns={"id": "key"})).version == 1
    assert lake.store.read(NAME).columns.tolist() == ["key", "amount"]


def test_an_expression_can_replace_the_table_that_it_reads(lake: Lake) -> None:
    lake.publish(sales(1, 2, 3))
    rows = lake.store.scan(NAME)
    lake.publish(rows.filter(rows.amount > 1))
    assert contents(lake.store.read(NAME)) == [(1, 2.0), (2, 3.0)]
    assert rows.count().to_pyarrow().as_py() == 3


def test_tables_whose_names_share_a_prefix_are_separate(lake: Lake) -> None:
    lake.publish(sales(1), name="shop/sales")
    lake.publish(sales(2), name="shop/sales_quarantine")
    assert lake.store.uri("shop/sales") != lake.store.uri("shop/sales_quarantine")
    assert contents(lake.store.read("shop/sales")) == [(0, 1.0)]
    assert not lake.store.exists("shop")


def test_the_error_names_the_missing_table_or_version(lake: Lake) -> None:
    for reads in (lake.store.read, lake.store.scan, lake.store.versions):
        with pytest.raises(TableError, match="no table shop/sales yet; materialise the asset first"):
            reads(NAME)
    with pytest.raises(TableError, match="no table shop/sales yet"):
        lake.store.vacuum(NAME, NOW)
    lake.publish(sales(1))
    for version in (7, -1):
        with pytest.raises(TableError, match=f"shop/sales has no version {version}; the newest is 0"):
            lake.store.read(NAME, version=version)


def test_types_are_kept_or_converted_as_documented(lake: Lake) -> None:
    madrid = pd.Timestamp("2017-03-26 03:00", tz="Europe/Madrid")
    rows = pa.table(
        {
            "small": pa.array([1, None], pa.int8()),
            "unsigned": pa.array([2**32 - 1, None], pa.uint32()),
            "real": pa.array([float("inf"), None], pa.float64()),
            "amount": pa.array([decimal.Decimal("12.30"), None], pa.decimal128(10, 2)),
            "text": pa.array(["ñ", None]),
            "category": pa.array(["x", None]).dictionary_encode(),
            "raw": pa.array([b"\0", None]),
            "yes": pa.array([True, None]),
            "day": pa.array([dt.date(3021, 1, 1), None]),
            "local": pa.array([dt.datetime(2017, 3, 26, 3, 0, 0, 1), None], pa.timestamp("us")),
            "coarse": pa.array([dt.datetime(2017, 3, 26), None], pa.timestamp("s")),
            "instant": pa.array([madrid, None], pa.timestamp("ns", "Europe/Madrid")),
        }
    )
    lake.publish(rows)
    found = lake.store.scan(NAME).order_by("small").to_pyarrow()
    expected = {
        "unsigned": pa.array([2**32 - 1, None], pa.int64()),
        "category": pa.array(["x", None]),
        "coarse": pa.array([dt.datetime(2017, 3, 26), None], pa.timestamp("us")),
        "instant": pa.array([madrid, None], pa.timestamp("us", "UTC")),
    }
    for column in rows.schema.names:
        wanted = expected.get(column, rows.column(column).combine_chunks())
        assert found.column(column).combine_chunks().equals(wanted), column


def test_a_query_reads_only_the_partitions_and_columns_that_it_needs(folder_lake: Lake) -> None:
    folder_lake.publish(by_month(jan=1, feb=2), "month")
    table = DeltaTable(folder_lake.store.uri(NAME))
    rows = folder_lake.store.scan(NAME)
    january = rows.filter(rows.month == "jan").amount
    [(_, plan)] = folder_lake.engine.sql(f"EXPLAIN {folder_lake.engine.ibis.compile(rows.amount)}")
    assert "month" not in plan
    [february] = table.file_uris(file_pruning_predicate="month = 'feb'")
    Path(february).unlink()
    assert january.to_pyarrow().to_pylist() == [1.0]
    with pytest.raises(TableError, match="shop/sales is damaged: .*parquet is missing"):
        folder_lake.store.read(NAME)
