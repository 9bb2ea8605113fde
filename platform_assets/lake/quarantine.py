"""Quarantine: separate the bad rows of a source, with the reasons, from the good rows with their declared types.

Every landed row becomes exactly one of: a good row, a row of the quarantine, or a dropped copy of an identical row.
A table's schema declares the rules. `validation.py` decides whether too many rows are bad.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from platform_assets.base.errors import SourceError
from platform_assets.lake.broken_rules import RULES
from platform_assets.lake.duplicate_rows import doubled_keys, number_of_copies, without_duplicates
from platform_assets.lake.field_types import READABLE, typed_rows
from platform_assets.landing.row_writer import ERROR, LINE, LINES, OWN, TEXT, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    import ibis.expr.types as ir

    from platform_assets.engine.query_engine import Engine
    from platform_assets.engine.staged_files import Staged
    from platform_assets.lake.erased_subjects import ErasedSubjects
    from platform_assets.lake.schemas import TableSchema
    from platform_assets.landing.landed_rows import Landed


@dataclass(frozen=True)
class Sifted:
    """The typed rows of a source, with the rules that each row breaks. A context manager that removes their files.

    Attributes
    ----------
    typed
        The staged rows that `incoming` and the methods read.
    doubled
        The staged keys that several rows share.
    incoming
        All rows except dropped copies. Columns: those of the schema (null where a value is not of the declared type),
        `source_line`, and `broken_rules` (comma-separated names; empty for good rows).
    twins
        Number of dropped copies.
    unknown_columns
        Columns of the source that the schema does not declare.
    erased
        The erased persons, whose rows were left out; None if rows are not about persons.
    erased_rows
        Number of rows of erased persons that were left out, not counting bad rows.
    """

    typed: Staged
    doubled: Staged
    incoming: ir.Table
    twins: int
    unknown_columns: tuple[str, ...]
    erased: ErasedSubjects | None = None
    erased_rows: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.typed.discard()
        self.doubled.discard()

    def readable(self) -> ir.Table:
        """The rows in `incoming` except those of unreadable lines. Expectations are checked on these rows."""
        return self.incoming.filter(self.incoming[RULES] != READABLE)

    def good(self) -> ir.Table:
        """The rows that break no rule, with the schema's columns only."""
        return self.incoming.filter(self.incoming[RULES] == "").drop(LINE, RULES)

    def bad(self) -> ir.Table:
        """The rows that break a rule, with the columns `source_line` and `broken_rules` only."""
        return self.incoming.filter(self.incoming[RULES] != "").select(LINE, RULES)

    def bad_rows(self) -> int:
        """Return the number of rows that break a rule."""
        return int(self.bad().count().to_pyarrow().as_py())


def sift(landed: Landed, schema: TableSchema, engine: Engine, erased: ErasedSubjects | None = None) -> Sifted:
    """Convert the rows of a source to the declared types, and find the rows that break a rule.

    Rows about an erased person are left out. Of rows with identical typed values in the declared columns, the first is
    kept. Rows with the same key and different values are all bad, because it is unknown which is correct.

    Raises
    ------
    SourceError
        The source lacks a declared column, or cannot be read to its end.
    """
    _demand_columns(landed, schema)
    with ExitStack() as on_failure:
        with reading(landed):
            typed = on_failure.enter_context(engine.stage(typed_rows(landed.rows, schema)))
        rows = engine.staged(typed)
        if erased and schema.subject:
            rows = erased.rows_without(rows, schema.subject.column)
        count = int(rows.count().to_pyarrow().as_py())
        doubled = on_failure.enter_context(engine.stage(doubled_keys(rows, schema)))
        keys = engine.staged(doubled)
        known = {column.name for column in schema.columns} | set(OWN)
        sifted = Sifted(
            typed=typed,
            doubled=doubled,
            incoming=without_duplicates(rows, keys, schema),
            twins=number_of_copies(keys),
            unknown_columns=tuple(name for name in landed.rows.columns if name not in known),
            erased=erased,
            erased_rows=typed.rows - count,
        )
        on_failure.pop_all()
    return sifted


@contextmanager
def reading(landed: Landed) -> Iterator[None]:
    """While the rows of a source are read, turn DuckDB's errors into errors that name the source."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        raise SourceError(f"{landed.source} cannot be read to its end: {str(error).splitlines()[0]}") from error


def quarantined(landed: Landed, sifted: Sifted) -> ir.Table:
    """The bad rows, unconverted, in the columns `source_line`, `broken_rules`, `source_row` and `source_error`.

    `source_row` is JSON, or the text of an unreadable line. If several files landed together, the columns that name the
    file and line of a row replace `source_line`.
    """
    import ibis

    bad, raw = sifted.bad(), landed.rows
    row = ibis.struct({name: raw[name] for name in raw.columns if name not in (*OWN, *landed.origin)})
    text = ibis.coalesce(raw[TEXT], row.cast("json").cast("string"))
    source = raw.select(LINE, *landed.origin, source_row=text, source_error=_reason(raw))
    found = bad.join(source, LINE)
    if sifted.erased:
        # Search the whole row for the person's id, because the values of a bad row may be in the wrong columns.
        found = sifted.erased.texts_without(found, "source_row", LINE)
    return found.select(*(landed.origin or (LINE,)), RULES, "source_row", "source_error")


def _reason(raw: ir.Table) -> ir.StringValue:
    import ibis

    reasons = [raw[ERROR]]
    if UNREADABLE in raw.columns:
        reasons.append(ibis.literal("not in UTF-8: ") + raw[UNREADABLE].join(", "))
    return ibis.coalesce(*reasons, "")


def bad_lines(landed: Landed, sifted: Sifted) -> int:
    """Count the lines of the bad rows. A CSV row has several lines if a quoted field contains line breaks."""
    bad, raw = sifted.bad(), landed.rows
    if LINES not in raw.columns:
        return int(bad.count().to_pyarrow().as_py())
    return int(bad.join(raw.select(LINE, LINES), LINE)[LINES].sum().to_pyarrow().as_py() or 0)


def _demand_columns(landed: Landed, schema: TableSchema) -> None:
    found = [name for name in landed.rows.columns if name not in OWN]
    missing = [column.name for column in schema.columns if column.name not in found]
    if missing:
        raise SourceError(f"{landed.source} lacks the columns {missing}; it has {found}")
