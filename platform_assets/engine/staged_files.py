"""Staged files: rows in parquet files on local disk, with a digest. They are checked before publication.

`Engine.stage` of `query_engine.py` writes them; `lake/delta_commits.py` and `lake/online_tables.py` publish them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    import pyarrow as pa

WHOLE = ""
"""Name of the only part of a table without partitions."""


@dataclass(frozen=True)
class Part:
    """The staged rows of one partition.

    Attributes
    ----------
    files
        The parquet files, including the partition column.
    rows
        Number of rows.
    digest
        Digest of the rows, independent of their order; see `Engine.stage`.
    """

    files: tuple[Path, ...]
    rows: int
    digest: str


@dataclass(frozen=True)
class Staged:
    """Rows on local disk, ready to be checked and published. A context manager that removes the files on exit.

    Attributes
    ----------
    folder
        Folder that contains the files.
    schema
        Arrow schema of the rows, including the partition column.
    parts
        The rows by partition value. Without a partition column, a single part named `WHOLE`.
    partition_by
        Name of the partition column.
    is_on_cluster
        Whether Spark wrote the files. In this case, Spark also reads them.
    """

    folder: Path
    schema: pa.Schema
    parts: Mapping[str, Part]
    partition_by: str | None
    is_on_cluster: bool = False

    @property
    def files(self) -> list[Path]:
        """The files of all parts."""
        return [file for part in self.parts.values() for file in part.files]

    @property
    def rows(self) -> int:
        """Number of rows in all parts."""
        return sum(part.rows for part in self.parts.values())

    @property
    def digest(self) -> str:
        """Digest of all rows, independent of their order and files."""
        return combined_digest({name: part.digest for name, part in self.parts.items()})

    def read(self, batch_rows: int) -> pa.RecordBatchReader:
        """Return a reader that yields batches of at most `batch_rows` rows, and holds only one batch in memory."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        batches = (batch for file in self.files for batch in pq.ParquetFile(file).iter_batches(batch_rows))
        return pa.RecordBatchReader.from_batches(self.schema, batches)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def discard(self) -> None:
        """Remove the files."""
        shutil.rmtree(self.folder, ignore_errors=True)


def combined_digest(parts: Mapping[str, str]) -> str:
    """Combine the digests of partitions. The digest of a single `WHOLE` part is returned unchanged."""
    if set(parts) == {WHOLE}:
        return parts[WHOLE]
    return short_sha(sorted(parts.items()))


def files_by_partition(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Group the files that DuckDB wrote under a folder by partition value."""
    from urllib.parse import unquote

    inner = sorted(folder.glob("*=*")) if folder.is_dir() else []
    return {unquote(part.name.split("=", 1)[1]): tuple(sorted(part.glob("*.parquet"))) for part in inner}


def short_sha(value: object) -> str:
    """Return the first 32 hexadecimal digits of the SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]
