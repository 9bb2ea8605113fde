from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from platform_assets.base.errors import TableError
from platform_assets_tests.lake.sales_lake import NAME, Lake, contents, sales


def test_the_log_is_understood_beyond_its_checkpoints(folder_lake: Lake) -> None:
    folder_lake.publish(sales(0))
    # The hundredth version would have the first one by itself.
    DeltaTable(folder_lake.store.uri(NAME)).alter.set_table_properties({"delta.checkpointInterval": "5"})
    for turn in range(2, 13):
        folder_lake.publish(sales(turn))
    assert len(list(Path(folder_lake.uri).glob(f"{NAME}/_delta_log/*.checkpoint.parquet"))) == 2
    current = folder_lake.store.current(NAME)
    assert current is not None
    assert current.version == 12
    assert contents(folder_lake.store.read(NAME, version=3)) == [(0, 3.0)]
    assert [version.version for version in folder_lake.store.versions(NAME)] == [*range(12, 1, -1), 0]


def test_what_another_program_changed_is_not_taken_for_ours(folder_lake: Lake) -> None:
    folder_lake.publish(sales(1, 2))
    DeltaTable(folder_lake.store.uri(NAME)).delete("id = 0")
    with pytest.raises(TableError, match=r"changed by another program \(DELETE after version 0\)"):
        folder_lake.publish(sales(1, 2))
    write_deltalake(folder_lake.store.uri("other"), pa.table({"a": [1]}))
    with pytest.raises(TableError, match="not written by the platform"):
        folder_lake.store.current("other")
