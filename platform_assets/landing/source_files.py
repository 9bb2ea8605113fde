"""Source files: fetched, fingerprinted, and opened as rows that know where they came from.

A file that cannot be read as a whole is an error that says why; a line that cannot be read is a
row like the others, with its error. How archives are unpacked, `archives.py` knows, and what SQLite
files hold, `sqlite.py`; what the columns mean is for `quarantine.py` and the schemas.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from platform_assets.base.errors import SourceError
from platform_assets.base.logs import redact, shown
from platform_assets.base.sql_quoting import sql_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from platform_assets.base.frames import Expression
    from platform_assets.engine.query_engine import Engine
    from platform_assets.landing.archives import Unpacking

LINE = "source_line"
ERROR = "source_error"
TEXT = "source_text"
LONGEST_RECORD = 1 << 17
"""Bytes of the longest record of a CSV file that is read; what the csv module takes in one field."""
MOST_LINES = 100
"""Lines that a record of a CSV file may span, by line breaks between quotes."""
_PARQUET_MAGIC = b"PAR1"
_CHUNK = 1 << 20
# What fsspec's drivers call it when a file was written, and what tells two of its states apart.
_MARKS = (
    *("mtime", "created", "ino", "etag", "last-modified", "lastmodified", "last_modified", "updated"),
    *("generation", "versionid", "version_id", "content-md5"),
)
_OPEN_QUOTE = "unexpected end of data"  # what Python's csv module says of one


@dataclass(frozen=True)
class Source:
    """Where one kind of raw data comes from.

    Attributes
    ----------
    setting
        The environment variable that names it.
    uri
        A path or any fsspec URI.
    demo
        Whether it is sample data, because the variable is not set.
    """

    setting: str
    uri: str
    demo: bool = False

    def __str__(self) -> str:
        """The source for people, without passwords."""
        return f"{shown(self.uri)} ({'demo data' if self.demo else self.setting})"


@dataclass(frozen=True)
class Landed:
    r"""The rows of a source file, as they came. A context manager that removes its files.

    Attributes
    ----------
    source
        The file.
    rows
        Its columns, their names in lower case (CSV: all text, null where empty), and `source_line`
        (int64: in a CSV file the line on which the row begins, its header being line 1; elsewhere
        the row, from 1), `source_error` (why it could not be read) and `source_text` (such
        a row as it stands; bytes that are not UTF-8 as `\xff`).
    digest
        SHA-256 of the file's bytes, unpacked.
    folder
        Where the rows are until they are discarded.
    """

    source: Source
    rows: Expression
    digest: str
    folder: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def discard(self) -> None:
        """Remove the files; the rows cannot be read any more."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


def table_rows(file: Path, source: Source, engine: Engine) -> Expression:
    """The rows of a CSV or parquet file. In a CSV file, blank lines are skipped; each other is part of one row."""
    with file.open("rb") as stream:
        head = stream.read(len(_PARQUET_MAGIC))
    return _parquet(file, source, engine) if head == _PARQUET_MAGIC else _csv(file, source, engine)


def land(
    source: Source,
    engine: Engine,
    unpacking: Unpacking | None = None,
    rows: Callable[[Path, Source, Engine], Expression] = table_rows,
) -> Landed:
    """Open a file, local or remote. A private copy is read: whoever replaces the file meanwhile mixes no two of them.

    Parameters
    ----------
    source
        The file.
    engine
        What reads the rows.
    unpacking
        What gets the file out of an archive; without it, a file is unpacked if its name says so, e.g. by `.gz`.
    rows
        What reads the file: CSV and parquet, or `sqlite.sqlite_rows`.

    Raises
    ------
    SourceError
        It is missing, unreachable, empty, damaged, or of another kind.
    """
    folder = engine.folder("landing")
    try:
        file = fetch(source, folder / "file", unpacking)
        if unpacking:
            (folder / "unpacked").mkdir()
            file = unpacking.unpack(file, folder / "unpacked", str(source))
        return Landed(source, _opened(file, source, engine, rows), _digest(file), folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def trouble_with(source: Source) -> str | None:
    """Why a source could not be opened now; None where it could. Reads nothing of it."""
    import fsspec

    try:
        files, path = fsspec.core.url_to_fs(source.uri)
        # Not `isfile`: that takes a store which cannot be reached for one without the file.
        return None if files.info(path)["type"] == "file" else f"{source} is no file"
    except Exception as error:  # noqa: BLE001 - each of fsspec's drivers raises what its client library raises
        return f"{source} cannot be reached: {_told(error, source)}"


def look_at(source: Source) -> str:
    """What its store says of a file, without reading it: other bytes give another answer. Empty if it says too little.

    Raises
    ------
    SourceError
        It is missing or unreachable.
    """
    import fsspec

    with _plain_errors(source, "looked at"):
        files, path = fsspec.core.url_to_fs(source.uri)
        # Some keep what they were told before.
        files.invalidate_cache()
        told = {name.lower(): value for name, value in files.info(path).items()}
    marks = {name: str(told[name]) for name in _MARKS if told.get(name) is not None}
    return json.dumps({"size": told.get("size"), **marks}, sort_keys=True) if marks else ""


def digest_of(source: Source) -> str:
    """SHA-256 of a file's bytes as they lie there, packed or not.

    Raises
    ------
    SourceError
        It is missing or unreachable.
    """
    import fsspec

    found = hashlib.sha256()
    with _plain_errors(source, "read"), fsspec.open(source.uri, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


def fetch(source: Source, target: Path, unpacking: Unpacking | None = None) -> Path:
    """Copy a source's file, unpacked where its name says that it is packed; the copy.

    Parameters
    ----------
    source
        The file.
    target
        Where the copy goes.
    unpacking
        What unpacks the copy afterwards: it is made as the file is, and within that limit.

    Raises
    ------
    SourceError
        It is missing or unreachable, or larger than the limit.
    """
    import fsspec

    if "://" not in source.uri and not Path(source.uri).is_file():
        state = "is a folder" if Path(source.uri).is_dir() else "does not exist"
        raise SourceError(f"{source} {state}; point {source.setting} at the file that is meant")
    packed = None if unpacking else "infer"
    with (
        _plain_errors(source, "fetched"),
        fsspec.open(source.uri, "rb", compression=packed) as remote,
        target.open("wb") as local,
    ):
        _copy(remote, local, unpacking, str(source))
    return target


@contextmanager
def _plain_errors(source: Source, done: str) -> Iterator[None]:
    try:
        yield
    except SourceError:
        raise
    except ImportError as error:
        raise SourceError(f"{source} needs a driver that is not installed: {error}") from None
    except Exception as error:  # noqa: BLE001 - each of fsspec's drivers raises what its client library raises
        # What the driver raised may hold the password; whoever logs this error does not log that one.
        raise SourceError(f"{source} cannot be {done}: {_told(error, source)}") from None


def _copy(remote: BinaryIO, local: BinaryIO, unpacking: Unpacking | None, called: str) -> None:
    while chunk := remote.read(_CHUNK):
        local.write(chunk)
        if unpacking and local.tell() > unpacking.limit:
            raise unpacking.too_large(called)


def _told(error: BaseException, source: Source) -> str:
    """What began it: over HTTP, fsspec calls a refused connection a file not found."""
    while error.__cause__:
        error = error.__cause__
    reason = redact(" ".join(str(error).split()) or "no reason given", (source.uri,))
    return f"{type(error).__name__}: {reason}"


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _opened(
    file: Path, source: Source, engine: Engine, rows: Callable[[Path, Source, Engine], Expression]
) -> Expression:
    import duckdb

    if not file.stat().st_size:
        raise SourceError(f"{source} is empty; it needs a header and rows")
    try:
        found = rows(file, source, engine)
        has_rows = found.limit(1).count().to_pyarrow().as_py()
    except duckdb.Error as error:
        raise SourceError(f"{source} cannot be read: {str(error).splitlines()[0]}") from error
    if not has_rows:
        raise SourceError(f"{source} has columns and no rows; it needs at least one")
    return found


def named(columns: Sequence[str], source: Source) -> list[str]:
    """The columns' names as schemas write them; pandas leaves that of an index column empty."""
    names = [name.strip().lower() or f"unnamed_{place}" for place, name in enumerate(columns, start=1)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise SourceError(f"{source} has the columns {doubled} more than once")
    reserved = sorted({LINE, ERROR, TEXT}.intersection(names))
    if reserved:
        raise SourceError(f"{source} has the columns {reserved}, whose names the platform needs; rename them")
    return names


def _parquet(file: Path, source: Source, engine: Engine) -> Expression:
    import ibis

    rows = engine.ibis.read_parquet(glob.escape(str(file)), file_row_number=True, hive_partitioning=False)
    number = rows.file_row_number + 1
    found = rows.drop("file_row_number")
    names = dict(zip(named(found.columns, source), found.columns, strict=True))
    return rows.select(
        **{name: rows[old] for name, old in names.items()},
        **{LINE: number, ERROR: ibis.null("string"), TEXT: ibis.null("string")},
    )


def _csv(file: Path, source: Source, engine: Engine) -> Expression:
    """Copy a CSV file to parquet, every field as text, and every line that is no row as its text.

    DuckDB gets only what it cannot misread: given damaged lines it loses some, and miscounts others.
    """
    clean, target = file.with_name("clean.csv"), file.with_name("rows.parquet")
    with file.open("rb") as stream, clean.open("wb") as copy:
        columns = _header(stream, source)
        records = _Records(stream, len(columns))
        copy.writelines(records)
    types = {LINE: "BIGINT", ERROR: "VARCHAR", TEXT: "VARCHAR"} | dict.fromkeys(columns, "VARCHAR")
    declared = ", ".join(f"{sql_text(name)}: {sql_text(kind)}" for name, kind in types.items())
    engine.sql(
        "COPY (SELECT * FROM read_csv(?, auto_detect=false, hive_partitioning=false, header=false, strict_mode=true, "  # noqa: S608 - a constant; values are parameters
        # Whoever begins to read in the middle cannot know whether that is between quotes.
        f"delim=',', quote='\"', escape='\"', new_line='\\n', parallel={not records.spanning}, "
        f"columns={{{declared}}})) TO {sql_text(str(target))} (FORMAT parquet)",
        glob.escape(str(clean)),
    )
    clean.unlink()
    return engine.parquet(target)


def _header(stream: BinaryIO, source: Source) -> list[str]:
    line = stream.readline(LONGEST_RECORD)
    try:
        columns = next(csv.reader([line.decode("utf-8-sig").rstrip("\r\n")], strict=True), [])
    except UnicodeDecodeError as error:
        raise SourceError(f"{source} is neither parquet nor a CSV file in UTF-8") from error
    except csv.Error:
        columns = []
    if len(columns) < 2 or b"\0" in line or not any(name.strip() for name in columns):  # noqa: PLR2004 - one is no table
        raise SourceError(f"{source} is not a CSV file with a header of comma-separated names")
    return named(columns, source)


class _Records:
    """The records of a CSV file, each as a line of plain CSV: number, error, text, fields.

    Parameters
    ----------
    stream
        The file, behind its header.
    width
        Number of fields.
    """

    def __init__(self, stream: BinaryIO, width: int) -> None:
        self._stream = stream
        self._width = width
        self.spanning = False
        """Whether a record spans several lines; known at the end."""

    def __iter__(self) -> Iterator[bytes]:
        number = 2
        for line in iter(self._stream.readline, b""):
            lines, record = 1, line.rstrip(b"\r\n")
            if _is_plain(record, self._width):
                yield b"%d,,,%b\n" % (number, record)
            elif record:
                record, fields, error = self._whole(record, line)
                lines += record.count(b"\n")
                yield b"%d,%b\n" % (number, _written(record, fields, error, self._width))
            self.spanning |= lines > 1
            number += lines

    def _whole(self, record: bytes, line: bytes) -> tuple[bytes, list[str], str]:
        """The record that a line begins, with the lines that quotes hold together; its fields; what is wrong."""
        fields, error = _fields(record, self._width)
        if error != _OPEN_QUOTE:
            return record, fields, error
        behind, whole = self._stream.tell(), line
        for more in islice(iter(self._stream.readline, b""), MOST_LINES - 1):
            whole += more
            if more.count(b'"') % 2 == 0:  # it closes what it opens
                continue
            fields, error = _fields(whole.rstrip(b"\r\n"), self._width)
            if not error:
                return whole.rstrip(b"\r\n"), fields, error
            if error != _OPEN_QUOTE:
                break
        # Nobody can tell where such a field ends. The lines behind it are read as if it ended with its own.
        self._stream.seek(behind)
        return record, [], "a quote is not closed"


def _is_plain(record: bytes, width: int) -> bool:
    """Whether a line can be read without a closer look, as nearly all can."""
    return (
        record.count(b",") == width - 1
        and b'"' not in record
        and record.isascii()
        and b"\r" not in record
        and b"\0" not in record
        and len(record) <= LONGEST_RECORD
    )


def _fields(record: bytes, width: int) -> tuple[list[str], str]:
    """The fields of a record, and what is wrong with it."""
    if len(record) > LONGEST_RECORD:
        return [], f"it has {len(record)} bytes; {LONGEST_RECORD} are read"
    if b"\0" in record:
        return [], "it holds a zero byte"
    try:
        fields = next(csv.reader([record.decode()], strict=True))
    except UnicodeDecodeError as error:
        return [], f"it is not in UTF-8, from byte {error.start + 1} on"
    except csv.Error as error:
        return [], str(error).split(" - ")[0]
    return fields, "" if len(fields) == width else f"it has {len(fields)} fields; the header has {width}"


def _written(record: bytes, fields: list[str], error: str, width: int) -> bytes:
    if not error:
        return b",," + _csv_line(fields)
    # Escaped, a byte that is not UTF-8 takes four; DuckDB's longest line is 2 MB.
    text = record[:LONGEST_RECORD].decode(errors="backslashreplace")
    return _csv_line([error, text]) + b"," * width


def _csv_line(fields: list[str]) -> bytes:
    return ",".join('"' + field.replace('"', '""') + '"' if field else "" for field in fields).encode()
