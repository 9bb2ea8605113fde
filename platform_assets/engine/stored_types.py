"""Stored types: the column types that tables support, and the SQL that casts columns to these types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import SchemaError
from platform_assets.base.sql_quoting import sql_name, sql_text

if TYPE_CHECKING:
    from platform_assets.base.frames import Expression

REFUSED = "refused by the platform: "
"""Prefix of the error message for a value that cannot be stored."""

# Stored type by Ibis type. Lists and structs are not supported, because DuckDB gives [[1], [2]] and [[1, 2]] the same
# hash, so the digest could not tell them apart.
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
LONGEST_PARTITION = 180
"""Maximum length of a URL-encoded partition value, in bytes.

The value is part of a folder name, which may have at most 255 bytes.
"""


def stored_types(expression: Expression, partition_by: str | None) -> dict[str, str]:
    """Return the stored DuckDB type of each column.

    Raises
    ------
    SchemaError
        Tables do not support the type of a column, or the type cannot be used for partitioning.
    """
    types = {name: _stored_type(name, dtype) for name, dtype in expression.schema().items()}
    if partition_by is not None and types.get(partition_by) not in _PARTITIONS:
        found = types.get(partition_by, "no such column")
        raise SchemaError(f"cannot partition by {partition_by} ({found}); it must be one of {sorted(_PARTITIONS)}")
    return types


def stored_column(name: str, kind: str, *, is_partition: bool) -> str:
    """Return SQL that casts a column to its stored type. For a value that does not fit, it raises a `REFUSED` error."""
    column = sql_name(name)
    if is_partition:
        return f"{_checked_partition(name)}::{kind} AS {column}"
    if kind == "TIMESTAMP":
        lossy = sql_text(f"{REFUSED}column {name} has times that are not whole microseconds; round them first")
        return f"CASE WHEN epoch_ns({column}) % 1000 <> 0 THEN error({lossy}) ELSE {column}::{kind} END AS {column}"
    return f"{column}::{kind} AS {column}"


def refused_partition(name: str) -> str:
    """Return the error text for a partition value that cannot be stored."""
    return (
        f"{REFUSED}partition column {name} has a value that is missing, empty or too long; correct it, or drop the row"
    )


def _stored_type(name: str, dtype: Any) -> str:
    if dtype.is_timestamp():
        return "TIMESTAMPTZ" if dtype.timezone else "TIMESTAMP"
    if dtype.is_decimal() and dtype.precision is not None:
        return f"DECIMAL({dtype.precision}, {dtype.scale})"
    stored = _STORED.get(str(dtype.copy(nullable=True)))
    if stored is None:
        kind = "no type (all its values are missing)" if '"NULL"' in str(dtype) or dtype.is_null() else f"type {dtype}"
        raise SchemaError(f"column {name} has {kind}, which tables cannot store; cast it first, e.g. to string")
    return stored


def _checked_partition(name: str) -> str:
    # Delta Lake reads an empty partition value as null, and DuckDB writes null as __HIVE_DEFAULT_PARTITION__.
    column = sql_name(name)
    text = f"{column}::VARCHAR"
    reason = sql_text(refused_partition(name))
    return (
        f"CASE WHEN {column} IS NULL OR {text} IN ('', '__HIVE_DEFAULT_PARTITION__')"
        f" OR strlen(url_encode({text})) > {LONGEST_PARTITION} THEN error({reason}) ELSE {column} END"
    )
