"""Validate, then publish: what a table must be before anyone can read it.

Takes what an asset returned, gives back staged rows with their judgements. Rows from outside
are sifted first, and their bad ones set apart. Publishing is for `delta_commits.py` and `online_tables.py`.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import SchemaError
from platform_assets.engine.query_engine import Engine, as_frame
from platform_assets.lake.broken_rules import breaking, count_by_rule
from platform_assets.lake.expectations import SAMPLE_ROWS, Judgement, judge
from platform_assets.lake.field_types import reading_rules
from platform_assets.lake.quarantine import Sifted, quarantined, reading, sift
from platform_assets.landing.landed_rows import LINE, Landed

if TYPE_CHECKING:
    from collections.abc import Mapping

    import ibis.expr.types as ir

    from platform_assets.base.frames import Expression, Frame
    from platform_assets.engine.staged_files import Staged
    from platform_assets.lake.schemas import TableSchema

WITHIN_LIMIT = "bad_rows_are_within_limit"
READ_WELL = "every_value_has_its_type"


@dataclass(frozen=True)
class Check:
    """A fact that is judged whenever a table is made.

    Attributes
    ----------
    name
        The fact.
    description
        The fact as a sentence.
    blocking
        Whether the table is not published when it does not hold.
    """

    name: str
    description: str
    blocking: bool


@dataclass(frozen=True)
class Validated:
    """A table that was judged and not yet published.

    Attributes
    ----------
    table
        Its rows.
    judgements
        One for each of `checks_of(schema)`, in that order.
    quarantine
        The rows set apart, for a table from outside.
    metadata
        Facts about the rows that a person wants to see.
    demo
        Whether the rows come from sample data.
    """

    table: Staged
    judgements: list[Judgement]
    quarantine: Staged | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    demo: bool = False

    def discard(self) -> None:
        """Remove the staged rows."""
        self.table.discard()
        if self.quarantine:
            self.quarantine.discard()


def checks_of(schema: TableSchema) -> list[Check]:
    """What is judged of a table.

    A fact about single rows does not block a table from outside, for the rows that break it are set
    apart; that they stay few does.
    """
    declared = [
        Check(expectation.name, expectation.description, blocking=not (schema.source and expectation.columns))
        for expectation in schema.expectations
    ]
    if not schema.source:
        return declared
    return [
        Check(WITHIN_LIMIT, "The share of rows in quarantine is at most PLATFORM_MAX_BAD_ROWS.", blocking=True),
        Check(READ_WELL, "Every line can be read, and every value in it is of its column's type.", blocking=False),
        *declared,
    ]


class Validator:
    """Judges tables.

    Parameters
    ----------
    engine
        Reads and stages the rows.
    max_bad_rows
        Share of bad rows, 0 to 1, above which a table from outside is not published.
    """

    def __init__(self, engine: Engine, max_bad_rows: float) -> None:
        self._engine = engine
        self._max_bad_rows = max_bad_rows

    def validate(self, schema: TableSchema, data: Frame | Expression | Landed) -> Validated:
        """Stage what an asset returned and judge it. A landed file is used up by that.

        Raises
        ------
        SourceError
            The source cannot be read or lacks a column.
        SchemaError
            A derived table does not have the declared columns, or the rows are not of the declared kind: those from
            outside have to be landed, so that the bad ones are set apart.
        """
        if isinstance(data, Landed):
            with data:
                _demand_source(schema, is_source=True)
                return self._from_outside(schema, data)
        _demand_source(schema, is_source=False)
        with ExitStack() as on_failure:
            rows = conform(self._engine.as_expression(data), schema)
            staged = on_failure.enter_context(self._engine.stage(rows, schema.partition_by))
            validated = Validated(staged, self._judge(schema, self._engine.staged(staged), schema.key))
            on_failure.pop_all()
        return validated

    def _from_outside(self, schema: TableSchema, landed: Landed) -> Validated:
        with ExitStack() as on_failure:
            sifted = sift(landed, schema, self._engine)
            with sifted.typed:
                table = on_failure.enter_context(self._engine.stage(conform(sifted.good(), schema)))
                with reading(landed):
                    quarantine = on_failure.enter_context(self._engine.stage(quarantined(landed, sifted)))
                judgements = [
                    *self._judge_bad_rows(schema, quarantine, table.rows + quarantine.rows),
                    *self._judge(schema, sifted.readable(), (LINE,)),
                ]
            facts = _facts(landed, sifted, quarantine, self._engine)
            on_failure.pop_all()
        return Validated(table, judgements, quarantine, facts, landed.source.demo)

    def _judge(self, schema: TableSchema, rows: ir.Table, identified_by: tuple[str, ...]) -> list[Judgement]:
        read = {name for expectation in schema.expectations for name in expectation.columns}
        frame = as_frame(rows.select(sorted(read | set(identified_by))))
        return judge(frame, schema.expectations, identified_by)

    def _judge_bad_rows(self, schema: TableSchema, quarantine: Staged, rows: int) -> list[Judgement]:
        bad = self._engine.staged(quarantine)
        unreadable = breaking(bad, reading_rules(schema))
        count = int(unreadable.count().to_pyarrow().as_py())
        share = quarantine.rows / rows if rows else 0.0
        return [
            Judgement(
                WITHIN_LIMIT,
                passed=share <= self._max_bad_rows,
                rows=rows,
                broken=quarantine.rows,
                samples=_samples(bad),
                observed=f"{share:.2%} of {rows} rows are bad; {self._max_bad_rows:.2%} are allowed",
            ),
            Judgement(READ_WELL, passed=count == 0, rows=rows, broken=count, samples=_samples(unreadable)),
        ]


def _demand_source(schema: TableSchema, *, is_source: bool) -> None:
    if schema.source != is_source:
        declared = "a source" if schema.source else "derived"
        given = "a landed file" if is_source else "a frame or an expression"
        raise SchemaError(f"{schema.name} is declared as {declared}, and was given {given}; declare it as what it is")


def _samples(bad: ir.Table) -> tuple[Mapping[str, Any], ...]:
    return tuple(bad.order_by(LINE).limit(SAMPLE_ROWS).to_pyarrow().to_pylist())


def _facts(landed: Landed, sifted: Sifted, quarantine: Staged, engine: Engine) -> dict[str, Any]:
    return {
        "source": str(landed.source),
        "source_digest": landed.digest,
        **({"source_remarks": list(landed.remarks)} if landed.remarks else {}),
        "quarantined_rows": quarantine.rows,
        "quarantined_by_rule": dict(count_by_rule(engine.staged(quarantine))),
        "identical_rows_dropped": sifted.twins,
        "unknown_columns": list(sifted.unknown_columns),
    }


def conform(rows: ir.Table, schema: TableSchema) -> ir.Table:
    """The declared columns, in order, with their types."""
    missing = [column.name for column in schema.columns if column.name not in rows.columns]
    unknown = [name for name in rows.columns if name not in {column.name for column in schema.columns}]
    if missing or unknown:
        raise SchemaError(f"{schema.name} lacks the columns {missing} and has {unknown} without declaring them")
    return rows.select(**{column.name: rows[column.name].cast(column.type) for column in schema.columns})
