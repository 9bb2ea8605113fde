"""Write CSV files and plain bytes atomically. Demo data are written this way."""

from __future__ import annotations

import csv
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Iterable[Any]], encoding: str = "utf-8") -> Path:
    """Write a header and rows as a CSV file with Unix line ends, and return the path.

    Parameters
    ----------
    path
        The file. Missing folders are created, and an existing file is replaced.
    columns
        Names of the columns, for the header.
    rows
        The values of each row. Rows may be longer or shorter than the header, because demo data contain bad rows.
    encoding
        Encoding of the text.

    Raises
    ------
    OSError
        The file cannot be written. No partial file remains.
    """
    with _replacing(path) as part, part.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def write_bytes(path: Path, content: bytes) -> Path:
    """Write bytes as a file atomically, and return the path."""
    with _replacing(path) as part:
        part.write_bytes(content)
    return path


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
