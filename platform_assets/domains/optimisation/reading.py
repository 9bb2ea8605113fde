"""Read files as a stream of small record batches."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from platform_assets.base.errors import SourceError, first_line
from platform_assets.landing.csv_records import open_csv
from platform_assets.landing.landed_rows import is_parquet
from platform_assets.landing.parquet_files import open_parquet
from platform_assets.landing.text_encodings import detected_encoding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pyarrow as pa

    from platform_assets.landing.csv_records import CsvFile, Unread

BLOCKS = 512
"""Number of batches of a large parquet file, so that a batch is small compared with the table."""
SMALLEST_BATCH = 1 << 10
PIECE = 1 << 17
"""Bytes of a CSV file per batch. Twice as many would raise the peak memory use by 1 MB."""
LARGE = 4
"""Factor for the batch size of the first pass. Larger batches are faster, and the table takes no memory yet."""
FEWEST_PIECES = 64
"""Minimum number of batches of a CSV file in the first pass.

For a small file, batches are made smaller to reach this number, but not smaller than `PIECE` bytes.
"""


@dataclass(frozen=True)
class TableFile:
    """A file that can be read from its beginning more than once.

    Attributes
    ----------
    names
        Column names.
    batches
        Function that reads the file. Its argument is a factor for the batch size. CSV columns are strings; empty values
        are null.
    encoding
        Text encoding of a CSV file; empty for parquet.
    unread
        Lines read so far that could not be parsed as rows.
    jumps
        Row index and line number of the first row, and of each row whose line number is not one more than that of the
        previous row, for example because the previous row spans several lines.
    """

    names: list[str]
    batches: Callable[[int], Iterator[pa.RecordBatch]]
    encoding: str = ""
    unread: list[Unread] = field(default_factory=list)
    jumps: list[tuple[int, int]] = field(default_factory=list)


@contextmanager
def plain_errors(path: Path) -> Iterator[None]:
    """Turn errors in reading a file into a `SourceError` that names the file."""
    import pyarrow as pa

    try:
        yield
    except (OSError, UnicodeError, LookupError, pa.ArrowException) as error:
        raise SourceError(
            f"{path} cannot be read: {first_line(error)}; it must be a CSV file with a header, or a parquet file"
        ) from error


@contextmanager
def sparing() -> Iterator[None]:
    """Let Arrow allocate from the system, because its own allocator keeps megabytes of freed memory.

    Arrow has one allocator per process, so other threads use the system allocator too during this time. This is slower
    but safe, because each buffer is freed by the allocator that allocated it.
    """
    import pyarrow as pa

    usual = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(usual)


def one_by_one(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the batches, and return freed memory to the system after each."""
    import pyarrow as pa

    for batch in batches:
        yield batch
        pa.default_memory_pool().release_unused()


def open_table(path: Path, encoding: str | None) -> TableFile:
    """Open a CSV or parquet file; its first bytes show the format.

    Raises
    ------
    SourceError
        The file has no header, or no known encoding fits.
    """
    called = str(path)
    if is_parquet(path):
        file = open_parquet(path, called)
        size = max(file.rows // BLOCKS, SMALLEST_BATCH)
        return TableFile(file.schema.names, lambda factor: file.batches(factor * size))
    return _from_csv(open_csv(path, called, encoding or detected_encoding(path, called)))


def _from_csv(opened: CsvFile) -> TableFile:
    import numpy as np

    largest = max(opened.path.stat().st_size // FEWEST_PIECES, PIECE)

    def batches(factor: int) -> Iterator[pa.RecordBatch]:
        file.unread.clear()
        file.jumps.clear()
        rows, expected = 0, 0
        for piece in opened.pieces(min(factor * PIECE, largest)):
            file.unread.extend(piece.unread)
            follows = np.concatenate([[expected], piece.lines[:-1] + 1])[: len(piece.lines)]
            for place in np.flatnonzero(piece.lines != follows).tolist():
                file.jumps.append((rows + place, int(piece.lines[place])))
            if len(piece.lines):
                rows, expected = rows + len(piece.lines), int(piece.lines[-1]) + 1
            yield piece.texts

    file = TableFile(opened.names, batches, opened.encoding)
    return file
