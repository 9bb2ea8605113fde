"""Stored types: which column types tables keep, and the SQL that casts a column or refuses a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import SchemaError
from platform_assets.base.sql_quoting import sql_name, sql_text

if TYPE_CHECKING:
    from platform_assets.base.frames import Expression

REFUSED = "refused by the platform: "
"""How DuckDB's error begins where the SQL of this module refuses a value."""

# Ibis types to what a column of a table is stored as. Lists and structs are left out on purpose: DuckDB
# hashes [[1], [2]] and [[1, 2]] alike, so the digest would not notice that one became the other.
_STORED = {
    "boolean": "BOOLEAN",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "uint8": "SMALLINT",
    "uint16": "INTEGER",
    "uint32": "BIGINT",
    "uint64": "BIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "string": "VARCHAR",
    "binary": "BLOB",
    "date": "DATE",
}
_PARTITIONS = {"BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "VARCHAR", "DATE"}
# A file name has at most 255 bytes, and DuckDB makes one of each value.
_LONGEST_PARTITION = 180


def stored_types(expression: Expression, partition_by: str | None) -> dict[str, str]:
    """DuckDB's type of each column as tables keep it.

    Raises
    ------
    SchemaError
        Tables do not keep a column's type, or cannot be partitioned by it.
    """
    types = {name: _stored_type(name, dtype) for name, dtype in expression.schema().items()}
    if partition_by is not None and types.get(partition_by) not in _PARTITIONS:
        found = types.get(partition_by, "no such column")
        raise SchemaError(f"cannot partition by {partition_by} ({found}); it must be one of {sorted(_PARTITIONS)}")
    return types


def stored_column(name: str, kind: str, *, is_partition: bool) -> str:
    """SQL for a column in its stored type; a value that cannot be kept makes it fail with `REFUSED`."""
    column = sql_name(name)
    if is_partition:
        return f"{_checked_partition(name)}::{kind} AS {column}"
    if kind == "TIMESTAMP":
        lossy = sql_text(f"{REFUSED}column {name} has times finer than a microsecond; round them first")
        return f"CASE WHEN epoch_ns({column}) % 1000 <> 0 THEN error({lossy}) ELSE {column}::{kind} END AS {column}"
    return f"{column}::{kind} AS {column}"


def _stored_type(name: str, dtype: Any) -> str:
    if dtype.is_timestamp():
        return "TIMESTAMPTZ" if dtype.timezone else "TIMESTAMP"
    if dtype.is_decimal() and dtype.precision is not None:
        return f"DECIMAL({dtype.precision}, {dtype.scale})"
    stored = _STORED.get(str(dtype.copy(nullable=True)))
    if stored is None:
        kind = "no type (all its values are missing)" if '"NULL"' in str(dtype) or dtype.is_null() else f"type {dtype}"
        raise SchemaError(f"column {name} has {kind}, which tables do not keep; cast it first, e.g. to string")
    return stored


def _checked_partition(name: str) -> str:
    # Delta Lake reads an empty partition value as null, and DuckDB writes null under the third name.
    column = sql_name(name)
    text = f"{column}::VARCHAR"
    reason = sql_text(
        f"{REFUSED}partition column {name} has a value that is missing, empty or very long; fill or filter"
    )
    return (
        f"CASE WHEN {column} IS NULL OR {text} IN ('', '__HIVE_DEFAULT_PARTITION__')"
        f" OR strlen(url_encode({text})) > {_LONGEST_PARTITION} THEN error({reason}) ELSE {column} END"
    )
