"""Load rows into an existing table of an SQL database.

The rows are first written to a temporary staging table, in chunks. One transaction then matches them by key with the
rows of the target, updates those that differ and inserts the missing ones. A failure therefore leaves the target
unchanged, a second load of the same rows changes nothing, and rows with other keys are kept. The loader never creates
or alters the target.

`sql_target.py` names the database, `sql_table_check.py` compares the table with the rows, `sql_columns.py` converts the
values, and `sql_statements.py` writes the SQL.
"""

from __future__ import annotations

import io
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from platform_assets.lake.sql_columns import convert
from platform_assets.lake.sql_connection import connected
from platform_assets.lake.sql_problems import explain
from platform_assets.lake.sql_statements import LOCK_SECONDS, Statements
from platform_assets.lake.sql_table_check import Match, match_table
from platform_assets.lake.sql_target import SqlTarget, SqlTargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa
    from sqlalchemy import Connection

CHUNK_ROWS = 50_000
"""Largest number of rows that are converted and sent at a time."""
ATTEMPTS = 5
"""Maximum attempts of the final transaction, if other transactions lock the same rows."""
LONGEST_ARRAY_TEXT = 4_000
"""Longest text, in UTF-16 units, of an SQL Server parameter that is not of the unlimited type."""
PAUSE_SECONDS = 3.0
"""Longest pause between two attempts."""


@dataclass(frozen=True)
class Loaded:
    """Result of a load.

    Attributes
    ----------
    rows
        Number of rows that were passed to `load`.
    inserted
        Number of rows that were missing in the target.
    updated
        Number of rows that differed in the target.
    seconds
        Time from the first row to the end of the transaction.
    """

    rows: int
    inserted: int
    updated: int
    seconds: float

    @property
    def unchanged(self) -> int:
        """Number of rows that the target already contained with the same values."""
        return self.rows - self.inserted - self.updated

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.rows / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class SqlLoader:
    """Loads rows into one table of a target.

    Parameters
    ----------
    target
        The database to load into.
    table
        Name of the table.
    key
        Columns that identify a row. The table must have a primary key or a unique constraint on them.
    schema
        Schema of the table; None for the default schema of the user.
    """

    target: SqlTarget
    table: str
    key: Sequence[str]
    schema: str | None = None

    def load(
        self, rows: pa.RecordBatchReader, report: Callable[[str], None] = lambda _: None, *, demo: bool = False
    ) -> Loaded:
        """Load rows. Rows of the target with other keys are kept.

        Parameters
        ----------
        rows
            The rows, in batches. Times are UTC.
        report
            Receives a line about the progress after each chunk.
        demo
            Whether the rows are sample data.

        Raises
        ------
        SqlTargetError
            The target cannot be reached, its table does not fit the rows, it refuses the rows, two rows have the same
            key, or the rows are sample data that the target does not accept. The table is unchanged.
        """
        start = monotonic()
        if demo and not (self.target.is_own or self.target.takes_demo):
            raise SqlTargetError(
                f"{self.table} contains sample data, which are not loaded into {self.target.place}. Load real data "
                "(PLATFORM_SOURCES=live), or set PLATFORM_SQL_TARGET_DEMO=on to load sample data there"
            )
        with connected(self.target) as connection:
            match = match_table(connection, self.target, (self.schema, self.table), rows.schema, self.key)
            connection.rollback()
            load = _Load(connection, self._statements(connection, match), match)
            count = load.stage(rows, self.key, report)
            load.check(count)
            updated, inserted = load.merge(self.target, report)
            load.end()
        done = Loaded(count, inserted, updated, monotonic() - start)
        report(
            f"loaded {done.rows:,} rows in {done.seconds:.1f} s ({done.rate:,.0f} rows/s): {done.inserted:,} inserted, "
            f"{done.updated:,} updated, {done.unchanged:,} unchanged"
        )
        return done

    def _statements(self, connection: Connection, match: Match) -> Statements:
        columns = [column.name for column in match.columns]
        staging = f"staging_{uuid.uuid4().hex[:12]}"
        return Statements(connection.dialect, self.table, self.schema, columns, match.key, match.texts, staging)


@dataclass
class _Load:
    """One load on one connection."""

    connection: Connection
    statements: Statements
    match: Match

    def stage(self, rows: pa.RecordBatchReader, key: Sequence[str], report: Callable[[str], None]) -> int:
        """Fill the staging table; return the number of rows."""
        start, count = monotonic(), 0
        self.connection.exec_driver_sql(self.statements.create_staging())
        self.connection.commit()
        insert = self._way_to_insert()
        for batch in rows:
            for first in range(0, batch.num_rows, CHUNK_ROWS):
                chunk = convert(batch.slice(first, CHUNK_ROWS), self.match.columns, key)
                insert(chunk)
                self.connection.commit()
                count += chunk.num_rows
                seconds = monotonic() - start
                report(f"staged {count:,} rows in {seconds:.1f} s ({count / max(seconds, 1e-9):,.0f} rows/s)")
        return count

    def check(self, count: int) -> None:
        """Raise an error if the staging table lacks rows."""
        staged = self.connection.exec_driver_sql(self.statements.count_staged()).scalar()
        self.connection.rollback()
        if staged != count:
            raise SqlTargetError(f"the staging table has {staged:,} rows instead of {count:,}; nothing was loaded")

    def _refuse_duplicates(self) -> None:
        """Raise an error if several staged rows have the same key."""
        found = self.connection.exec_driver_sql(self.statements.duplicates()).fetchall()
        if found:
            keys = "; ".join(
                ", ".join(f"{name}={value}" for name, value in zip(self.match.key, row, strict=True)) for row in found
            )
            raise SqlTargetError(
                f"several rows have the same key, for example {keys}. The target compares keys by its own collation, "
                "which may ignore case; correct the rows"
            )

    def merge(self, target: SqlTarget, report: Callable[[str], None]) -> tuple[int, int]:
        """Update and insert in one transaction; return the numbers of updated and inserted rows."""
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

        attempts = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.1, max=PAUSE_SECONDS),
            retry=retry_if_exception(lambda error: isinstance(error, SqlTargetError) and error.is_passing),
            before_sleep=lambda state: report(f"attempt {state.attempt_number} failed; trying again"),
            reraise=True,
        )
        with self._turn():
            return attempts(self._merge_once, target)

    def end(self) -> None:
        self.connection.exec_driver_sql(self.statements.drop_staging())
        self.connection.commit()

    def _merge_once(self, target: SqlTarget) -> tuple[int, int]:
        from sqlalchemy.exc import DBAPIError

        is_empty = False
        try:
            for statement in self.statements.begin():
                self.connection.exec_driver_sql(statement)
            question = self.statements.is_empty()
            is_empty = bool(question and self.connection.exec_driver_sql(question).scalar())
            updated, inserted = (0, self._change(self.statements.fill())) if is_empty else self._update_and_insert()
            self.connection.commit()
        except DBAPIError as error:
            if not error.connection_invalidated:
                self.connection.rollback()
                if is_empty:
                    self._refuse_duplicates()
            raise explain(error.orig or error, target) from None
        return updated, inserted

    def _update_and_insert(self) -> tuple[int, int]:
        # Without this check, one of several staged rows with the same key would be loaded and the rest silently lost.
        self._refuse_duplicates()
        update = self.statements.update()
        return self._change(update) if update else 0, self._change(self.statements.insert())

    def _change(self, statement: str) -> int:
        return self.connection.exec_driver_sql(statement).rowcount

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """On MariaDB, let only one load at a time write to a table, because its gap locks would cause deadlocks."""
        if self.connection.dialect.name != "mysql":
            yield
            return
        name = uuid.uuid5(uuid.NAMESPACE_URL, f"{self.connection.engine.url.database}/{self.statements.target}").hex
        self.connection.exec_driver_sql(f"SELECT GET_LOCK('{name}', {LOCK_SECONDS})").scalar()
        self.connection.commit()
        try:
            yield
        finally:
            if not self.connection.invalidated:
                self.connection.exec_driver_sql(f"SELECT RELEASE_LOCK('{name}')")
                self.connection.commit()

    def _way_to_insert(self) -> Callable[[pa.Table], None]:
        """Return the driver's fastest method of inserting rows."""
        dialect = self.connection.dialect
        if dialect.name == "postgresql" and dialect.driver == "psycopg":
            return self._copy
        if dialect.name == "mssql" and dialect.driver == "pyodbc" and self._is_microsofts():
            return self._send_arrays
        return self._insert_many

    def _is_microsofts(self) -> bool:
        # ODBC drivers of other vendors fail with `fast_executemany`; SQLite's driver even crashes the interpreter.
        import pyodbc

        driver: Any = self.connection.connection.driver_connection
        return "msodbcsql" in str(driver.getinfo(pyodbc.SQL_DRIVER_NAME)).lower()

    def _copy(self, chunk: pa.Table) -> None:
        from psycopg import sql
        from pyarrow import csv

        buffer = io.BytesIO()
        csv.write_csv(chunk, buffer, csv.WriteOptions(include_header=False))
        command = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
            sql.Identifier(self.statements.staging), sql.SQL(", ").join(map(sql.Identifier, chunk.column_names))
        )
        driver: Any = self.connection.connection.driver_connection
        with driver.cursor() as cursor, cursor.copy(command) as copy:
            copy.write(buffer.getbuffer())
        driver.commit()

    def _insert_many(self, chunk: pa.Table) -> None:
        size = self.statements.rows_per_insert
        rows = _tuples(chunk)
        for first in range(0, len(rows), size):
            part = rows[first : first + size]
            values = tuple(value for row in part for value in row)
            self.connection.exec_driver_sql(self.statements.insert_staged(len(part)), values)

    def _send_arrays(self, chunk: pa.Table) -> None:
        if max(map(_longest, chunk.columns)) > LONGEST_ARRAY_TEXT:
            self._insert_many(chunk)
            return
        driver: Any = self.connection.connection.driver_connection
        send_arrays(driver, self.statements.insert_staged(1), chunk)
        driver.commit()


def send_arrays(connection: Any, statement: str, rows: pa.Table) -> None:
    """Insert rows through pyodbc, with thousands of rows per network round trip.

    Parameters
    ----------
    connection
        Connection of pyodbc.
    statement
        INSERT of one row, with a `?` for each column.
    rows
        The rows. No text is longer than `LONGEST_ARRAY_TEXT`.
    """
    cursor = connection.cursor()
    try:
        cursor.fast_executemany = True
        # Without these types, pyodbc queries the server, which cannot describe the columns of temporary tables.
        cursor.setinputsizes([_odbc_type(column) for column in rows.columns])
        cursor.executemany(statement, _tuples(rows))
    finally:
        cursor.close()


def _odbc_type(column: pa.ChunkedArray) -> tuple[int, int, int]:
    """Return ODBC's type, size and number of decimals of a column."""
    import pyarrow as pa
    import pyodbc

    types, kind = pa.types, column.type
    if types.is_decimal(kind):
        return pyodbc.SQL_DECIMAL, kind.precision, kind.scale
    of_kind: list[tuple[Callable[[pa.DataType], bool], tuple[int, int, int]]] = [
        (types.is_boolean, (pyodbc.SQL_BIT, 0, 0)),
        (types.is_integer, (pyodbc.SQL_BIGINT, 0, 0)),
        (types.is_floating, (pyodbc.SQL_DOUBLE, 0, 0)),
        (types.is_timestamp, (pyodbc.SQL_TYPE_TIMESTAMP, 26, 6)),
        (types.is_date, (pyodbc.SQL_TYPE_DATE, 10, 0)),
    ]
    # The size of a text must not be 0, because some drivers then crash or truncate the text.
    text = (pyodbc.SQL_WVARCHAR, max(1, _longest(column)), 0)
    return next((odbc for is_kind, odbc in of_kind if is_kind(kind)), text)


def _longest(column: pa.ChunkedArray) -> int:
    """Return an upper bound for the number of UTF-16 units of each text in a column; 0 if the column has no texts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return (pc.max(pc.utf8_length(column)).as_py() or 0) * 2 if pa.types.is_string(column.type) else 0


def _tuples(rows: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in rows.columns), strict=True))
