"""Each batch is added to a table exactly once, despite concurrent writers and failures."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from platform_assets.base.errors import SchemaError, TableError
from platform_assets.engine.query_engine import Engine
from platform_assets.engine.row_batch import RowBatch
from platform_assets.lake.delta_tables import TableStore
from platform_assets.lake.lineage import Lineage
from platform_assets.lake.merged_files import SMALL_FILES
from platform_assets.lake.schemas import Column, TableSchema
from platform_assets.lake.validation import Validator
from platform_assets_tests.lake.sales_lake import NAME, NOW, Lake, contents, sales

if TYPE_CHECKING:
    from platform_assets.lake.table_versions import TableVersion

SALES = TableSchema(
    NAME, (Column("id", "int64", "Number."), Column("amount", "float64", "Amount.", "EUR")), ("id",), accumulates=True
)


def add(lake: Lake, batch: int, rows: Any, **more: Any) -> TableVersion:
    with lake.engine.stage(rows) as staged:
        return lake.store.append(NAME, staged, batch, **more)


@pytest.mark.requirement("SEN-1")
def test_a_batch_is_added_once_in_one_commit(lake: Lake) -> None:
    assert lake.store.last_batch(NAME) == 0
    first = add(lake, 1, sales(1, 2), metadata={"run": "a"})
    second = add(lake, 3, sales(3), metadata={"run": "b"})
    assert contents(lake.store.read(NAME)) == [(0, 1.0), (0, 3.0), (1, 2.0)]
    for batch in (1, 2, 3):
        assert add(lake, batch, sales(9)) == second
    assert [one.rows for one in lake.store.versions(NAME)] == [3, 2]
    assert (lake.store.last_batch(NAME), second.metadata) == (3, {"run": "b"})
    assert contents(lake.store.read(NAME, version=first.version)) == [(0, 1.0), (1, 2.0)]
    assert first.digest != second.digest
    # Equal rows in another batch are added again.
    third = add(lake, 4, sales(3))
    assert third.rows == 4
    assert len({first.digest, second.digest, third.digest}) == 3


def test_an_empty_batch_creates_a_missing_table_but_adds_no_version_to_an_existing_one(lake: Lake) -> None:
    empty = add(lake, 0, sales())
    assert (empty.rows, lake.store.last_batch(NAME)) == (0, 0)
    full = add(lake, 1, sales(1))
    assert add(lake, 2, sales()) == full
    assert contents(lake.store.read(NAME)) == [(0, 1.0)]


def test_a_batch_can_add_columns_but_not_drop_or_retype_columns(lake: Lake) -> None:
    for batch in range(1, SMALL_FILES):
        add(lake, batch, sales(1))
    add(lake, SMALL_FILES, sales(2).assign(place="x", at=pd.Timestamp("2026-01-01")))
    table = lake.store.read(NAME).sort_values("amount")
    assert table["place"].fillna("").tolist() == [""] * (SMALL_FILES - 1) + ["x"]
    assert table["at"].notna().tolist() == [False] * (SMALL_FILES - 1) + [True]
    for wrong in (sales(3), sales(3).assign(place=1, at=pd.Timestamp("2026-01-01"))):
        with pytest.raises(TableError, match="are missing from the staged rows, or have another type"):
            add(lake, SMALL_FILES + 1, wrong)
    assert lake.store.last_batch(NAME) == SMALL_FILES
    lake.store.vacuum(NAME, NOW)
    assert contents(lake.store.read(NAME)[["amount", "place"]].fillna("")) == contents(
        table[["amount", "place"]].fillna("")
    )


def test_concurrent_writers_add_each_batch_exactly_once(lake: Lake, tmp_path: Path) -> None:
    if not lake.is_shared:
        pytest.skip("needs a lake that several writers can open; this one is in memory")

    def work(writer: int) -> None:
        engine = Engine(tmp_path / f"writer {writer}", "100MB", 1)
        store = TableStore(lake.uri, engine, lake.options)
        for batch in range(1, 6):
            with engine.stage(pd.DataFrame({"writer": [writer] * batch, "batch": batch})) as staged:
                store.append(NAME, staged, batch)
        engine.close()

    with ThreadPoolExecutor() as pool:
        list(pool.map(work, range(3)))
    table = lake.store.read(NAME)
    assert table.groupby("batch").size().to_dict() == {batch: batch for batch in range(1, 6)}
    assert table.groupby("batch")["writer"].nunique().tolist() == [1] * 5


@pytest.mark.requirement("PLT-10")
def test_small_files_are_merged_into_a_version_with_the_same_rows(folder_lake: Lake) -> None:
    for batch in range(1, SMALL_FILES):
        add(folder_lake, batch, sales(batch))
    last = add(folder_lake, SMALL_FILES, sales(SMALL_FILES), metadata={"run": "last"})
    folder = Path(folder_lake.store.uri(NAME))
    assert len([*folder.glob("*.parquet")]) == SMALL_FILES
    rows = contents(folder_lake.store.read(NAME))
    assert folder_lake.store.vacuum(NAME, timedelta(days=1)) == 0
    merged = folder_lake.store.current(NAME)
    assert merged is not None
    assert merged.version > last.version
    assert (merged.digest, merged.rows, merged.metadata) == (last.digest, last.rows, last.metadata)
    assert folder_lake.store.vacuum(NAME, NOW) == SMALL_FILES
    assert len([*folder.glob("*.parquet")]) == 1
    assert contents(folder_lake.store.read(NAME, version=merged.version)) == rows
    # Earlier batches are still recognised as present, and a later batch is added.
    assert add(folder_lake, SMALL_FILES, sales(0)) == merged
    assert add(folder_lake, SMALL_FILES + 1, sales(0)).rows == SMALL_FILES + 1
    assert folder_lake.store.vacuum(NAME, NOW) == 0


def test_adding_a_batch_does_not_read_existing_files(folder_lake: Lake) -> None:
    add(folder_lake, 1, sales(1))
    [file] = Path(folder_lake.store.uri(NAME)).glob("*.parquet")
    file.unlink()
    add(folder_lake, 2, sales(2))
    [(name, reason)] = folder_lake.store.damage()
    assert name == NAME
    assert f"{file} is missing. Delete " in reason
    assert reason.endswith("and materialise the asset again, to load all batches again")


@pytest.mark.requirement("PLT-7")
def test_the_lineage_of_batches_keeps_the_highest_version_of_each_input(folder_lake: Lake) -> None:
    other = folder_lake.publish(sales(1), name="shop/other")
    inputs: dict[str, TableVersion | None] = {"shop/other": other}
    version = add(folder_lake, 1, sales(1), lineage=Lineage(inputs, None, lambda _: 0))
    version = add(folder_lake, 2, sales(1), lineage=Lineage(inputs, version, lambda _: 0))
    assert version.made_from == {"": {"shop/other": 0}}
    assert folder_lake.store.current(NAME) == version


def test_only_tables_that_accumulate_accept_batches(engine: Engine) -> None:
    released = []
    validator = Validator(engine, 0.5)
    batch = RowBatch(sales(1), 1, release=lambda: released.append(1))
    with validator.validate(SALES, batch).table as table:
        assert table.rows == 1
    assert released == []
    with pytest.raises(SchemaError, match="shop/sales accumulates, but its asset returned rows without a batch number"):
        validator.validate(SALES, sales(1))
    replaced = TableSchema(NAME, SALES.columns, SALES.key)
    with pytest.raises(SchemaError, match="shop/sales is replaced by each run, but its asset returned a RowBatch"):
        validator.validate(replaced, batch)
    with pytest.raises(SchemaError, match="differ from its declaration"):
        validator.validate(SALES, RowBatch(sales(1).drop(columns="id"), 2, release=lambda: released.append(2)))
    assert released == [1, 2]


@pytest.mark.parametrize("other", [{"partition_by": "id"}, {"store": "online"}])
def test_a_partitioned_or_online_table_cannot_accumulate(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="only an unpartitioned lake table can accumulate"):
        TableSchema(NAME, SALES.columns, SALES.key, accumulates=True, **other)
