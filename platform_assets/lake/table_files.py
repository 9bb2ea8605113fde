"""Find missing and damaged data files of a table, and flush files and commits to disk."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform_assets.lake.table_damage import is_parquet

if TYPE_CHECKING:
    from collections.abc import Collection

    from deltalake import DeltaTable

    from platform_assets.lake.lake_location import LakeLocation


_DIGEST = re.compile(r"\.([0-9a-f]{64})\.parquet")


def broken_files(location: LakeLocation, name: str, table: DeltaTable) -> dict[str, str]:
    """Return the problem of each missing or damaged data file of the opened version, by path.

    File sizes are compared with the log. A local file must also begin and end with Parquet's magic bytes.
    """
    import pyarrow as pa

    files = pa.table(table.get_add_actions(flatten=True)).select(["path", "size_bytes"]).to_pylist()
    sizes = _stored_sizes(location, name) if location.is_remote else {}
    broken = {}
    for file in files:
        path, wanted = file["path"], file["size_bytes"]
        local = Path(location.uri(name), path)
        size = sizes.get(path) if location.is_remote else (local.stat().st_size if local.exists() else None)
        if size is None:
            broken[path] = "is missing"
        elif size != wanted:
            broken[path] = f"has {size} of {wanted} bytes"
        elif not location.is_remote and not is_parquet(local):
            broken[path] = "is not a Parquet file"
    return broken


def altered_files(location: LakeLocation, name: str, table: DeltaTable) -> dict[str, str]:
    """Find the data files of the opened version that were altered after they were written. Return problems by path.

    Reads all local files. Files that earlier releases wrote are not checked, because their names contain no digest.
    Files of an object store are not checked, because the store verifies its own checksums.
    """
    import pyarrow as pa

    if location.is_remote:
        return {}
    altered = {}
    for path in pa.table(table.get_add_actions(flatten=True))["path"].to_pylist():
        recorded = _DIGEST.search(path)
        if recorded and sha256_of(Path(location.uri(name), path)) != recorded[1]:
            altered[path] = "was altered after it was written; delete it"
    return altered


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def broken_partitions(table: DeltaTable, partition_by: str | None, broken: dict[str, str]) -> set[str]:
    """Return the values of the partitions whose files are broken; `""` stands for an unpartitioned table."""
    import pyarrow as pa

    if not broken:
        return set()
    column = f"partition.{partition_by}"
    files: list[dict[str, Any]] = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    return {_partition_text(file[column]) if partition_by else "" for file in files if file["path"] in broken}


def _partition_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _stored_sizes(location: LakeLocation, name: str) -> dict[str, int]:
    import pyarrow.fs as pafs

    # Listing the folder once is faster than one request per file.
    infos = location.files(name).get_file_info(pafs.FileSelector(""))
    return {info.path: info.size for info in infos if info.is_file}


def sync_files(location: LakeLocation, name: str, actions: Collection[Any]) -> None:
    """Flush data files to disk before a commit refers to them, because a power failure could lose them."""
    folder = Path(location.uri(name))
    if location.is_durable and actions:
        for path in (*(folder / action.path for action in actions), folder):
            _sync(path)


def sync_commit(location: LakeLocation, name: str, number: int) -> None:
    """Flush a commit to disk, because delta-rs leaves that to the operating system."""
    if not location.is_durable:
        return
    log = Path(location.uri(name), "_delta_log")
    _sync(log / f"{number:020d}.json")
    _sync(log)
    if number == 0:
        root = Path(location.root)
        for folder in [log.parent, *log.parent.parents]:
            _sync(folder)
            if folder in (root, root.parent):
                break


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
