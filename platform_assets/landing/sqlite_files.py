"""SQLite files from elsewhere: looked at before they are believed, then landed as rows like any other source.

A value keeps the text that SQLite shows of it; what it should be is for the schema to say. A row whose text cannot be
read is a row with its error, as a line of a CSV file is.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import SourceError, first_line
from platform_assets.base.sql_quoting import sql_name
from platform_assets.landing.landed_rows import ERROR, LINE, TEXT, named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from platform_assets.base.frames import Expression
    from platform_assets.engine.query_engine import Engine
    from platform_assets.landing.source_files import Source

_MAGIC = b"SQLite format 3\x00"
_BATCH = 50_000
_BATCH_BYTES = 16 << 20
_MOST_TIMES_THE_FILE = 4
"""How much more text than bytes a database may come to: only values that stand for columns' defaults are not stored."""


class SqliteError(SourceError):
    """A file is no SQLite database, or not the one that is needed."""


class NotADatabaseError(SqliteError):
    """The file is not a SQLite database."""


class DamagedDatabaseError(SqliteError):
    """The database is cut off, or was altered."""


class MissingTableError(SqliteError):
    """The database lacks the table."""


class MissingColumnError(SqliteError):
    """The table lacks a column."""


class _NotUtf8(bytes):
    """A text whose bytes are not UTF-8."""

    __slots__ = ()


def sqlite_rows(table: str, columns: Sequence[str]) -> Callable[[Path, Source, Engine], Expression]:
    """What reads a table of a SQLite file for `files.land`: all text, `source_line` counts the rows from 1.

    Parameters
    ----------
    table
        Its name.
    columns
        Columns that it must have.
    """

    def read(file: Path, source: Source, engine: Engine) -> Expression:
        import pyarrow as pa
        import pyarrow.parquet as pq

        target = file.with_name("rows.parquet")
        with opened_sqlite(file, table, columns, str(source)) as database:
            names = named(_columns(database, table), source)
            schema = pa.schema([(LINE, pa.int64()), *((name, pa.string()) for name in (ERROR, TEXT, *names))])
            with pq.ParquetWriter(target, schema) as writer:
                for batch in _batches(database, table, names, most=_MOST_TIMES_THE_FILE * file.stat().st_size):
                    writer.write_table(pa.Table.from_pylist(batch, schema))
        return engine.parquet(target)

    return read


@contextmanager
def opened_sqlite(file: Path, table: str, columns: Sequence[str], called: str) -> Iterator[sqlite3.Connection]:
    """A database that was found whole, read-only.

    Parameters
    ----------
    file
        The file; nothing is written beside it.
    table
        A table that it must have; a view is none.
    columns
        Columns that the table must have.
    called
        What the file is called in messages.

    Raises
    ------
    SqliteError
        The file is no database, is damaged, or lacks the table or a column.
    """
    with file.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise NotADatabaseError(f"{called} holds no SQLite database: it does not begin as one")
    with closing(_connected(file)) as database, _plain_errors(called):
        _demand_whole(database, called)
        _demand_table(database, table, columns, called)
        yield database


def counted(database: sqlite3.Connection, table: str, column: str) -> dict[str, int]:
    """How many rows have each value of a column, most frequent first."""
    name, found = sql_name(column), sql_name(table)
    query = f"SELECT {name}, count(*) FROM {found} GROUP BY {name} ORDER BY count(*) DESC, {name}"  # noqa: S608 - the names are quoted
    return {str(value): rows for value, rows in database.execute(query)}


def _connected(file: Path) -> sqlite3.Connection:
    # Immutable: no lock, no journal, and what a journal beside it says is not believed.
    database = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    database.text_factory = _text
    # No value is longer than the file; functions of the schema's own would make one.
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(file.stat().st_size, 1_000))
    return database


def _text(raw: bytes) -> str | _NotUtf8:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return _NotUtf8(raw)


@contextmanager
def _plain_errors(called: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise DamagedDatabaseError(f"{called} holds a damaged database: {first_line(error)}; fetch it again") from None


def _demand_whole(database: sqlite3.Connection, called: str) -> None:
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA cell_size_check = ON")
    # Finds pages that are used twice as well: a few of them could pose as any number of rows.
    [(found,)] = database.execute("PRAGMA integrity_check(1)").fetchall()
    if found != "ok":
        raise DamagedDatabaseError(f"{called} holds a damaged database: {' '.join(str(found).split())}; fetch it again")


def _demand_table(database: sqlite3.Connection, table: str, columns: Sequence[str], called: str) -> None:
    # Without a root page it is a virtual table, and its rows are whatever a program makes of them.
    tables = [
        name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0")
    ]
    if table not in tables:
        raise MissingTableError(
            f"{called} holds a database without the table {table!r}; it has {sorted(map(str, tables))}"
        )
    found = _columns(database, table)
    missing = [name for name in columns if name not in found]
    if missing:
        raise MissingColumnError(f"{called}: the table {table!r} lacks the columns {missing}; it has {found}")


def _columns(database: sqlite3.Connection, table: str) -> list[str]:
    return [str(name) for (name,) in database.execute("SELECT name FROM pragma_table_info(?)", (table,))]


def _batches(
    database: sqlite3.Connection, table: str, names: Sequence[str], most: int
) -> Iterator[list[dict[str, Any]]]:
    columns = ", ".join(map(sql_name, _columns(database, table)))
    # The order of the table itself, whatever an index would suggest.
    rows = database.execute(f"SELECT {columns} FROM {sql_name(table)} NOT INDEXED")  # noqa: S608 - the names are quoted
    batch: list[dict[str, Any]] = []
    total = size = 0
    for line, values in enumerate(rows, start=1):
        length = sum(len(value) for value in values if isinstance(value, str | bytes))
        total, size = total + length, size + length
        if total > most:
            raise sqlite3.DataError(f"its rows come to more than {most:,} bytes, {_MOST_TIMES_THE_FILE} times the file")
        batch.append(_row(line, names, values))
        if len(batch) == _BATCH or size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _row(line: int, names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    found = dict(zip(names, values, strict=True))
    if error := next((_unreadable(name, value) for name, value in found.items() if _unreadable(name, value)), None):
        return {LINE: line, ERROR: error, TEXT: json.dumps({name: _shown(value) for name, value in found.items()})}
    return {LINE: line, **{name: None if value is None else str(value) for name, value in found.items()}}


def _unreadable(name: str, value: Any) -> str | None:
    if isinstance(value, _NotUtf8):
        return f"{name} is not in UTF-8"
    if isinstance(value, bytes):
        return f"{name} holds bytes and no text"
    return f"{name} holds a zero byte" if isinstance(value, str) and "\0" in value else None


def _shown(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return None if value is None else str(value)
