"""Staged files: rows as parquet files on local disk with their digest, checked before anyone can see them.

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
"""The name of the only part of a table that has no partitions."""


@dataclass(frozen=True)
class Part:
    """The staged rows of one partition.

    Attributes
    ----------
    files
        The parquet files, the partition's own column included.
    rows
        Number of rows.
    digest
        Digest of the rows in any order; see `Engine.stage`.
    """

    files: tuple[Path, ...]
    rows: int
    digest: str


@dataclass(frozen=True)
class Staged:
    """Rows on local disk, ready to be checked and published. A context manager that removes its files.

    Attributes
    ----------
    folder
        Where the files are.
    schema
        Arrow schema of the rows, the partition's column included.
    parts
        The rows by value of the partition column; one part named `WHOLE` without one.
    partition_by
        Name of the partition column.
    """

    folder: Path
    schema: pa.Schema
    parts: Mapping[str, Part]
    partition_by: str | None

    @property
    def rows(self) -> int:
        """Number of rows in all parts."""
        return sum(part.rows for part in self.parts.values())

    @property
    def digest(self) -> str:
        """Digest of all rows, in any order and file layout."""
        return combined_digest({name: part.digest for name, part in self.parts.items()})

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
    """One digest for a table from the digests of its partitions; that of the only part where there is one."""
    if set(parts) == {WHOLE}:
        return parts[WHOLE]
    return short_sha(sorted(parts.items()))


def files_by_partition(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The files that DuckDB wrote below a folder, by value of the partition column."""
    from urllib.parse import unquote

    inner = sorted(folder.glob("*=*")) if folder.is_dir() else []
    return {unquote(part.name.split("=", 1)[1]): tuple(sorted(part.glob("*.parquet"))) for part in inner}


def short_sha(value: object) -> str:
    """The first 32 digits of SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]
