"""Vacuum: remove files of killed writers, and files that only versions older than the retention period need."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from deltalake import DeltaTable

    from platform_assets.lake.lake_location import LakeLocation


def vacuum(
    location: LakeLocation, name: str, table: DeltaTable, retention: timedelta, keep_versions: Collection[int]
) -> int:
    """Remove files of an open table, and return their number. See `TableStore.vacuum`."""
    with location.plain_errors(name, "was not cleaned"):
        # Count files by listing the folder, because delta-rs also reports files that an earlier vacuum removed.
        before = _stored_files(location, name)
        table.vacuum(
            retention_hours=math.ceil(retention / timedelta(hours=1)),
            dry_run=False,
            enforce_retention_duration=False,
            full=True,
            # Skip versions that this table does not have: a registered model may refer to a version from before the
            # lake was lost and recreated.
            keep_versions=sorted(version for version in keep_versions if version <= table.version()),
        )
        return len(before - _stored_files(location, name)) + _remove_halves(location, name, retention)


def _remove_halves(location: LakeLocation, name: str, retention: timedelta) -> int:
    # In a folder, delta-rs writes to `<file>#<number>` and then renames the file. Remove such files of killed writers,
    # because delta-rs' own vacuum ignores them.
    # In an object store, a lifecycle rule of the bucket removes incomplete uploads.
    if location.is_remote:
        return 0
    oldest = time.time() - retention.total_seconds()
    halves = [path for path in Path(location.uri(name)).rglob("*#*") if path.stat().st_mtime < oldest]
    for half in halves:
        half.unlink()
    return len(halves)


def _stored_files(location: LakeLocation, name: str) -> set[str]:
    import pyarrow.fs as pafs

    return {info.path for info in location.files(name).get_file_info(pafs.FileSelector("")) if info.is_file}
