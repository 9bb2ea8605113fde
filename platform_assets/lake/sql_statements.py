"""The SQL statements of a load, for each dialect.

A load inserts rows into a staging table, updates the rows of the target that differ, and inserts the missing ones. All
values are bound parameters, and all names are quoted. MERGE is not used on SQL Server, because two concurrent MERGEs
can violate a key, and because of known defects (https://www.mssqltips.com/sqlservertip/3074).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import Dialect

LOCK_SECONDS = 60
"""Longest wait for a lock on the target."""
MOST_PARAMETERS = 2_000
"""Largest number of parameters of a statement. SQL Server accepts 2,100."""
MOST_ROWS = 1_000
"""Largest number of rows of one INSERT .. VALUES. SQL Server accepts 1,000."""
SHOWN_DUPLICATES = 5
# UPDLOCK prevents a deadlock between two loads that read the same rows. HOLDLOCK also locks the gaps between keys until
# the end of the transaction, so that no other load inserts a key that this load found missing.
_LOCKS = " WITH (UPDLOCK, HOLDLOCK)"


@dataclass(frozen=True)
class Statements:
    """Writes the statements for one target table.

    Parameters
    ----------
    dialect
        SQLAlchemy's dialect, which quotes names.
    table
        Name of the target table.
    schema
        Schema of the target table; None for the default schema.
    columns
        The columns to load, as the target spells them.
    key
        The loaded columns that identify a row.
    texts
        The loaded columns that contain text.
    staging
        Name of the staging table.
    """

    dialect: Dialect
    table: str
    schema: str | None
    columns: Sequence[str]
    key: Sequence[str]
    texts: Collection[str]
    staging: str

    @property
    def target(self) -> str:
        """The quoted name of the target."""
        table = self._quoted(self.table)
        return f"{self._quoted(self.schema)}.{table}" if self.schema else table

    @property
    def staged(self) -> str:
        """The quoted name of the staging table."""
        return self._quoted(f"#{self.staging}" if self._is("mssql") else self.staging)

    def create_staging(self) -> str:
        """Create an empty temporary table with the types of the target's columns."""
        columns = self._list(self.columns)
        if self._is("mssql"):
            return f"SELECT TOP (0) {columns} INTO {self.staged} FROM {self.target}"
        empty = "WITH NO DATA" if self._is("postgresql") else "LIMIT 0"
        select = f"SELECT {columns} FROM {self.target}"
        return f"CREATE TEMPORARY TABLE {self.staged} AS {select} {empty}"

    def insert_staged(self, rows: int) -> str:
        """Insert a number of rows into the staging table."""
        mark = "?" if self.dialect.paramstyle == "qmark" else "%s"
        row = f"({', '.join([mark] * len(self.columns))})"
        return f"INSERT INTO {self.staged} ({self._list(self.columns)}) VALUES {', '.join([row] * rows)}"

    @property
    def rows_per_insert(self) -> int:
        """Number of rows that one statement can insert."""
        return max(1, min(MOST_ROWS, MOST_PARAMETERS // len(self.columns)))

    def count_staged(self) -> str:
        """Count the rows of the staging table."""
        return f"SELECT COUNT(*) FROM {self.staged}"

    def duplicates(self) -> str:
        """Select a few keys that more than one staged row has, compared by the target's collation."""
        keys = self._list(self.key)
        first = f"TOP ({SHOWN_DUPLICATES}) " if self._is("mssql") else ""
        last = "" if self._is("mssql") else f" LIMIT {SHOWN_DUPLICATES}"
        return f"SELECT {first}{keys} FROM {self.staged} GROUP BY {keys} HAVING COUNT(*) > 1 ORDER BY {keys}{last}"

    def begin(self) -> list[str]:
        """Lock the target against other loads, at the start of the transaction."""
        if self._is("postgresql"):
            # Readers are not blocked.
            return [f"LOCK TABLE {self.target} IN SHARE ROW EXCLUSIVE MODE"]
        return ["BEGIN IMMEDIATE"] if self._is("sqlite") else []

    def is_empty(self) -> str | None:
        """Query whether the target is empty; None for databases on which `begin` does not lock the table."""
        return f"SELECT NOT EXISTS (SELECT 1 FROM {self.target})" if self._is("postgresql") else None

    def fill(self) -> str:
        """Insert all rows into an empty target. Its key rejects duplicates faster than `duplicates` finds them."""
        columns = self._list(self.columns)
        return f"INSERT INTO {self.target} ({columns}) SELECT {columns} FROM {self.staged}"

    def update(self) -> str | None:
        """Update the rows that differ; None if all columns belong to the key."""
        values = [column for column in self.columns if column not in self.key]
        if not values:
            return None
        if self._is("mssql"):
            return (
                f"UPDATE t SET {self._pairs(values, '{column} = s.{column}')} FROM {self.target} AS t{_LOCKS} "
                f"INNER JOIN {self.staged} AS s ON {self._same_key()} "
                f"WHERE EXISTS (SELECT {self._exact('s', values)} EXCEPT SELECT {self._exact('t', values)})"
            )
        if self._is("mysql"):
            return (
                f"UPDATE {self.target} AS t INNER JOIN {self.staged} AS s ON {self._same_key()} "
                f"SET {self._pairs(values, 't.{column} = s.{column}')} WHERE {self._differs(values)}"
            )
        return (
            f"UPDATE {self.target} AS t SET {self._pairs(values, '{column} = s.{column}')} FROM {self.staged} AS s "
            f"WHERE {self._same_key()} AND ({self._differs(values)})"
        )

    def insert(self) -> str:
        """Insert the rows whose key is not in the target."""
        columns = self._list(self.columns)
        if self._is("postgresql"):
            # Do not use NOT EXISTS as below. PostgreSQL may plan the query for an empty target, and then scan the
            # growing target for each row.
            return (
                f"INSERT INTO {self.target} ({columns}) SELECT {columns} FROM {self.staged} "
                f"ON CONFLICT ({self._list(self.key)}) DO NOTHING"
            )
        locks = _LOCKS if self._is("mssql") else ""
        return (
            f"INSERT INTO {self.target} ({columns}) SELECT {self._pairs(self.columns, 's.{column}')} "
            f"FROM {self.staged} AS s "
            f"WHERE NOT EXISTS (SELECT 1 FROM {self.target} AS t{locks} WHERE {self._same_key()})"
        )

    def drop_staging(self) -> str:
        """Drop the staging table. Closing the connection drops it too."""
        temporary = "TEMPORARY " if self._is("mysql") else ""
        return f"DROP {temporary}TABLE {self.staged}"

    def _is(self, dialect: str) -> bool:
        return self.dialect.name == dialect

    def _quoted(self, name: str) -> str:
        return self.dialect.identifier_preparer.quote_identifier(name)

    def _list(self, names: Sequence[str]) -> str:
        return ", ".join(map(self._quoted, names))

    def _pairs(self, names: Sequence[str], form: str) -> str:
        return ", ".join(form.replace("{column}", self._quoted(name)) for name in names)

    def _same_key(self) -> str:
        return " AND ".join(f"t.{name} = s.{name}" for name in map(self._quoted, self.key))

    def _differs(self, names: Sequence[str]) -> str:
        form = {
            "postgresql": "{t} IS DISTINCT FROM {s}",
            "sqlite": "{t} IS NOT {s}",
            "mysql": "NOT ({t} <=> {s})",
        }[self.dialect.name]
        return " OR ".join(form.format(t=self._exact("t", [name]), s=self._exact("s", [name])) for name in names)

    def _exact(self, table: str, names: Sequence[str]) -> str:
        """Cast columns, so that any collation compares their texts exactly: case, accents and trailing spaces."""
        form = {
            "mssql": "CAST({} AS varbinary(max))",
            "mysql": "CAST({} AS BINARY)",
            "postgresql": '{} COLLATE "C"',
            "sqlite": "{} COLLATE BINARY",
        }[self.dialect.name]
        columns = ((name, f"{table}.{self._quoted(name)}") for name in names)
        return ", ".join(form.format(column) if name in self.texts else column for name, column in columns)
