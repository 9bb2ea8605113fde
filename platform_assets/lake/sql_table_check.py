"""Comparison of an SQL target with the rows to load: all differences in one message, before anything is loaded."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from platform_assets.lake.sql_columns import TargetColumn, accepts, storage_of
from platform_assets.lake.sql_target import SqlTarget, SqlTargetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa
    from sqlalchemy import Connection, Inspector

_TRANSACTIONAL = {"innodb", "rocksdb", "tokudb"}
"""MariaDB's storage engines that can roll back a failed load."""


@dataclass(frozen=True)
class Match:
    """The columns to load, as the rows and the target name them.

    Attributes
    ----------
    columns
        The columns to load.
    key
        Columns of the target that identify a row.
    """

    columns: tuple[TargetColumn, ...]
    key: tuple[str, ...]

    @property
    def texts(self) -> frozenset[str]:
        """Columns of the target that contain text."""
        return frozenset(column.name for column in self.columns if column.storage.kind == "text")


def match_table(
    connection: Connection, target: SqlTarget, table: tuple[str | None, str], rows: pa.Schema, key: Sequence[str]
) -> Match:
    """Compare a table with the rows to load.

    Parameters
    ----------
    connection
        Connection to the target.
    target
        The target, for messages.
    table
        Schema (None for the default one) and name of the table.
    rows
        Columns of the rows.
    key
        Columns of the rows that identify a row.

    Raises
    ------
    SqlTargetError
        There is no such table, or it does not fit the rows. The message lists all differences.
    """
    from sqlalchemy import inspect

    schema, name = table
    inspector = inspect(connection)
    if not inspector.has_table(name, schema):
        raise SqlTargetError(_no_table(inspector, target, table))
    found = {str(column["name"]): column for column in inspector.get_columns(name, schema)}
    names = _names(rows.names, list(found))
    columns = {source: _column(connection, source, found[name]) for source, name in names.items() if name is not None}
    key_names = tuple(names[column] or column for column in key)
    differences = [
        *_of_columns(rows, names, found, columns),
        *_of_other_columns(found, {name for name in names.values() if name}),
        *_of_key(inspector, table, key_names),
        *_of_engine(inspector, table),
    ]
    if differences:
        raise SqlTargetError(
            f"the table {_shown(table)} in {target.place} does not match the rows: {'; '.join(differences)}. Change "
            "the table; the loader never changes it"
        )
    return Match(tuple(column for column in columns.values() if column), key_names)


def _shown(table: tuple[str | None, str]) -> str:
    return ".".join(part for part in table if part)


def _no_table(inspector: Inspector, target: SqlTarget, table: tuple[str | None, str]) -> str:
    schema, name = table
    there = sorted({*inspector.get_table_names(schema), *inspector.get_view_names(schema)})
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]}?" if near else ""
    return (
        f"{target.place} has no table {_shown(table)} that the user may see.{hint} Create it, grant the user SELECT, "
        f"INSERT and UPDATE on it, or correct {target.named_by}"
    )


def _names(wanted: Sequence[str], there: Sequence[str]) -> dict[str, str | None]:
    """Return the target's spelling of each column, or None if no name matches.

    An identical name always matches. Without one, case is ignored, but then exactly one name must match.
    """
    folded: dict[str, list[str]] = {}
    for name in there:
        folded.setdefault(name.casefold(), []).append(name)

    def spelling(name: str) -> str | None:
        alike = folded.get(name.casefold(), [])
        return name if name in alike else alike[0] if len(alike) == 1 else None

    return {name: spelling(name) for name in wanted}


def _column(connection: Connection, source: str, found: Any) -> TargetColumn | None:
    dialect = connection.dialect.name
    storage = storage_of(found["type"], dialect)
    if storage is None:
        return None
    if dialect == "mssql" and storage.kind == "text" and not _is_unicode(found["type"]):
        storage = replace(storage, codec=_codec(connection, getattr(found["type"], "collation", None)))
    # Pass times as text: SQLite has no type for them, and pyodbc drops the time zone.
    as_text = dialect == "sqlite" or (dialect == "mssql" and storage.has_zone)
    return TargetColumn(source, str(found["name"]), storage, bool(found.get("nullable", True)), as_text)


def _is_unicode(kind: Any) -> bool:
    """Return whether a text type of SQL Server stores all characters."""
    return type(kind).__name__.upper().startswith("N")


def _codec(connection: Connection, collation: str | None) -> str | None:
    """Return the encoding of a VARCHAR column. Characters outside the encoding are stored as question marks."""
    from sqlalchemy import text

    query = text("SELECT COLLATIONPROPERTY(:collation, 'CodePage')")
    page = connection.execute(query, {"collation": collation}).scalar() if collation else None
    utf8 = 65001
    return None if page == utf8 else f"cp{page or 1252}"


def _of_columns(
    rows: pa.Schema,
    names: Mapping[str, str | None],
    found: Mapping[str, Any],
    columns: Mapping[str, TargetColumn | None],
) -> Iterator[str]:
    for field in rows:
        name = names[field.name]
        if name is None:
            yield f"it has no column {field.name!r} ({field.type})"
            continue
        column, there = columns[field.name], found[name]
        if there.get("computed") or there.get("identity"):
            yield f"the database itself generates the values of {name}"
        elif column is None or not accepts(field.type, column.storage):
            yield f"{name} is {_type(there, column)}, which cannot store {_plain(field.type)}"


def _type(found: Any, column: TargetColumn | None) -> str:
    kind = found["type"]
    try:
        name = str(kind)
    except Exception:  # noqa: BLE001 - some types can be written in their own dialect only
        name = type(kind).__name__
    return f"{name} (not supported)" if column is None else name


def _plain(kind: pa.DataType) -> str:
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        return "times"
    if pa.types.is_date(kind):
        return "dates"
    return "texts" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else f"{kind} values"


def _of_other_columns(found: Mapping[str, Any], loaded: set[str]) -> Iterator[str]:
    from sqlalchemy import Integer

    keys = [name for name, column in found.items() if column.get("primary_key")]
    for name, column in found.items():
        generated = column.get("computed") or column.get("identity") or column.get("autoincrement") is True
        # SQLite generates the key if it is a single integer column. SQLAlchemy sets `primary_key` only for SQLite.
        generated = generated or (keys == [name] and isinstance(column["type"], Integer))
        if name not in loaded and not column.get("nullable", True) and column.get("default") is None and not generated:
            yield f"its column {name} is NOT NULL without a default, and the rows have no such column"


def _of_key(inspector: Inspector, table: tuple[str | None, str], key: Sequence[str]) -> Iterator[str]:
    schema, name = table
    primary = inspector.get_pk_constraint(name, schema).get("constrained_columns") or []
    # SQLAlchemy lists the unique constraints of SQL Server only as indexes.
    is_sql_server = inspector.dialect.name == "mssql"
    unique = [] if is_sql_server else [one["column_names"] for one in inspector.get_unique_constraints(name, schema)]
    indexes = [one["column_names"] for one in inspector.get_indexes(name, schema) if _is_key(one)]
    keys: list[Any] = [columns for columns in (primary, *unique, *indexes) if columns]
    if not any({*columns} == {*key} for columns in keys):
        listed = " and ".join(sorted({f"({', '.join(map(str, columns))})" for columns in keys})) or "none"
        yield f"no primary key or unique constraint has exactly the columns ({', '.join(key)}); existing keys: {listed}"


def _is_key(index: Any) -> bool:
    """Return whether an index is unique over all rows. A filtered index covers only some of the rows."""
    options = index.get("dialect_options", {})
    return bool(index.get("unique")) and all(
        value is None for name, value in options.items() if name.endswith("_where")
    )


def _of_engine(inspector: Inspector, table: tuple[str | None, str]) -> Iterator[str]:
    if inspector.dialect.name != "mysql":
        return
    schema, name = table
    engine = inspector.get_table_options(name, schema).get(f"{inspector.dialect.name}_engine", "InnoDB")
    if str(engine).lower() not in _TRANSACTIONAL:
        yield f"its engine {engine} cannot roll back a failed load; use InnoDB"
