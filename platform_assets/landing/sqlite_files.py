"""SQLite files: check that a file is undamaged, and land the rows of a table.

A value becomes the text that SQLite shows for it. Bytes that are not text make their column unreadable in that row.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import SourceError, first_line
from platform_assets.base.sql_quoting import sql_name
from platform_assets.landing.landed_rows import decoded, demand_rows
from platform_assets.landing.row_writer import LINE, UNREADABLE, RowWriter, named

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from platform_assets.landing.landed_rows import Reader
    from platform_assets.landing.source_files import Source

_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100
_BATCH = 50_000
_BATCH_BYTES = 16 << 20
_MOST_TIMES_THE_FILE = 4
"""Maximum size of a table's rows as text, as a multiple of the size of the file. Larger tables are refused.

Rows can exceed this size only if a column has a default value, which the file stores once for all rows.
"""


class SqliteError(SourceError):
    """A file cannot be used as a SQLite database."""


class NotADatabaseError(SqliteError):
    """The file is not a SQLite database."""


class DamagedDatabaseError(SqliteError):
    """The database is truncated or damaged."""


class MissingTableError(SqliteError):
    """The database lacks the table."""


class MissingColumnError(SqliteError):
    """The table lacks a column."""


def sqlite_rows(table: str, columns: Sequence[str]) -> Reader:
    """Return a reader of a table, for `landed_rows.land`. All values become texts.

    Parameters
    ----------
    table
        Name of the table.
    columns
        Columns that the table must have.
    """

    def read(file: Path, source: Source, target: Path) -> str:
        import pyarrow as pa

        with opened_sqlite(file, table, columns, str(source)) as database:
            names = named(_columns(database, table), source)
            with RowWriter(target, [(name, pa.string()) for name in names], UNREADABLE) as writer:
                for batch in _batches(database, table, most=_MOST_TIMES_THE_FILE * file.stat().st_size):
                    writer.write(_as_columns(batch, names, writer.rows), len(batch))
                demand_rows(writer.rows, source)
        return "sqlite"

    return read


@contextmanager
def opened_sqlite(file: Path, table: str, columns: Sequence[str], called: str) -> Iterator[sqlite3.Connection]:
    """Check a database, and open it read-only.

    Parameters
    ----------
    file
        The file. It is opened without a lock or journal.
    table
        A table that the database must have. A view is not accepted.
    columns
        Columns that the table must have, in upper or lower case.
    called
        Name of the file in messages.

    Raises
    ------
    SqliteError
        The file is not a database, is damaged, or lacks the table or a column.
    """
    with file.open("rb") as stream:
        head = stream.read(_HEADER_BYTES)
    if not head.startswith(_MAGIC):
        raise NotADatabaseError(f"{called} is not a SQLite database; point to the database file")
    _demand_all_pages(head, file.stat().st_size, called)
    with closing(_connected(file)) as database, _plain_errors(called):
        _demand_whole(database, called)
        _demand_table(database, table, columns, called)
        yield database


def counted(database: sqlite3.Connection, table: str, column: str) -> dict[str, int]:
    """Count the rows per value of a column, the most frequent value first."""
    name, found = sql_name(column), sql_name(table)
    query = f"SELECT {name}, count(*) FROM {found} GROUP BY {name} ORDER BY count(*) DESC, {name}"  # noqa: S608 - the names are quoted
    return {_name(value): rows for value, rows in database.execute(query)}


def _connected(file: Path) -> sqlite3.Connection:
    # With immutable=1, SQLite takes no lock and ignores a journal next to the file.
    database = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    database.text_factory = bytes
    # A stored value is never longer than the file. The limit stops a generated column that computes longer values.
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(file.stat().st_size, 1_000))
    return database


@contextmanager
def _plain_errors(called: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise DamagedDatabaseError(
            f"{called} contains a damaged database: {first_line(error)}; fetch it again"
        ) from None


def _demand_all_pages(head: bytes, size: int, called: str) -> None:
    """Refuse a truncated file. SQLite would fill its last page with zeros, which the integrity check accepts."""
    page, pages = int.from_bytes(head[16:18], "big"), int.from_bytes(head[28:32], "big")
    is_counted = head[24:28] == head[92:96]  # old versions of SQLite do not update the page count
    needed = pages * (65_536 if page == 1 else page)
    if len(head) < _HEADER_BYTES or (is_counted and size < needed):
        raise DamagedDatabaseError(f"{called} contains a damaged database: it is truncated; fetch it again")


def _demand_whole(database: sqlite3.Connection, called: str) -> None:
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA cell_size_check = ON")
    # The check also finds pages that are used twice. A few such pages could yield any number of rows.
    [(found,)] = database.execute("PRAGMA integrity_check(1)").fetchall()
    if _name(found) != "ok":
        raise DamagedDatabaseError(
            f"{called} contains a damaged database: {' '.join(_name(found).split())}; fetch it again"
        )


def _demand_table(database: sqlite3.Connection, table: str, columns: Sequence[str], called: str) -> None:
    # Virtual tables are left out: they have no root page, because their rows are computed.
    found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0")
    tables = [_name(name) for (name,) in found]
    if table.lower() not in map(str.lower, tables):
        raise MissingTableError(
            f"{called} contains a database without the table {table!r}; its tables are {sorted(tables)}"
        )
    names = _columns(database, table)
    there = {name.strip().lower() for name in names}
    missing = [name for name in columns if name.lower() not in there]
    if missing:
        raise MissingColumnError(f"{called}: the table {table!r} lacks the columns {missing}; it has {names}")


def _columns(database: sqlite3.Connection, table: str) -> list[str]:
    # `pragma_table_info` would leave out generated columns.
    described = database.execute(f"SELECT * FROM {sql_name(table)} LIMIT 0").description  # noqa: S608 - the name is quoted
    return [_name(column[0]) for column in described]


def _name(value: Any) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _batches(database: sqlite3.Connection, table: str, most: int) -> Iterator[list[tuple[Any, ...]]]:
    # NOT INDEXED reads the rows in table order, not index order.
    rows = database.execute(f"SELECT * FROM {sql_name(table)} NOT INDEXED")  # noqa: S608 - the name is quoted
    batch: list[tuple[Any, ...]] = []
    total = size = 0
    for values in rows:
        length = sum(len(value) for value in values if isinstance(value, bytes))
        total, size = total + length, size + length
        if total > most:
            raise sqlite3.DataError(
                f"its rows have more than {most:,} bytes, which is {_MOST_TIMES_THE_FILE} times the size of the file"
            )
        batch.append(values)
        if len(batch) == _BATCH or size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _as_columns(batch: Sequence[tuple[Any, ...]], names: Sequence[str], before: int) -> dict[str, Any]:
    found: dict[str, Any] = {LINE: range(before + 1, before + len(batch) + 1)}
    unreadable: list[list[str] | None] = [None] * len(batch)
    for name, values in zip(names, zip(*batch, strict=True), strict=True):
        texts = [decoded(value) if isinstance(value, bytes | None) else (str(value), True) for value in values]
        found[name] = [text for text, _ in texts]
        for place, (_, is_text) in enumerate(texts):
            if not is_text:
                unreadable[place] = [*(unreadable[place] or ()), name]
    return {**found, UNREADABLE: unreadable}
