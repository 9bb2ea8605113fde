from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from platform_assets.base.errors import TableError
from platform_assets_tests.lake.sales_lake import NAME, Lake, contents, sales


def test_versions_are_read_across_checkpoints(folder_lake: Lake) -> None:
    folder_lake.publish(sales(0))
    # By default, delta-rs writes a checkpoint every hundred versions.
    DeltaTable(folder_lake.store.uri(NAME)).alter.set_table_properties({"delta.checkpointInterval": "5"})
    for turn in range(2, 13):
        folder_lake.publish(sales(turn))
    assert len(list(Path(folder_lake.uri).glob(f"{NAME}/_delta_log/*.checkpoint.parquet"))) == 2
    current = folder_lake.store.current(NAME)
    assert current is not None
    assert current.version == 12
    assert contents(folder_lake.store.read(NAME, version=3)) == [(0, 3.0)]
    assert [version.version for version in folder_lake.store.versions(NAME)] == [*range(12, 1, -1), 0]


@pytest.mark.requirement("PLT-7")
def test_commits_of_earlier_releases_name_their_inputs_in_the_metadata(folder_lake: Lake) -> None:
    folder_lake.publish(sales(1), metadata={"inputs": {"shop/source": {"version": 3, "digest": "x", "demo": False}}})
    [commit] = Path(folder_lake.store.uri(NAME)).glob("_delta_log/*.json")
    lines = [json.loads(line) for line in commit.read_text().splitlines()]
    for line in lines:
        line.get("commitInfo", {}).get("platform_assets", {}).pop("made_from", None)
    commit.write_text("\n".join(map(json.dumps, lines)))
    current = folder_lake.store.current(NAME)
    assert current is not None
    assert current.made_from == {"": {"shop/source": 3}}


def test_changes_and_tables_of_other_programs_are_refused(folder_lake: Lake) -> None:
    folder_lake.publish(sales(1, 2))
    DeltaTable(folder_lake.store.uri(NAME)).delete("id = 0")
    with pytest.raises(TableError, match=r"changed by another program \(DELETE after version 0\)"):
        folder_lake.publish(sales(1, 2))
    write_deltalake(folder_lake.store.uri("other"), pa.table({"a": [1]}))
    with pytest.raises(TableError, match="not written by the platform"):
        folder_lake.store.current("other")
