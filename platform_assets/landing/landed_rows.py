"""Landed rows: a source file as rows of texts or plain values, each with its line or row number.

A file that cannot be read to its end is refused with the reason. An unreadable line becomes a row with an error.
`source_files.py` fetches the file. `csv_records.py`, `parquet_files.py` and `sqlite_files.py` read it. The package
`lake` gives the fields their declared types.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from platform_assets.base.errors import SourceError, first_line
from platform_assets.landing.csv_records import not_csv, open_csv
from platform_assets.landing.file_remarks import remarks_on
from platform_assets.landing.parquet_files import MAGIC, open_parquet
from platform_assets.landing.row_writer import ERROR, LINE, LINES, TEXT, UNREADABLE, RowWriter, named
from platform_assets.landing.source_files import fetch
from platform_assets.landing.text_encodings import detected_encoding, marked_encoding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    import pyarrow as pa

    from platform_assets.base.frames import Expression
    from platform_assets.engine.query_engine import Engine
    from platform_assets.landing.archives import Unpacking
    from platform_assets.landing.csv_records import CsvFile, Unread
    from platform_assets.landing.source_files import Source

    Reader = Callable[[Path, Source, Path], str]
    """Copies a source file to a parquet file of rows; returns the text encoding of a CSV file, else the format."""

PARQUET = "parquet"
READABLE, UNREAD = "rows.parquet", "unread.parquet"
_BATCH_ROWS = 1 << 16


@dataclass(frozen=True)
class Landed:
    r"""The rows of a source file, unchanged. A context manager that removes its files.

    Attributes
    ----------
    source
        The source file.
    rows
        The columns of the file, with names in lower case (CSV: all text, null where empty), and the platform's own
        columns, which `row_writer.py` describes: `source_line`, `source_error`, `source_text`, and, for some formats,
        `source_lines` and `source_unreadable`.
    digest
        SHA-256 of the unpacked file.
    folder
        Folder that contains the rows until they are discarded.
    remarks
        Remarks on the file, from `file_remarks.py`.
    encoding
        Text encoding of a CSV file, else the format.
    origin
        Names of the columns that the platform added to `rows` because several files landed together, such as the file
        and the line of a row. `source_line` then numbers the rows of all files.
    """

    source: Source
    rows: Expression
    digest: str
    folder: Path | None = None
    remarks: Sequence[str] = ()
    encoding: str = ""
    origin: Sequence[str] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def discard(self) -> None:
        """Remove the files. Afterwards the rows can no longer be read."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def numbered(self, column: str) -> Landed:
        """Copy `source_line` to a column of the given name. A column that already has this name is replaced."""
        rows = self.rows.drop(column) if column in self.rows.columns else self.rows
        return replace(self, rows=rows.mutate(rows[LINE].name(column)))

    @property
    def files(self) -> tuple[Path, Path]:
        """The parquet files of the readable rows and of the unreadable lines. Either file may be missing."""
        if self.folder is None:
            raise SourceError(f"{self.source} was not read from a landed file")
        return self.folder / READABLE, self.folder / UNREAD


def land(source: Source, engine: Engine, unpacking: Unpacking | None = None, reader: Reader | None = None) -> Landed:
    """Fetch a file, local or remote, and store its rows as parquet.

    The rows are read from a private copy, so replacing the file during the run cannot mix two versions.

    Parameters
    ----------
    source
        The source file to fetch.
    engine
        Query engine that opens the rows.
    unpacking
        Extracts the file from an archive. If None, a packed file is recognised by its first bytes and unpacked.
    reader
        Reads the file: `table_rows` for CSV in UTF-8 and parquet (the default), `any_encoding` for CSV in any
        encoding, or the result of `sqlite_files.sqlite_rows`.

    Raises
    ------
    SourceError
        The file is missing, unreachable, empty, damaged, or of another format.
    """
    folder = engine.folder("landing")
    try:
        file = fetch(source, folder / "file", unpacking)
        if unpacking:
            (folder / "unpacked").mkdir()
            file = unpacking.unpack(file, folder / "unpacked", str(source))
        _demand_content(file, source)
        encoding = (reader or table_rows)(file, source, folder / READABLE)
        return Landed(source, _rows(folder, engine), _digest(file), folder, remarks_on(file), encoding)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _rows(folder: Path, engine: Engine) -> Expression:
    rows = engine.parquet(*(folder / name for name in (READABLE, UNREAD) if (folder / name).exists()))
    if LINES in rows.columns and int(rows[LINES].max().to_pyarrow().as_py()) == 1:
        return rows.drop(LINES)
    return rows


def _demand_content(file: Path, source: Source) -> None:
    if not file.stat().st_size:
        raise SourceError(f"{source} is empty; it needs a header and rows")


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def table_rows(file: Path, source: Source, target: Path, *, declared: str = "", detects: bool = False) -> str:
    """Copy the rows of a CSV or parquet file; the first bytes of the file show its format.

    A CSV file must be in UTF-8, or in UTF-16 with a byte order mark. In UTF-8, invalid lines are unreadable.

    Parameters
    ----------
    file
        The local file.
    source
        Source of the file, for messages.
    target
        The parquet file to write.
    declared
        Encoding of a CSV file; empty if it is unknown.
    detects
        Whether to detect the encoding of a CSV file if it is unknown.
    """
    if is_parquet(file):
        rows = _copy_parquet(file, source, target)
        encoding = PARQUET
    else:
        encoding = declared or (detected_encoding(file, str(source)) if detects else marked_encoding(file))
        rows = _copy_csv(file, source, target, encoding)
    demand_rows(rows, source)
    return encoding


def any_encoding(declared: str = "") -> Reader:
    """Return a reader for CSV files in any encoding: the declared one, or if that is empty, the detected one."""
    return partial(table_rows, declared=declared, detects=True)


def is_parquet(file: Path) -> bool:
    """Whether a file begins like a parquet file."""
    with file.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def demand_rows(rows: int, source: Source) -> None:
    """Refuse a source without rows."""
    if not rows:
        raise SourceError(f"{source} has a header but no rows; it needs at least one row")


def _copy_csv(file: Path, source: Source, target: Path, encoding: str) -> int:
    try:
        return _write_csv(open_csv(file, str(source), encoding), source, target)
    except UnicodeError as error:
        raise SourceError(f"{source} cannot be read as {encoding}: {first_line(error)}; save it as UTF-8") from error


def _write_csv(opened: CsvFile, source: Source, target: Path) -> int:
    import pyarrow as pa

    if len(opened.names) < 2:  # noqa: PLR2004 - a single column means another separator
        raise not_csv(str(source))
    names = named(opened.names, source)
    columns = [(name, pa.string()) for name in names]
    unread = target.with_name(UNREAD)
    with RowWriter(target, columns, LINES) as writer, RowWriter(unread, columns, LINES) as apart:
        for piece in opened.pieces():
            values = dict(zip(names, piece.texts.columns, strict=True))
            writer.write({LINE: piece.lines, LINES: piece.spans, **values}, len(piece.lines))
            apart.write(_as_columns(piece.unread), len(piece.unread))
    if not apart.rows:
        unread.unlink()
    return writer.rows + apart.rows


def _as_columns(unread: Sequence[Unread]) -> dict[str, list[Any]]:
    return {
        LINE: [one.line for one in unread],
        ERROR: [one.reason for one in unread],
        TEXT: [one.text for one in unread],
        LINES: [1] * len(unread),
    }


def _copy_parquet(file: Path, source: Source, target: Path) -> int:
    import numpy as np
    import pyarrow as pa

    opened = open_parquet(file, str(source), source.unpacked)
    names = named(opened.schema.names, source)
    holds_bytes = [name for name, kind in zip(names, opened.schema.types, strict=True) if pa.types.is_binary(kind)]
    # Store nanosecond timestamps as text, because the engine cannot stage them.
    columns = [
        (name, pa.string() if name in holds_bytes or kind == pa.timestamp("ns") else kind)
        for name, kind in zip(names, opened.schema.types, strict=True)
    ]
    with RowWriter(target, columns, *([UNREADABLE] if holds_bytes else [])) as writer:
        for batch in opened.batches(_BATCH_ROWS, use_threads=True):
            values: dict[str, Any] = dict(zip(names, batch.columns, strict=True))
            unreadable: dict[int, list[str]] = {}
            for name in holds_bytes:
                values[name] = _as_texts(values[name], name, unreadable)
            if unreadable:
                values[UNREADABLE] = [unreadable.get(place) for place in range(batch.num_rows)]
            values[LINE] = np.arange(writer.rows + 1, writer.rows + batch.num_rows + 1)
            writer.write(values, batch.num_rows)
        return writer.rows


def _as_texts(column: pa.Array, name: str, unreadable: dict[int, list[str]]) -> pa.Array:
    """Return a column of bytes as texts. Escape non-UTF-8 values; add `name` to `unreadable` for their rows."""
    import pyarrow as pa

    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        texts = [decoded(value) for value in column.to_pylist()]
    for place, (_, is_text) in enumerate(texts):
        if not is_text:
            unreadable.setdefault(place, []).append(name)
    return pa.array([text for text, _ in texts], pa.string())


def decoded(value: bytes | None) -> tuple[str | None, bool]:
    r"""Return bytes as text, and whether they are UTF-8. Invalid bytes are written as e.g. `\xff`."""
    if value is None:
        return None, True
    try:
        return value.decode(), True
    except UnicodeDecodeError:
        return value.decode(errors="backslashreplace"), False
