"""Columns of an SQL target: their types and limits, and the conversion of the rows' values to these types.

A value is loaded only if the column stores exactly this value. Otherwise the load is refused, with the value and its
row in the message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from platform_assets.lake.sql_target import SqlTargetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from sqlalchemy.types import TypeEngine

Kind = Literal["number", "text", "time", "date", "truth"]
DATE_TEXT = 10
"""Length of a date as text."""
TIME_TEXT = 19
"""Length of a time as text."""
_WHOLE_NUMBERS = {"SMALLINT": 16, "INTEGER": 32, "BIGINT": 64, "TINYINT": 8, "MEDIUMINT": 32}
_SINGLE_PRECISION = 24
"""Largest number of bits for which FLOAT(n) is a 32-bit float."""
_MICROSECONDS, _MILLISECONDS = 6, 3


@dataclass(frozen=True)
class Storage:
    """Type and limits of a column of the target.

    Attributes
    ----------
    kind
        Kind of the values.
    arrow
        Arrow type with the same values as the column; None if the column's values are unbounded.
    length
        Largest number of characters of a text; None for no limit.
    is_padded
        Whether shorter texts are padded with spaces.
    codec
        Python's name of the encoding of a text; None if it can encode all characters.
    has_zone
        Whether a time has a time zone.
    holds_infinity
        Whether a number may be infinite or NaN.
    """

    kind: Kind
    arrow: pa.DataType | None = None
    length: int | None = None
    is_padded: bool = False
    codec: str | None = None
    has_zone: bool = False
    holds_infinity: bool = False


@dataclass(frozen=True)
class TargetColumn:
    """A column of the rows and the column of the target that receives it.

    Attributes
    ----------
    source
        Name in the rows.
    name
        Name in the target.
    storage
        Type and limits of the column in the target.
    is_nullable
        Whether the target accepts missing values.
    as_text
        Whether times are passed to the driver as text, because it does not support parameters of this type.
    """

    source: str
    name: str
    storage: Storage
    is_nullable: bool
    as_text: bool = False


def storage_of(kind: TypeEngine[Any], dialect: str) -> Storage | None:
    """Return the type and limits of a column with a SQLAlchemy type; None if the loader does not support the type."""
    import sqlalchemy as sa

    name = type(kind).__name__.upper()
    if isinstance(kind, sa.String):
        return _text(kind, name, dialect)
    if isinstance(kind, sa.DateTime | sa.Date) or name == "DATETIMEOFFSET":
        return _time(kind, name, dialect)
    return _number(kind, name, dialect)


def _text(kind: Any, name: str, dialect: str) -> Storage | None:
    # SQL Server cannot compare values of the types TEXT, NTEXT and XML.
    if name in {"ENUM", "SET"} or (dialect == "mssql" and name in {"TEXT", "NTEXT", "XML"}):
        return None
    if dialect == "sqlite":
        # SQLite ignores the declared length.
        return Storage("text")
    length = kind.length if isinstance(kind.length, int) else None
    return Storage("text", None, length, is_padded=name in {"CHAR", "NCHAR"})


def _number(kind: Any, name: str, dialect: str) -> Storage | None:
    import pyarrow as pa
    import sqlalchemy as sa

    if isinstance(kind, sa.Boolean) or (name == "BIT" and dialect == "mssql"):
        return Storage("truth", pa.bool_())
    if isinstance(kind, sa.Integer):
        return _whole_number(kind, name, dialect)
    if isinstance(kind, sa.Float) or name in {"REAL", "DOUBLE", "DOUBLE_PRECISION", "FLOAT"}:
        return Storage("number", _float(kind, name, dialect), holds_infinity=dialect == "postgresql")
    if isinstance(kind, sa.Numeric):
        return _decimal(kind, dialect)
    return None


def _whole_number(kind: Any, name: str, dialect: str) -> Storage:
    import pyarrow as pa

    if dialect == "mysql" and name == "TINYINT" and kind.display_width == 1:
        return Storage("truth", pa.int8())
    # SQLite stores integers of 64 bits, whatever the declared type.
    bits = 64 if dialect == "sqlite" else _WHOLE_NUMBERS.get(name, 32)
    is_unsigned = (dialect == "mssql" and name == "TINYINT") or getattr(kind, "unsigned", False)
    return Storage("number", getattr(pa, f"{'u' if is_unsigned else ''}int{bits}")())


def _float(kind: Any, name: str, dialect: str) -> pa.DataType:
    import pyarrow as pa

    precision = getattr(kind, "precision", None)
    is_single = {
        "sqlite": False,
        "mssql": name == "REAL" or (precision or 53) <= _SINGLE_PRECISION,
        "postgresql": name == "REAL" or (name == "FLOAT" and (precision or 53) <= _SINGLE_PRECISION),
        "mysql": name == "FLOAT" and (precision or 0) <= _SINGLE_PRECISION,
    }[dialect]
    return pa.float32() if is_single else pa.float64()


def _decimal(kind: Any, dialect: str) -> Storage:
    import pyarrow as pa

    if dialect == "sqlite":
        # SQLite stores a NUMERIC as a 64-bit integer or float.
        return Storage("number", pa.float64())
    if kind.precision is None:
        return Storage("number", None, holds_infinity=False)
    scale = kind.scale or 0
    is_wide = kind.precision > pa.decimal128(38, 0).precision
    return Storage("number", (pa.decimal256 if is_wide else pa.decimal128)(kind.precision, scale))


def _time(kind: Any, name: str, dialect: str) -> Storage | None:
    import pyarrow as pa

    if name == "DATE":
        return Storage("date", pa.date32())
    digits = getattr(kind, "fsp", None) if dialect == "mysql" else getattr(kind, "precision", None)
    if digits is None:
        # Without a declared precision, MariaDB stores whole seconds. SQL Server's DATETIME rounds to 1/300 s, so only
        # whole seconds are stored exactly.
        digits = 0 if dialect == "mysql" or (dialect == "mssql" and name == "DATETIME") else _MICROSECONDS
    if name == "SMALLDATETIME":
        # SMALLDATETIME stores whole minutes.
        return None
    unit = "us" if digits >= _MICROSECONDS else "ms" if digits >= _MILLISECONDS else "s"
    has_zone = bool(getattr(kind, "timezone", False)) or name == "DATETIMEOFFSET"
    if dialect == "mysql":
        # MariaDB stores a TIMESTAMP in UTC. The session's time zone is UTC too, so a time without a zone is stored
        # unchanged.
        has_zone = False
    return Storage("time", pa.timestamp(unit), has_zone=has_zone)


def accepts(kind: pa.DataType, storage: Storage) -> bool:
    """Return whether a column of the target can store values of an Arrow type, as far as the types alone show."""
    import pyarrow as pa

    types = pa.types
    if types.is_boolean(kind):
        return storage.kind == "truth" or (storage.kind == "number" and storage.arrow is not None)
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return storage.kind == "number"
    if types.is_timestamp(kind):
        return storage.kind == "time" or _is_long_enough(storage, TIME_TEXT)
    if types.is_date(kind):
        return storage.kind == "date" or _is_long_enough(storage, DATE_TEXT)
    return bool(types.is_string(kind) or types.is_large_string(kind)) and storage.kind == "text"


def _is_long_enough(storage: Storage, length: int) -> bool:
    return storage.kind == "text" and (storage.length is None or storage.length >= length)


def convert(rows: pa.RecordBatch, columns: Sequence[TargetColumn], key: Sequence[str]) -> pa.Table:
    """Convert the rows to the types and column names of the target.

    Parameters
    ----------
    rows
        The rows to convert.
    columns
        The columns to load.
    key
        Columns of the rows that identify a row.

    Raises
    ------
    SqlTargetError
        The target cannot store a value exactly. The message names the value, the column and the row.
    """
    import pyarrow as pa

    arrays = []
    for column in columns:
        values = rows.column(column.source)
        _require_present(rows, column, key)
        stored, is_exact = _stored(values, column)
        _refuse_first(rows, column, key, is_exact)
        arrays.append(stored)
    return pa.table(arrays, names=[column.name for column in columns])


def _require_present(rows: pa.RecordBatch, column: TargetColumn, key: Sequence[str]) -> None:
    values = rows.column(column.source)
    if values.null_count and (not column.is_nullable or column.source in key):
        why = "it belongs to the key" if column.source in key else "the target column is NOT NULL"
        place = values.is_null().index(True).as_py()
        raise SqlTargetError(
            f"{_row(rows, key, place)} has no value in the column '{column.source}', but {why}; correct the rows (rows "
            f"without a value in this chunk: {values.null_count:,})"
        )


def _stored(values: pa.Array, column: TargetColumn) -> tuple[pa.Array, pa.Array | None]:
    """Return the values as the target stores them, and a mask of those stored exactly.

    The mask is None if all values are stored exactly.
    """
    import pyarrow as pa

    types = pa.types
    if types.is_timestamp(values.type):
        return _times(values, column)
    if types.is_date(values.type):
        stored = values.cast(pa.date32())
        return (stored.cast(pa.string()) if column.storage.kind == "text" or column.as_text else stored), None
    if column.storage.kind == "text":
        return values.cast(pa.string()), _fitting_texts(values, column.storage)
    return _numbers(values, column.storage)


def _times(values: pa.Array, column: TargetColumn) -> tuple[pa.Array, pa.Array | None]:
    import pyarrow as pa
    import pyarrow.compute as pc

    storage = column.storage
    # Times are in UTC, whether they have a zone or not.
    utc = values.cast(pa.timestamp(values.type.unit))
    micros = utc.cast(pa.timestamp("us"), safe=False)
    is_exact = pc.equal(micros.cast(utc.type, safe=False), utc)
    if storage.kind == "text" or column.as_text:
        # Use a single text form for times, so that equal keys are equal texts.
        seconds = micros.cast(pa.timestamp("s"), safe=False)
        is_whole = pc.equal(seconds.cast(micros.type), micros)
        zone = "+00:00" if storage.has_zone else ""
        form = f"%Y-%m-%d %H:%M:%S{zone}"
        text = pc.if_else(is_whole, pc.strftime(seconds, form), pc.strftime(micros, form))
        is_short = _fitting_texts(text, storage) if storage.kind == "text" else None
        return text, is_exact if is_short is None else pc.and_kleene(is_exact, is_short)
    assert storage.arrow is not None  # noqa: S101 - times have bounds
    stored = micros.cast(storage.arrow, safe=False)
    is_exact = pc.and_kleene(is_exact, pc.equal(stored.cast(micros.type), micros))
    # Add the time zone, so that the COPY text contains it: PostgreSQL reads the zone from there.
    return stored.cast(pa.timestamp(storage.arrow.unit, "UTC")) if storage.has_zone else stored, is_exact


def _fitting_texts(values: pa.Array, storage: Storage) -> pa.Array | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    is_exact = None
    if storage.length is not None:
        length = pc.utf8_length(values)
        is_exact = pc.equal(length, storage.length) if storage.is_padded else pc.less_equal(length, storage.length)
    if storage.codec:
        distinct = pc.unique(values)
        encodable = pa.array([_is_encodable(text, storage.codec) for text in distinct.to_pylist()])
        is_encodable = encodable.take(pc.index_in(values, distinct))
        is_exact = is_encodable if is_exact is None else pc.and_kleene(is_exact, is_encodable)
    return is_exact


def _is_encodable(text: str | None, codec: str) -> bool:
    try:
        (text or "").encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def _numbers(values: pa.Array, storage: Storage) -> tuple[pa.Array, pa.Array | None]:
    import pyarrow as pa
    import pyarrow.compute as pc

    is_float = pa.types.is_floating(values.type)
    is_finite = pc.is_finite(values) if is_float and not storage.holds_infinity else None
    if storage.arrow is None or storage.arrow == values.type:
        return values, is_finite
    if pa.types.is_boolean(values.type):
        return values.cast(storage.arrow), None
    if is_finite is not None:
        # Infinity and NaN cannot be converted to integers or decimals.
        values = pc.if_else(is_finite, values, pa.scalar(None, values.type))
    stored, is_exact = _cast(values, storage.arrow)
    if is_finite is not None:
        is_exact = pc.and_kleene(is_exact, is_finite)
    elif is_float:
        is_exact = pc.or_(is_exact, pc.is_nan(values))
    return stored, is_exact


def _cast(values: pa.Array, kind: pa.DataType) -> tuple[pa.Array, pa.Array]:
    """Convert numbers to another type; also return a mask of the numbers that stay equal."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        stored = values.cast(kind, safe=False)
        return stored, pc.equal(stored.cast(values.type, safe=False), values)
    except pa.ArrowInvalid:
        # Arrow's error does not name the row, so convert the values one by one. This is slow, but the load fails
        # anyway.
        one_by_one = [_castable(values.slice(place, 1), kind) for place in range(len(values))]
        return values, pa.array(one_by_one)


def _castable(value: pa.Array, kind: pa.DataType) -> bool:
    import pyarrow as pa

    try:
        return bool(value.cast(kind, safe=False).cast(value.type, safe=False).equals(value))
    except pa.ArrowInvalid:
        return False


def _refuse_first(rows: pa.RecordBatch, column: TargetColumn, key: Sequence[str], is_exact: pa.Array | None) -> None:
    import pyarrow.compute as pc

    if is_exact is None:
        return
    is_bad = pc.invert(pc.fill_null(is_exact, fill_value=True))
    bad = pc.sum(is_bad).as_py() or 0
    if bad:
        place = is_bad.index(True).as_py()
        value = rows.column(column.source)[place].as_py()
        raise SqlTargetError(
            f"the target column '{column.name}' cannot store the value {str(value)[:80]!r} exactly "
            f"({_row(rows, key, place)}; such values in this chunk: {bad:,}). It stores {_described(column.storage)}; "
            "correct the rows or the type of the column"
        )


def _described(storage: Storage) -> str:
    if storage.kind == "text":
        padded = "exactly" if storage.is_padded else "up to"
        size = f"{padded} {storage.length:,} characters" if storage.length is not None else "text"
        return f"{size}{f' of {storage.codec}' if storage.codec else ''}"
    if storage.kind == "time":
        return f"times in {storage.arrow.unit}" if storage.arrow is not None else "times"
    return f"{storage.arrow or 'decimals'}"


def _row(rows: pa.RecordBatch, key: Sequence[str], place: int) -> str:
    named = ", ".join(f"{name}={rows.column(name)[place].as_py()}" for name in key)
    return f"the row {named}"
