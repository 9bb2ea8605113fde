"""Rows from outside: given their declared types, and the bad ones set apart with the reason.

Every row that came in ends as exactly one of: a good row, a row of the quarantine, or the twin of
an identical row. What the rules are is declared in a table's schema; whether too many rows
are bad is decided in `validation.py`.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.base.errors import SourceError
from platform_assets.landing.landed_rows import ERROR, LINE, TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import ibis.expr.types as ir

    from platform_assets.engine.query_engine import Engine
    from platform_assets.engine.staged_files import Staged
    from platform_assets.lake.schemas import Column, TableSchema
    from platform_assets.landing.landed_rows import Landed

RULES = "broken_rules"
READABLE = "line_is_readable"
_SEPARATOR = ", "
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


@dataclass(frozen=True)
class Sifted:
    """Rows from outside, typed and judged one by one.

    Attributes
    ----------
    typed
        The staged rows behind the expressions; discard them when done.
    incoming
        All rows but the twins of identical ones: the schema's columns (null where a value is not of
        its type), `source_line` and `broken_rules` (names, comma-separated; empty for good rows).
    twins
        Number of rows dropped because an identical one stays.
    unknown_columns
        Columns of the source that the schema does not declare.
    """

    typed: Staged
    incoming: ir.Table
    twins: int
    unknown_columns: tuple[str, ...]

    def readable(self) -> ir.Table:
        """The rows whose line could be read: those that expectations are about."""
        return self.incoming.filter(self.incoming[RULES] != READABLE)

    def good(self) -> ir.Table:
        """The rows without `source_line` and `broken_rules`."""
        return self.incoming.filter(self.incoming[RULES] == "").drop(LINE, RULES)

    def bad(self) -> ir.Table:
        """The others: `source_line` and `broken_rules` only."""
        return self.incoming.filter(self.incoming[RULES] != "").select(LINE, RULES)


def sift(landed: Landed, schema: TableSchema, engine: Engine) -> Sifted:
    """Type the rows of a source and find those that break a rule.

    Identical rows (in the declared columns, once typed) collapse to the first one. Rows that share a key
    and differ are all bad, for nobody can tell which one is right.

    Raises
    ------
    SourceError
        The source lacks a declared column, or cannot be read to its end.
    """
    _demand_columns(landed, schema)
    with ExitStack() as on_failure:
        with reading(landed):
            typed = on_failure.enter_context(engine.stage(_typed(landed.rows, schema)))
        incoming = _without_twins(engine.staged(typed), schema)
        known = {column.name for column in schema.columns} | {LINE, ERROR, TEXT}
        sifted = Sifted(
            typed=typed,
            incoming=incoming,
            twins=typed.rows - int(incoming.count().to_pyarrow().as_py()),
            unknown_columns=tuple(name for name in landed.rows.columns if name not in known),
        )
        on_failure.pop_all()
    return sifted


@contextmanager
def reading(landed: Landed) -> Iterator[None]:
    """Say which source it is that turns out to be damaged while its rows are read."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        raise SourceError(f"{landed.source} cannot be read to its end: {str(error).splitlines()[0]}") from error


def quarantined(landed: Landed, sifted: Sifted) -> ir.Table:
    """The bad rows as they came: `source_line`, `broken_rules`, `source_row` (JSON, or the line's text)."""
    import ibis

    bad, raw = sifted.bad(), landed.rows
    row = ibis.struct({name: raw[name] for name in raw.columns if name not in {LINE, ERROR, TEXT}})
    text = ibis.coalesce(raw[TEXT], row.cast("json").cast("string"))
    reason = ibis.coalesce(raw[ERROR], "")
    source = raw.select(LINE, source_row=text, source_error=reason)
    return bad.join(source, LINE).select(LINE, RULES, "source_row", "source_error")


def _demand_columns(landed: Landed, schema: TableSchema) -> None:
    found = [name for name in landed.rows.columns if name not in {LINE, ERROR, TEXT}]
    missing = [column.name for column in schema.columns if column.name not in found]
    if missing:
        raise SourceError(f"{landed.source} lacks the columns {missing}; it has {found}")


def _typed(rows: ir.Table, schema: TableSchema) -> ir.Table:
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
        **{RULES: _names(broken), _UNREAD: ibis.ifelse(ibis.or_(*unread.values()), raw, ibis.null("string"))},
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


def _without_twins(typed: ir.Table, schema: TableSchema) -> ir.Table:
    """All rows but the later ones of identical rows; the rule `<key>_is_unique` joins the broken ones."""
    import ibis

    keys = list(schema.key)
    doubled = typed.group_by(keys).having(typed.count() > 1).agg(copies=typed.count())
    # Rows without a key are copies of nothing: null equals nothing, null included.
    copies = typed.semi_join(doubled, keys)
    # Rows whose values could not be read are the same only if their texts are.
    content = ibis.struct({name: copies[name] for name in copies.columns if name != LINE})
    verdict = copies.group_by(keys).agg(contents=content.nunique(), first_line=copies[LINE].min())
    judged = typed.left_join(verdict, keys)
    conflicting = judged.contents > 1
    twin = (judged.contents == 1) & (judged[LINE] != judged.first_line)
    rule = f"{'_and_'.join(keys)}_is_unique"
    rules = _joined(judged[RULES].nullif(""), ibis.ifelse(conflicting, rule, ibis.null("string")))
    return judged.filter(~twin.fill_null(False)).select(  # noqa: FBT003 - Ibis takes no keyword
        *(column.name for column in schema.columns), LINE, **{RULES: rules}
    )


def _names(broken: Mapping[str, ir.BooleanValue]) -> ir.StringValue:
    import ibis

    return _joined(*(ibis.ifelse(is_broken, name, ibis.null("string")) for name, is_broken in broken.items()))


def _joined(*texts: ir.StringValue) -> ir.StringValue:
    """The texts that are not null, comma-separated."""
    import ibis

    return ibis.literal(_SEPARATOR).join(list(texts))


def reading_rules(schema: TableSchema) -> list[str]:
    """The rules that say a line or a value could not be read."""
    return [READABLE, *(_type_rule(column) for column in schema.columns)]


def breaking(bad: ir.Table, rules: list[str]) -> ir.Table:
    """The bad rows that break at least one of the given rules."""
    return bad.semi_join(_by_rule(bad).filter(lambda t: t.rule.isin(rules)), LINE)


def count_by_rule(bad: ir.Table) -> list[tuple[str, int]]:
    """How many rows break each rule, most broken first."""
    rules = _by_rule(bad)
    counted = rules.group_by("rule").agg(rows=rules.count())
    ordered = counted.order_by([counted.rows.desc(), counted.rule]).to_pyarrow().to_pylist()
    return [(row["rule"], row["rows"]) for row in ordered]


def _by_rule(bad: ir.Table) -> ir.Table:
    """One row for each row and rule that it breaks: `source_line`, `rule`."""
    return bad.select(LINE, rule=bad[RULES].split(_SEPARATOR).unnest())
