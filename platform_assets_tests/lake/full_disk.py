"""A process that publishes 16 MB in eight partitions, while its lake or its scratch folder is on a disk of 4 MB.

`warm.py` starts the process. The arguments are three folders: the disk, the lake, and the folder for scratch files. The
process prints the outcome as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from platform_assets.base.errors import PlatformError
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.delta_tables import TableStore
from platform_assets_tests.small_disk import mount_small_disk

NAME = "shop/sales"


def main(disk: str, lake: str, scratch: str) -> None:
    mount_small_disk(disk, 4)
    engine = Engine(Path(scratch), "200MB", 1)
    store = TableStore(lake, engine)
    # Random numbers, which Parquet cannot compress.
    rows = pd.DataFrame({"a": np.random.default_rng(1).random(2_000_000)}).assign(part=lambda t: t.index * 8 // len(t))
    with engine.stage(rows.head(10), "part") as staged:
        store.publish(NAME, staged)
    before, files = len(store.read(NAME)), _files(lake, scratch)
    error = ""
    try:
        with engine.stage(rows, "part") as staged:
            store.publish(NAME, staged)
    except PlatformError as caught:
        error = str(caught)
    current = store.current(NAME)
    left = _files(lake, scratch) - files
    after = len(store.read(NAME))
    with engine.stage(rows.head(20), "part") as staged:
        published = store.publish(NAME, staged)
    json.dump(
        {
            "error": error,
            "rows_before": before,
            "rows_after": after,
            "version": current and current.version,
            "files_of_the_failed_writer": left,
            "next_version": published.version,
        },
        sys.stdout,
    )


def _files(*folders: str) -> int:
    return sum(len(list(Path(folder).rglob("*.parquet"))) for folder in folders)
