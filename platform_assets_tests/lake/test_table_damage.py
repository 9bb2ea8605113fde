"""Tables damaged by a crash, a person or another program: the error names the file, and the suggested fix works."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.fs as pafs
import pytest
from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler

from platform_assets.base.errors import TableError
from platform_assets.lake.delta_tables import TableStore
from platform_assets_tests.lake.sales_lake import NAME, NOW, Lake, by_month, contents, sales

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def log(folder_lake: Lake) -> Path:
    """The log of a table with three versions."""
    for amount in range(3):
        folder_lake.publish(sales(amount, amount))
    return Path(folder_lake.store.uri(NAME), "_delta_log")


def commit(log: Path, number: int) -> Path:
    return log / f"{number:020d}.json"


CUTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "blank": lambda _: b"\n\n",
    "zeros": lambda content: b"\0" * len(content),
    "half": lambda content: content[: len(content) // 2],
    "first line": lambda content: content.splitlines(keepends=True)[0],
    "all but the last line": lambda content: b"".join(content.splitlines(keepends=True)[:-1]),
}


@pytest.mark.requirement("PLT-7")
@pytest.mark.parametrize("cut", CUTS)
def test_a_damaged_newest_commit_gives_an_error_and_deleting_it_restores_the_previous_version(
    folder_lake: Lake, log: Path, cut: str
) -> None:
    store, newest = folder_lake.store, commit(log, 2)
    newest.write_bytes(CUTS[cut](newest.read_bytes()))
    told = f"{NAME} is damaged: the commit {newest} is empty or truncated. Delete that file to return the table"
    uses: list[Callable[[], Any]] = [
        lambda: store.current(NAME),
        lambda: store.read(NAME),
        lambda: store.versions(NAME),
        lambda: store.vacuum(NAME, NOW),
        lambda: folder_lake.publish(sales(5)),
    ]
    for use in uses:
        with pytest.raises(TableError, match=re.escape(told)):
            use()
    assert [name for name, sentence in store.damage() if told in sentence] == [NAME]
    newest.unlink()
    assert contents(store.read(NAME)) == [(0, 1.0), (1, 1.0)]
    assert folder_lake.publish(sales(5)).version == 2


@pytest.mark.parametrize("is_missing", [True, False])
def test_a_damaged_older_commit_gives_an_error_with_its_path(folder_lake: Lake, log: Path, is_missing: bool) -> None:
    """Without this error, the table would silently contain rows that the damaged commit had removed."""
    older = commit(log, 1)
    older.unlink() if is_missing else older.write_bytes(b"")
    with pytest.raises(TableError, match=f"the commit {older} is .*Restore that file from a backup; or delete"):
        folder_lake.store.read(NAME)


@pytest.mark.parametrize("cut", ["empty", "zeros", "half"])
def test_a_damaged_first_commit_gives_an_error_with_its_path(folder_lake: Lake, cut: str) -> None:
    folder_lake.publish(sales(1))
    table = Path(folder_lake.store.uri(NAME))
    first = commit(table / "_delta_log", 0)
    first.write_bytes(CUTS[cut](first.read_bytes()))
    with pytest.raises(TableError, match=f"{first} is empty or truncated. Delete the folder {table} and materialise"):
        folder_lake.store.read(NAME)


@pytest.mark.parametrize("keep", [0, 50])
def test_a_damaged_checkpoint_gives_an_error_and_can_be_deleted(folder_lake: Lake, log: Path, keep: int) -> None:
    DeltaTable(str(log.parent)).create_checkpoint()
    [checkpoint] = log.glob("*.checkpoint.parquet")
    checkpoint.write_bytes(checkpoint.read_bytes()[:keep])
    hint = log / "_last_checkpoint"
    with pytest.raises(TableError, match=f"the checkpoint {checkpoint} is broken. Delete {checkpoint} and {hint}"):
        folder_lake.store.read(NAME)
    checkpoint.unlink()
    with pytest.raises(TableError, match=f"the checkpoint {hint} is broken. Delete {hint}"):
        folder_lake.store.read(NAME)
    hint.unlink()
    assert contents(folder_lake.store.read(NAME)) == [(0, 2.0), (1, 2.0)]


@pytest.mark.requirement("PLT-7")
def test_a_missing_data_file_gives_an_error_and_publishing_the_same_rows_restores_it(lake: Lake) -> None:
    lake.publish(sales(1, 2))
    [file] = _delete_files(lake)
    for use in (lambda: lake.store.scan(NAME), lambda: lake.store.read(NAME), lambda: lake.store.read(NAME, version=0)):
        with pytest.raises(TableError, match=rf"{NAME} is damaged: .*{file} is missing. Materialise the asset again"):
            use()
    assert [name for name, _ in lake.store.damage()] == [NAME]
    healed = lake.publish(sales(1, 2))
    assert (healed.version, healed.rows) == (1, 2)
    assert contents(lake.store.read(NAME)) == [(0, 1.0), (1, 2.0)]
    assert not [*lake.store.damage()]
    assert lake.publish(sales(1, 2)) == healed


@pytest.mark.parametrize("cut", ["empty", "zeros", "half"])
def test_publishing_the_same_rows_restores_a_damaged_data_file(folder_lake: Lake, cut: str) -> None:
    folder_lake.publish(sales(1, 2))
    [file] = Path(folder_lake.store.uri(NAME)).glob("*.parquet")
    file.write_bytes(CUTS[cut](file.read_bytes()))
    with pytest.raises(TableError, match=f"{NAME} is damaged: {file} (is not a Parquet file|has .* bytes)"):
        folder_lake.store.read(NAME)
    folder_lake.publish(sales(1, 2))
    assert contents(folder_lake.store.read(NAME)) == [(0, 1.0), (1, 2.0)]


@pytest.mark.requirement("PLT-7", "PLT-12")
def test_a_flipped_byte_is_found_and_publishing_the_same_rows_restores_the_file(folder_lake: Lake) -> None:
    folder_lake.publish(by_month(jan=1, feb=2), "month")
    [file, _] = sorted(Path(folder_lake.store.uri(NAME)).glob("*.parquet"))
    content = bytearray(file.read_bytes())
    assert not [*folder_lake.store.damage()]
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    [(name, told)] = folder_lake.store.damage()
    assert name == NAME
    assert told.startswith(
        f"{NAME} is damaged: {file} was altered after it was written; delete it. Materialise the asset"
    )
    file.unlink()
    folder_lake.publish(by_month(jan=1, feb=2), "month")
    assert not [*folder_lake.store.damage()]


def test_only_the_damaged_partition_is_rewritten(folder_lake: Lake) -> None:
    folder_lake.publish(by_month(jan=1, feb=2), "month")
    table = DeltaTable(folder_lake.store.uri(NAME))
    [january], [february] = (table.file_uris(file_pruning_predicate=f"month = '{month}'") for month in ("jan", "feb"))
    Path(february).unlink()
    folder_lake.publish(by_month(jan=1, feb=2), "month")
    assert contents(folder_lake.store.read(NAME)) == [("feb", 2.0), ("jan", 1.0)]
    assert january in DeltaTable(folder_lake.store.uri(NAME)).file_uris()


def feature(**protocol: Any) -> dict[str, Any]:
    return {"protocol": {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": [], **protocol}}


FEATURES = {
    "deletionVectors": feature(
        minReaderVersion=3, readerFeatures=["deletionVectors"], writerFeatures=["deletionVectors"]
    ),
    "typeWidening": feature(minReaderVersion=3, readerFeatures=["typeWidening"], writerFeatures=["typeWidening"]),
    "checkConstraints": feature(writerFeatures=["checkConstraints"]),
    "writer version 4": {"protocol": {"minReaderVersion": 1, "minWriterVersion": 4}},
    "delta.appendOnly": {"delta.appendOnly": "true"},
}


@pytest.mark.requirement("PLT-7")
@pytest.mark.parametrize("name", FEATURES)
def test_publishing_to_a_table_with_an_unsupported_feature_is_refused_before_the_commit(
    folder_lake: Lake, log: Path, name: str
) -> None:
    _change_table(log, FEATURES[name])
    commits = sorted(log.glob("*.json"))
    advice = r"Remove them with that program \(ALTER TABLE .. DROP FEATURE\), or delete /[^:]*shop/sales and"
    with pytest.raises(TableError, match=f"does not support: {name}. Another program enabled them. {advice}"):
        folder_lake.publish(sales(8))
    assert sorted(log.glob("*.json")) == commits


def test_data_files_are_flushed_to_disk_before_their_commit(folder_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    sync = os.fsync

    def recorded(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    table, lake = Path(folder_lake.store.uri(NAME)), Path(folder_lake.uri)
    for number in range(2):
        synced.clear()
        folder_lake.publish(sales(number))
        [file] = map(Path, DeltaTable(str(table)).file_uris())
        order = [file, table, commit(table / "_delta_log", number), table / "_delta_log"]
        assert synced[:4] == order
        assert synced[4:] == ([table, table.parent, lake] if number == 0 else [])
    private = TableStore("memory://", folder_lake.engine)
    synced.clear()
    with folder_lake.engine.stage(sales(1)) as staged:
        private.publish(NAME, staged)
    assert synced == []


def _delete_files(lake: Lake) -> list[str]:
    table = DeltaTable(lake.store.uri(NAME), storage_options=lake.options)
    files = pafs.PyFileSystem(DeltaStorageHandler(lake.store.uri(NAME), lake.options))
    names = [uri.rpartition("/")[2] for uri in table.file_uris()]
    for name in names:
        files.delete_file(name)
    return names


def _change_table(log: Path, change: dict[str, Any]) -> None:
    """Commit a change of the protocol or the properties, as another program would."""
    actions: list[dict[str, Any]] = [{"commitInfo": {"timestamp": 1, "operation": "SET TBLPROPERTIES"}}]
    if "protocol" in change:
        actions.append(change)
    else:
        first = [json.loads(line) for line in commit(log, 0).read_text().splitlines()]
        [table] = [action["metaData"] for action in first if "metaData" in action]
        actions.append({"metaData": {**table, "configuration": table["configuration"] | change}})
    commit(log, 3).write_text("\n".join(map(json.dumps, actions)) + "\n")
