"""Files as record batches, one small part after the other, and the types that the texts of a CSV file stand for."""

from __future__ import annotations

import codecs
import csv
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from platform_assets.base.errors import SourceError, first_line
from platform_assets.domains.optimisation.forms import LARGEST_EXACT, Facts, all_true
from platform_assets.landing.csv_records import MOST_LINES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import pyarrow as pa
    from pyarrow.csv import InvalidRow

MISSING = ("", "#N/A", "-NaN", "-nan", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")
"""Texts that say in a column of numbers that there is none; in a column of texts only the empty one does."""
BLOCKS = 512
"""Parts in which a file is read, so that the part at work is small beside the table."""
SMALLEST_BLOCK = 1 << 17
LARGEST_BLOCK = 1 << 24
SMALLEST_BATCH = 1 << 10
_SAMPLE = 1 << 16
_PARQUET_MAGIC = b"PAR1"
_WHOLE = r"^(0|-?[1-9][0-9]*)$"
_LEADING_ZERO = r"^[+-]?0[0-9]"
_TRUE, _FALSE = ("True", "true", "TRUE"), ("False", "false", "FALSE")


@dataclass(frozen=True)
class Unread:
    """A line of a CSV file that is no row.

    Attributes
    ----------
    line
        Where it stands, the header's being 1.
    reason
        What is wrong with it.
    text
        The line.
    """

    line: int
    reason: str
    text: str


@dataclass(frozen=True)
class TableFile:
    """A file that can be read from its beginning more than once.

    Attributes
    ----------
    names
        Its columns.
    batches
        Reads it; all columns of a CSV file are texts, null where empty.
    encoding
        Of a CSV file; empty for parquet.
    unread
        The lines that were no rows, as far as it was read.
    jumps
        Rows, counted from 0, and the lines on which they begin, wherever those do not follow the last row's.
    """

    names: list[str]
    batches: Callable[[], Iterator[pa.RecordBatch]]
    encoding: str = ""
    unread: list[Unread] = field(default_factory=list)
    jumps: list[tuple[int, int]] = field(default_factory=list)


@contextmanager
def plain_errors(path: Path) -> Iterator[None]:
    """Say which file it is that cannot be read."""
    import pyarrow as pa

    try:
        yield
    except (OSError, UnicodeError, LookupError, pa.ArrowException) as error:
        raise SourceError(
            f"{path} cannot be read: {first_line(error)}; a CSV file with a header, or a parquet file, is needed"
        ) from error


@contextmanager
def sparing() -> Iterator[None]:
    """Let Arrow take memory from the system: its own allocator holds on to megabytes that it does not need.

    Arrow knows one allocator for the whole process. Another thread that allocates meanwhile takes from the system
    too, which is slower and nothing else: every buffer goes back to where it came from.
    """
    import pyarrow as pa

    usual = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(usual)


def one_by_one(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches, what was freed going back to the system in between."""
    import pyarrow as pa

    for batch in batches:
        yield batch
        pa.default_memory_pool().release_unused()


def open_table(path: Path, encoding: str | None) -> TableFile:
    """Open a CSV or parquet file, whichever it is.

    Raises
    ------
    SourceError
        It has no header, or no encoding fits.
    """
    with path.open("rb") as stream:
        is_parquet = stream.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC
    return _open_parquet(path) if is_parquet else _open_csv(path, encoding or detect_encoding(path))


def _open_parquet(path: Path) -> TableFile:
    import pyarrow.parquet as pq

    described = pq.ParquetFile(path)
    rows = max(described.metadata.num_rows // BLOCKS, SMALLEST_BATCH)

    def batches() -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield from file.iter_batches(batch_size=rows, use_threads=False)

    return TableFile(described.schema_arrow.names, batches)


def _open_csv(path: Path, encoding: str) -> TableFile:
    block = min(max(path.stat().st_size // BLOCKS, SMALLEST_BLOCK), LARGEST_BLOCK)
    with _text(path, encoding) as lines:
        names = next(csv.reader(lines), [])
    if not any(names):
        raise SourceError(f"{path} has no header; a header and rows are needed")

    def batches() -> Iterator[pa.RecordBatch]:
        file.unread.clear()
        file.jumps.clear()
        rows, expected = 0, 0
        with _text(path, encoding) as lines:
            for records in _blocks(_records(lines, file.unread), block):
                batch, bad = _split(records, names)
                file.unread.extend(bad)
                skipped = {unread.line for unread in bad}
                for line, _ in records:
                    if line in skipped:
                        continue
                    if line != expected:
                        file.jumps.append((rows, line))
                    rows, expected = rows + 1, line + 1
                yield batch

    file = TableFile(names, batches, encoding)
    return file


def _text(path: Path, encoding: str) -> TextIO:
    return path.open(encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="")


def _split(records: list[tuple[int, str]], names: list[str]) -> tuple[pa.RecordBatch, list[Unread]]:
    """The fields of some records, and the records that have another number of them than the header."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    bad: list[Unread] = []

    def set_aside(row: InvalidRow) -> str:
        reason = f"it has {row.actual_columns} fields; the header has {row.expected_columns}"
        bad.append(Unread(records[row.number - 1][0], reason, row.text))
        return "skip"

    data = "".join(record for _, record in records).encode()
    # Not Arrow's own streaming: it reads ahead in threads, which takes more memory than the table.
    reading = arrow_csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names)
    parsing = arrow_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=set_aside)
    # Every field as text: what it is, the whole column says.
    converting = arrow_csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
    )
    table = arrow_csv.read_csv(pa.BufferReader(data), reading, parsing, converting)
    columns = [pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, pa.string()) for column in table]
    return pa.RecordBatch.from_arrays(columns, names), bad


def _blocks(records: Iterator[tuple[int, str]], size: int) -> Iterator[list[tuple[int, str]]]:
    """Records, several at a time; without the header."""
    next(records)
    block: list[tuple[int, str]] = []
    letters = 0
    for record in records:
        block.append(record)
        letters += len(record[1])
        if letters >= size:
            yield block
            block, letters = [], 0
    if block:
        yield block


def _records(lines: Iterable[str], unread: list[Unread]) -> Iterator[tuple[int, str]]:
    """The records of a CSV file, each with its first line's number; a field between quotes may hold line breaks."""
    ahead: deque[tuple[int, str]] = deque()
    numbered = enumerate(lines, start=1)

    def following() -> tuple[int, str]:
        return ahead.popleft() if ahead else next(numbered, (0, ""))

    while (first := following())[0]:
        record, taken = [first[1]], list[tuple[int, str]]()
        if not _leaves_open(record):
            if first[1].strip("\r\n"):
                yield first
            continue
        while len(taken) < MOST_LINES - 1 and (more := following())[0]:
            taken.append(more)
            record.append(more[1])
            if '"' in more[1] and not _leaves_open(record):
                yield first[0], "".join(record)
                break
        else:
            # Nobody can tell where such a field ends. The lines behind it are read as if it ended with its own.
            unread.append(Unread(first[0], "a quote is not closed", first[1].rstrip("\r\n")))
            ahead.extendleft(reversed(taken))


def _leaves_open(record: list[str]) -> bool:
    """Whether a quoted field goes on behind these lines."""
    text = "".join(record)
    # An odd number of quotes may be one in the middle of a field, which means nothing.
    if text.count('"') % 2 == 0:
        return False
    try:
        next(csv.reader([text], strict=True))
    except csv.Error as error:
        return str(error) == "unexpected end of data"
    return False


def possible_types(found: pa.DataType, *, is_stated: bool) -> dict[pa.DataType, Facts]:
    """The types that a column may have, the likeliest first; one that is stated has no other."""
    import pyarrow as pa

    of_text = (pa.bool_(), pa.int64(), pa.uint64(), pa.float64(), pa.string())
    if is_stated:
        return {found: Facts(found)}
    # Which texts there are says which numbers there are.
    return {kind: Facts(kind, remembers=kind == found) for kind in of_text}


def learn(column: pa.Array, possible: dict[pa.DataType, Facts]) -> None:
    """Learn from some values of a column, and rule out the types that they are not of."""
    for kind in list(possible):
        values = parsed(column, kind)
        if values is None:
            del possible[kind]
        else:
            possible[kind].add(values)


def parsed(column: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """The column as values of a type; None where some are none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.type == kind:
        return column
    texts = pc.if_else(pc.is_in(column, pa.array(MISSING)), None, column)
    if pa.types.is_boolean(kind):
        return _truths(texts)
    whole = pc.match_substring_regex(texts, _WHOLE)
    try:
        if pa.types.is_integer(kind):
            return texts.cast(kind) if all_true(whole) else None
        if not all_true(pc.invert(pc.match_substring_regex(texts, _LEADING_ZERO))):
            return None
        numbers = texts.cast(kind)
        beyond = pc.and_(whole, pc.greater_equal(pc.abs(numbers), float(LARGEST_EXACT)))
    except pa.ArrowInvalid:
        return None
    return numbers if all_true(pc.invert(beyond)) else None


def _truths(texts: pa.Array) -> pa.Array | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    is_true, is_false = (pc.is_in(texts, pa.array(words)) for words in (_TRUE, _FALSE))
    is_missing = texts.is_null()
    if not all_true(pc.or_(pc.or_(is_true, is_false), is_missing)):
        return None
    return pc.if_else(is_missing, pa.scalar(None, pa.bool_()), is_true)


def detect_encoding(path: Path) -> str:
    """Say how a text file is encoded: UTF-8 where all of it is, else what charset-normalizer finds likeliest.

    Single-byte encodings can hardly be told apart by a few letters; where cp1252, the commonest, is as likely as the
    best, it is taken. Somebody who knows better states the encoding.

    Raises
    ------
    SourceError
        No encoding fits.

    """
    from charset_normalizer import from_bytes

    odd = bytearray()
    is_utf8 = True
    with path.open("rb") as file:
        head = file.read(4)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        file.seek(0)
        for line in file:
            if line.isascii():
                continue
            is_utf8 = is_utf8 and _is_utf8(line)
            if len(odd) < _SAMPLE:
                odd += line
    if is_utf8:
        return "utf-8"
    best, western = from_bytes(odd).best(), from_bytes(odd, cp_isolation=["cp1252"]).best()
    if western and best and western.chaos <= best.chaos:
        return "cp1252"
    if best is None:
        raise SourceError(f"the encoding of {path} is none that is known; state it")
    return str(best.encoding)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
