"""The declared types of fields: what the text of a value has to look like, and the rules that unreadable ones break."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.lake.broken_rules import RULES, names_of_broken
from platform_assets.landing.landed_rows import ERROR, LINE

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from platform_assets.lake.schemas import Column, TableSchema

READABLE = "line_is_readable"
# No declared column has a name with a blank in it.
_RAW = "raw "
_UNREAD = "unread row"
_DIGITS = r"[+-]?\d+"
_DATE = r"\d{4}-\d{2}-\d{2}"
_FORMS = (
    # DuckDB's own casts also take 5.7 for 6, 0x10 for 16, 1_000, 'epoch' and '1.2.2020 10:00'.
    ("is_integer", rf"^\s*{_DIGITS}(\.0*)?\s*$"),
    ("is_floating", r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"),
    ("is_date", rf"^\s*{_DATE}([T ]00:00(:00(\.0*)?)?)?\s*$"),
)
"""What the text of a value looks like, by the test for its column's type; other types are left to DuckDB."""


def typed_rows(rows: ir.Table, schema: TableSchema) -> ir.Table:
    """Return rows with the declared types (null where a value is not of its type) and the rules that they break."""
    import ibis

    names = [column.name for column in schema.columns]
    both = rows.select(
        LINE,
        ERROR,
        **{_RAW + column.name: rows[column.name] for column in schema.columns},
        **{column.name: _as_type(rows[column.name], column) for column in schema.columns},
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
            # A line that could not be read at all breaks that rule only, not each rule about its values.
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


def _as_type(raw: ir.Value, column: Column) -> ir.Value:
    """The value as its column's type; null where it is none."""
    import ibis

    kind = ibis.dtype(column.type)
    if raw.type() == kind or (raw.type().is_floating() and kind.is_floating()):
        value = raw.cast(kind)
    else:
        text = raw.cast("string")
        value = text.try_cast(kind)
        for is_kind, form in _FORMS:
            if getattr(kind, is_kind)():
                value = ibis.ifelse(text.re_search(form), value, ibis.null(kind))
    return ibis.ifelse(value.isnan() | value.isinf(), ibis.null(kind), value) if kind.is_floating() else value


def _is_there(raw: ir.Value, column: Column) -> ir.BooleanValue:
    """Whether the source has a value; in an empty text only for a column of texts."""
    is_empty = raw.type().is_string() and column.type != "string"
    return (raw.nullif("") if is_empty else raw).notnull()


def _type_rule(column: Column) -> str:
    kind = {"int64": "a_whole_number", "int32": "a_whole_number", "float64": "a_number", "date": "a_date"}
    return f"{column.name}_is_{kind.get(column.type, f'of_type_{column.type}')}"


def reading_rules(schema: TableSchema) -> list[str]:
    """The rules that say a line or a value could not be read."""
    return [READABLE, *(_type_rule(column) for column in schema.columns)]
