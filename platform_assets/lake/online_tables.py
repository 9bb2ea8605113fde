"""Online tables: rows in PostgreSQL that the HTTP service reads by key. A table is replaced in one transaction.

The table `<domain>/<table>` is the SQL table `<domain>.<table>`, which a migration creates. `validation.py` validates
the rows before they are published here.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import DatabaseError, first_line
from platform_assets.base.sql_quoting import sql_name
from platform_assets.lake.lineage import newest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    import psycopg
    import pyarrow as pa
    from psycopg import sql

    from platform_assets.database.async_reads import AsyncReads
    from platform_assets.database.connections import Database
    from platform_assets.engine.query_engine import Engine
    from platform_assets.engine.staged_files import Staged
    from platform_assets.lake.lineage import Lineage

_CHUNK = 1 << 20
"""Number of bytes that are sent to PostgreSQL at a time."""
_FIELDS = "name, digest, rows, updated_at, inputs, version"
_VERSIONS = f"SELECT {_FIELDS} FROM platform.online_tables"  # noqa: S608 - constants
_ONE_VERSION = f"{_VERSIONS} WHERE name = %s".encode()
_ALL_VERSIONS = f"{_VERSIONS} ORDER BY name".encode()
_PUBLISH = f"""
INSERT INTO platform.online_tables AS old (name, digest, rows, run_id, inputs) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, rows = excluded.rows, run_id = excluded.run_id,
    inputs = excluded.inputs,
    updated_at = CASE WHEN old.digest = excluded.digest THEN old.updated_at ELSE now() END,
    version = old.version
        + CASE WHEN (old.digest, old.inputs) = (excluded.digest, excluded.inputs) THEN 0 ELSE 1 END
RETURNING {_FIELDS}
"""  # noqa: S608 - constants
_RECORD = """
INSERT INTO platform.online_versions (name, version, digest, rows, run_id, inputs)
SELECT name, version, digest, rows, run_id, inputs FROM platform.online_tables WHERE name = %s ON CONFLICT DO NOTHING
"""
_READ_FROM = "_read_from"


@dataclass(frozen=True)
class OnlineVersion:
    """The version of an online table.

    Attributes
    ----------
    name
        Name of the table.
    digest
        Content digest of its rows.
    rows
        Number of rows.
    updated_at
        Time at which the rows last changed, with time zone.
    inputs
        Version of each lake table that the rows were made from.
    version
        Number of the version, from 1. It increases if the rows or their inputs change.
    """

    name: str
    digest: str
    rows: int
    updated_at: datetime
    inputs: Mapping[str, int] = field(default_factory=dict)
    version: int = 1


class OnlineRow(dict[str, Any]):
    """A row of an online table, by column.

    Attributes
    ----------
    read_from
        The table and the version from which the row was read, as `<table>@<version>`; None if the table was not
        published by `OnlineTables`.
    """

    __slots__ = ("read_from",)

    def __init__(self, row: Mapping[str, Any]) -> None:
        super().__init__(row)
        self.read_from: str | None = self.pop(_READ_FROM, None)


class OnlineTables:
    """The online tables of the platform's database.

    Parameters
    ----------
    database
        Function that opens the database on first use.
    engine
        The query engine that writes staged rows as CSV for PostgreSQL's COPY.
    reads
        Asynchronous connections to the same database, which read single rows.
    """

    def __init__(self, database: Callable[[], Database], engine: Engine, reads: AsyncReads) -> None:
        self._database = database
        self._engine = engine
        self._reads = reads

    def publish(
        self,
        name: str,
        staged: Staged,
        key: Sequence[str],
        run_id: str | None = None,
        lineage: Lineage | None = None,
    ) -> OnlineVersion:
        """Replace the table's rows in one transaction: readers see all old rows or all new rows.

        Only rows that differ are written.

        Parameters
        ----------
        name
            Name of the table.
        staged
            The staged rows.
        key
            Columns of the primary key.
        run_id
            Id of the Dagster run that publishes.
        lineage
            The input versions of the rows. If None, rows may be replaced even if they were made from newer inputs.

        Raises
        ------
        StaleError
            The table's rows were made from newer inputs.
        DatabaseError
            The database does not answer, or has no such table. The rows stay unchanged.
        """
        from psycopg import sql

        parts = _sql_parts(name, staged.schema.names, key)
        with self._connected(name) as connection, connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (name,))
            inputs = _refuse_stale(connection, name, staged.digest, lineage)
            connection.execute(
                sql.SQL("CREATE TEMP TABLE new (LIKE {table} INCLUDING DEFAULTS) ON COMMIT DROP").format(**parts)
            )
            self._copy(connection, staged, sql.SQL("COPY new ({columns}) FROM STDIN (FORMAT csv)").format(**parts))
            connection.execute(
                sql.SQL("DELETE FROM {table} old WHERE NOT EXISTS (SELECT FROM new WHERE {same_key})").format(**parts)
            )
            connection.execute(
                sql.SQL(
                    "INSERT INTO {table} AS old ({columns}) SELECT {columns} FROM new "
                    "ON CONFLICT ({keys}) DO UPDATE SET {updates} WHERE ({old}) IS DISTINCT FROM ({excluded})"
                ).format(**parts)
            )
            row = connection.execute(
                _PUBLISH, (name, staged.digest, staged.rows, run_id, json.dumps(inputs))
            ).fetchone()
            connection.execute(_RECORD, (name,))
        return OnlineVersion(*row or ())

    def current(self, name: str) -> OnlineVersion | None:
        """Return the version of a table, or None if it was never published.

        Raises
        ------
        DatabaseError
            The database does not answer.
        """
        rows = self._rows(name, _ONE_VERSION, [name])
        return OnlineVersion(*rows[0]) if rows else None

    def versions(self) -> list[OnlineVersion]:
        """Return the version of every published online table, ordered by name.

        Raises
        ------
        DatabaseError
            The database does not answer.
        """
        return [OnlineVersion(*row) for row in self._rows("online_tables", _ALL_VERSIONS)]

    async def get(self, name: str, /, **key: Any) -> OnlineRow | None:
        """Return the row with this key, or None.

        Raises
        ------
        DatabaseError
            The database does not answer, or has no such table.
        """
        with plain_errors(name):
            rows = await self._reads.rows(_one(name, tuple(key)), list(key.values()))
        return OnlineRow(rows[0]) if rows else None

    async def get_many(self, name: str, column: str, keys: Sequence[Any]) -> dict[Any, OnlineRow]:
        """Return the rows with the given keys, by key, using one statement. Unknown keys are omitted.

        Parameters
        ----------
        name
            Name of the table.
        column
            The table's only key column.
        keys
            Values of one type. Repeated values are allowed.

        Raises
        ------
        DatabaseError
            The database does not answer, or has no such table.
        """
        if not keys:
            return {}
        if len(keys) == 1:
            # For one key, use `=`, because PostgreSQL executes it in half the time of `= ANY`.
            row = await self.get(name, **{column: keys[0]})
            return {} if row is None else {row[column]: row}
        with plain_errors(name):
            rows = await self._reads.rows(_many(name, column), [keys])
        return {row[column]: OnlineRow(row) for row in rows}

    def read(self, name: str) -> pa.Table:
        """Return the whole table, for checks and downstream assets."""
        import pyarrow as pa
        from psycopg import sql

        with self._connected(name) as connection:
            cursor = connection.execute(sql.SQL("SELECT * FROM {}").format(_identifier(name)))
            names = [column.name for column in cursor.description or ()]
            rows = cursor.fetchall()
        columns = zip(*rows, strict=True) if rows else ([] for _ in names)
        return pa.table({name: pa.array(column) for name, column in zip(names, columns, strict=True)})

    def _copy(self, connection: psycopg.Connection[Any], staged: Staged, command: Any) -> None:
        files = [str(file) for part in staged.parts.values() for file in part.files]
        text = staged.folder / "rows.csv"
        # Write bytes as hexadecimal digits, because PostgreSQL cannot read DuckDB's own text format for bytes.
        columns = (
            f"'\\x' || hex({sql_name(field.name)})" if "binary" in str(field.type) else sql_name(field.name)
            for field in staged.schema
        )
        self._engine.duckdb.read_parquet(files).project(", ".join(columns)).write_csv(str(text), header=False)
        with connection.cursor() as cursor, cursor.copy(command) as copy, text.open("rb") as rows:
            while chunk := rows.read(_CHUNK):
                copy.write(chunk)

    def _rows(self, name: str, query: bytes, values: Sequence[Any] = ()) -> list[Any]:
        with plain_errors(name):
            return self._database().reads.rows(query, values)

    @contextmanager
    def _connected(self, name: str) -> Iterator[psycopg.Connection[Any]]:
        import psycopg

        with plain_errors(name), self._database().engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)  # noqa: S101 - narrows the type
            yield driver
            driver.commit()


@contextmanager
def plain_errors(name: str) -> Iterator[None]:
    """Convert PostgreSQL's errors about a table to `DatabaseError`."""
    import psycopg
    import sqlalchemy as sa

    try:
        yield
    except (
        psycopg.errors.UndefinedTable,
        psycopg.errors.InvalidSchemaName,
        psycopg.errors.UndefinedColumn,
    ) as error:
        raise DatabaseError(
            f"PostgreSQL has no table for {name} with these columns; write a migration for it "
            "(see platform_assets/database/migrate.py), then run `platform-assets migrate`"
        ) from error
    except (psycopg.OperationalError, sa.exc.OperationalError) as error:
        raise DatabaseError(
            f"PostgreSQL failed while {name} was in use ({first_line(error)}); the table's rows are unchanged. "
            "Run `platform-assets doctor` to see what is reachable"
        ) from error
    except psycopg.Error as error:
        raise DatabaseError(
            f"PostgreSQL refused a statement about {name} ({first_line(error)}); the table's rows are unchanged"
        ) from error


def _refuse_stale(
    connection: psycopg.Connection[Any], name: str, digest: str, lineage: Lineage | None
) -> Mapping[str, int]:
    """Return the input versions to record. The caller's transaction holds the table's lock.

    Raises
    ------
    StaleError
        The table's rows differ from the new rows and were made from newer inputs.
    """
    row = connection.execute(_ONE_VERSION, (name,)).fetchone()
    if lineage is None:
        return {}
    if row is None:
        return lineage.versions
    current = OnlineVersion(*row)
    if current.digest == digest:
        return newest_of(current.inputs, lineage.versions)
    lineage.refuse_stale(name, [current.inputs], has_changed=current != lineage.before)
    return lineage.versions


# Composed statements are cached, because composing one takes longer than executing it. The cache stays small, because
# the names of tables and columns come from the code, never from requests.


@cache
def _one(name: str, columns: tuple[str, ...]) -> bytes:
    from psycopg import sql

    where = sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.Identifier(column)) for column in columns)
    return sql.SQL("{} WHERE {}").format(_rows_with_version(name), where).as_bytes(None)


@cache
def _many(name: str, column: str) -> bytes:
    from psycopg import sql

    query = sql.SQL("{} WHERE {} = ANY(%s)")
    return query.format(_rows_with_version(name), sql.Identifier(column)).as_bytes(None)


def _rows_with_version(name: str) -> sql.Composed:
    """Return a single query for the rows and the table's version, so that both come from the same snapshot."""
    from psycopg import sql

    query = (
        "SELECT rows.*, (SELECT name || '@' || version FROM platform.online_tables WHERE name = {}) AS {} FROM {} rows"
    )
    return sql.SQL(query).format(sql.Literal(name), sql.Identifier(_READ_FROM), _identifier(name))


def _sql_parts(name: str, columns: Sequence[str], key: Sequence[str]) -> dict[str, Any]:
    """Return the SQL that fills each placeholder in the statements that replace a table's rows."""
    from psycopg import sql

    named = [sql.Identifier(column) for column in columns]
    keys = [sql.Identifier(column) for column in key]
    comma = sql.SQL(", ")
    return {
        "table": _identifier(name),
        "columns": comma.join(named),
        "keys": comma.join(keys),
        "same_key": sql.SQL(" AND ").join(sql.SQL("old.{0} = new.{0}").format(column) for column in keys),
        "updates": comma.join(sql.SQL("{0} = excluded.{0}").format(column) for column in named),
        "old": comma.join(sql.SQL("old.{}").format(column) for column in named),
        "excluded": comma.join(sql.SQL("excluded.{}").format(column) for column in named),
    }


def _identifier(name: str) -> Any:
    from psycopg import sql

    return sql.Identifier(*name.split("/"))
