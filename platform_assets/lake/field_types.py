"""Field types: convert landed values to the declared types, and report the rules that unreadable values break.

`docs/landing.md` shows the rules as a table. They are the same for CSV, parquet and SQLite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.lake.broken_rules import RULES, names_of_broken
from platform_assets.landing.row_writer import ERROR, LINE, UNREADABLE

if TYPE_CHECKING:
    import ibis.expr.datatypes as dt
    import ibis.expr.types as ir

    from platform_assets.lake.schemas import Column, TableSchema

READABLE = "line_is_readable"
# The names of these helper columns contain a space, so they cannot clash with declared columns.
_RAW = "raw "
_UNREAD = "unread row"
_DIGITS = r"[+-]?\d+"
_DAY = r"\d{4}-\d{2}-\d{2}"
_CLOCK = r"[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6}0*)?)?"
_ZONE = r"(Z|[+-]\d{2}(:?\d{2})?)"
_FORMS = (
    # DuckDB's own casts accept more, e.g. 5.7 as 6, 0x10 as 16, 1_000, 'epoch' and '1.2.2020 10:00'.
    ("is_integer", rf"^\s*{_DIGITS}(\.0*)?\s*$"),
    ("is_floating", r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"),
    ("is_boolean", r"(?i)^\s*(true|false|0|1)\s*$"),
    ("is_date", rf"^\s*{_DAY}([T ]00:00(:00(\.0*)?)?)?\s*$"),
)
"""Pairs: the Ibis method that tests for a type, and a regular expression for the strings that can be converted."""
_EXACT = {"float64": 1 << 53, "float32": 1 << 24}
"""Number above which a float cannot represent every whole number, by float type."""

_PYTHON_TIMES = (-62_135_596_800, 253_402_300_799)
"""First and last second of the years 1 to 9999 in UTC, as seconds since 1970."""


def typed_rows(rows: ir.Table, schema: TableSchema) -> ir.Table:
    """Return rows with the declared types, and the rules that they break. A value that does not fit becomes null."""
    import ibis

    names = [column.name for column in schema.columns]
    both = rows.select(
        LINE,
        ERROR,
        **{_RAW + column.name: rows[column.name] for column in schema.columns},
        **{column.name: _readable(rows, column) for column in schema.columns},
    )
    readable = both[ERROR].isnull()
    unread = {
        _type_rule(column): _is_there(both[_RAW + column.name], column) & both[column.name].isnull()
        for column in schema.columns
    }
    broken = {
        READABLE: ~readable,
        **unread,
        **{
            # An unreadable line breaks only `line_is_readable`, because it has no values to check.
            expectation.name: readable & ~expectation.holds(both).fill_null(True)  # noqa: FBT003 - Ibis takes no keyword
            for expectation in schema.expectations
            if expectation.holds
        },
    }
    raw = ibis.struct({name: both[_RAW + name] for name in names}).cast("json").cast("string")
    return both.select(
        *names,
        LINE,
        **{RULES: names_of_broken(broken), _UNREAD: ibis.ifelse(ibis.or_(*unread.values()), raw, ibis.null("string"))},
    )


def _readable(rows: ir.Table, column: Column) -> ir.Value:
    import ibis

    value = as_type(rows[column.name], ibis.dtype(column.type))
    if UNREADABLE not in rows.columns:
        return value
    is_readable = ~rows[UNREADABLE].contains(column.name).fill_null(False)  # noqa: FBT003 - Ibis takes no keyword
    return ibis.ifelse(is_readable, value, ibis.null(value.type()))


def as_type(raw: ir.Value, kind: dt.DataType) -> ir.Value:
    """The value as the declared type; null where it is not of that type."""
    import ibis

    value = _converted(raw, kind)
    if kind.is_date() or kind.is_timestamp():
        # Python supports only the years 1 to 9999, so a single value outside this range would stop the whole load.
        is_held = value.epoch_seconds().between(*_PYTHON_TIMES) if _has_zone(kind) else value.year().between(1, 9999)
        return ibis.ifelse(is_held, value, ibis.null(kind))
    return value


def _has_zone(kind: dt.DataType) -> bool:
    return bool(kind.is_timestamp() and kind.timezone)


def _converted(raw: ir.Value, kind: dt.DataType) -> ir.Value:
    import ibis

    found = raw.type()
    if found.is_nested() or (found.is_binary() and not kind.is_binary()):
        return ibis.null(kind)
    if found.is_floating():
        raw = ibis.ifelse(raw.isnan() | raw.isinf(), ibis.null(found), raw)
    if kind.is_string():
        text = raw.cast(kind)
        return ibis.ifelse(text.contains("\0"), ibis.null(kind), text)
    if found == kind or (found.is_floating() and kind.is_floating()):
        return raw.cast(kind)
    text = raw.cast("string")
    is_of_kind = text.re_search(_form(kind))
    if kind.is_integer():
        is_of_kind &= _is_exact(raw, text)
    if kind.is_boolean() and not (found.is_string() or found.is_integer()):
        return ibis.null(kind)
    value = ibis.ifelse(is_of_kind, text.strip(), ibis.null("string")).try_cast(kind)
    return ibis.ifelse(value.isinf(), ibis.null(kind), value) if kind.is_floating() else value


def _form(kind: dt.DataType) -> str:
    """Return the regular expression for the strings that can be converted to a type; empty for a type without one."""
    if kind.is_decimal():
        # Accept no digits beyond the type's scale, because DuckDB would round them.
        return rf"^\s*{_DIGITS}(\.\d{{0,{kind.scale or 0}}}0*)?\s*$"
    if kind.is_timestamp():
        # A column with a time zone requires an offset. Other columns forbid an offset, because it would be lost.
        return rf"^\s*{_DAY}{_CLOCK}{_ZONE}\s*$" if kind.timezone else rf"^\s*{_DAY}({_CLOCK})?\s*$"
    return next((form for is_kind, form in _FORMS if getattr(kind, is_kind)()), "")


def _is_exact(raw: ir.Value, text: ir.StringValue) -> ir.BooleanValue:
    """Whether a whole number is exact, i.e. not a float that was rounded.

    A text with a decimal point was probably written from a float64, so it must also be below the limit for floats.
    """
    import ibis

    found = raw.type()
    if found.is_floating():
        return raw.abs() < _EXACT[str(found.copy(nullable=True))]
    if found.is_string():
        limit = _EXACT["float64"]
        return ~text.contains(".") | (text.try_cast("float64").abs() < limit)
    return ibis.literal(True)  # noqa: FBT003 - Ibis takes no keyword


def _is_there(raw: ir.Value, column: Column) -> ir.BooleanValue:
    """Whether the source has a value. An empty text is a value only in a text column."""
    is_empty = raw.type().is_string() and column.type != "string"
    return (raw.nullif("") if is_empty else raw).notnull()


def _type_rule(column: Column) -> str:
    kind = {"int64": "a_whole_number", "int32": "a_whole_number", "float64": "a_number", "date": "a_date"}
    return f"{column.name}_is_{kind.get(column.type, f'of_type_{column.type}')}"


def reading_rules(schema: TableSchema) -> list[str]:
    """Return the names of the rules for reading: one for whole lines, and one for the values of each column."""
    return [READABLE, *(_type_rule(column) for column in schema.columns)]
