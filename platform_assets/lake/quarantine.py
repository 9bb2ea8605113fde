"""Rows from outside: given their declared types, and the bad ones set apart with the reason.

Every row that came in ends as exactly one of: a good row, a row of the quarantine, or a duplicate of an identical row.
The rules are declared in a table's schema; whether too many rows are bad is decided in `validation.py`.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.base.errors import SourceError
from platform_assets.lake.broken_rules import RULES
from platform_assets.lake.duplicate_rows import without_duplicates
from platform_assets.lake.field_types import READABLE, typed_rows
from platform_assets.landing.landed_rows import ERROR, LINE, TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator

    import ibis.expr.types as ir

    from platform_assets.engine.query_engine import Engine
    from platform_assets.engine.staged_files import Staged
    from platform_assets.lake.schemas import TableSchema
    from platform_assets.landing.landed_rows import Landed


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
            typed = on_failure.enter_context(engine.stage(typed_rows(landed.rows, schema)))
        incoming = without_duplicates(engine.staged(typed), schema)
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
