"""Merge the small files of a table that grows in batches, so that the table stays cheap to open and read."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TableError
from platform_assets.engine.staged_files import WHOLE
from platform_assets.lake.delta_commits import commit
from platform_assets.lake.table_versions import commit_metadata, last_batch, newest
from platform_assets.lake.uploads import Uploads

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from platform_assets.engine.query_engine import Engine
    from platform_assets.lake.lake_location import LakeLocation

SMALL_FILES = 20
"""Minimum number of small files for a merge."""
SMALL_BYTES = 1 << 26
"""Size in bytes below which a file counts as small."""


def merge_small_files(location: LakeLocation, name: str, table: DeltaTable, engine: Engine) -> None:
    """Merge the small files of an open table, if there are many, in one commit. The new version has the same rows.

    The small files stay until a later vacuum removes them, so that the previous version can still be read. If another
    writer commits first, nothing is merged.
    """
    import pyarrow as pa
    import pyarrow.dataset as pads
    from deltalake.transaction import RemoveAction

    if not (batch := last_batch(table)):
        return
    files: list[dict[str, Any]] = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    small = [file for file in files if file["size_bytes"] < SMALL_BYTES]
    if len(small) < SMALL_FILES:
        return
    base, store = newest(name, table), location.files(name)
    schema = pa.schema(table.schema().to_arrow())
    rows = pads.dataset([file["path"] for file in small], schema=schema, format="parquet", filesystem=store)
    with engine.stage(engine.dataset(rows)) as staged:
        if staged.rows != sum(file["num_records"] for file in small):
            raise TableError(f"{name} was not merged: its files do not contain the rows that its log records")
        uploads = Uploads(store, None if location.is_remote else Path(location.uri(name)), staged)
        now = int(time.time() * 1000)
        actions = [replace(action, data_change=False) for action in uploads.actions([WHOLE])]
        removed = [
            RemoveAction(file["path"], data_change=False, deletion_timestamp=now, size=file["size_bytes"])
            for file in small
        ]
        at = round(base.committed_at.timestamp() * 1000)
        merged = commit_metadata(table.version() + 1, base.parts, base.metadata, base.made_from, at, batch)
        commit(location, table, name, merged, [*actions, *removed], None)
