"""Validate a table before it is published.

The input is the return value of an asset; the output is its staged rows and a judgement for each check.
`quarantine.py` separates the bad rows of a source. `delta_commits.py` and `online_tables.py` publish the tables.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import SchemaError
from platform_assets.engine.query_engine import Engine, as_frame
from platform_assets.engine.row_batch import RowBatch
from platform_assets.lake.broken_rules import RULES, breaking, count_by_rule
from platform_assets.lake.field_types import reading_rules
from platform_assets.lake.judgements import SAMPLE_ROWS, Judgement, judge
from platform_assets.lake.quarantine import Sifted, bad_lines, quarantined, reading, sift
from platform_assets.lake.rule_judgements import judge_by_rules
from platform_assets.lake.schemas import PARTITION
from platform_assets.landing.landed_rows import Landed
from platform_assets.landing.row_writer import LINE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import ibis.expr.types as ir

    from platform_assets.base.frames import Expression, Frame
    from platform_assets.engine.staged_files import Staged
    from platform_assets.lake.erased_subjects import ErasedSubjects
    from platform_assets.lake.schemas import TableSchema
    from platform_assets.lake.table_versions import TableVersion

WITHIN_LIMIT = "bad_rows_are_within_limit"
READ_WELL = "every_value_has_its_type"
USUAL_SIZE = "row_count_is_as_usual"
HISTORY = 10
"""The usual row count of a table is the median over at most this many earlier versions."""
MOST_ROWS_IN_MEMORY = 5_000_000
"""Largest number of rows that Great Expectations checks. It keeps the checked columns of all rows in memory."""
LARGEST_CHANGE = 2
"""Largest factor by which the row count may differ from the usual row count."""


@dataclass(frozen=True)
class Check:
    """A condition that is checked whenever a table is made.

    Attributes
    ----------
    name
        Name of the check.
    description
        The condition as a sentence.
    blocking
        Whether a failure prevents publishing.
    """

    name: str
    description: str
    blocking: bool


@dataclass(frozen=True)
class Rows:
    """Rows of a table, and facts about them. An asset's function may return this object instead of only the rows.

    Attributes
    ----------
    data
        The rows.
    metadata
        Facts about the rows, for display.
    demo
        Whether the rows are sample data.
    """

    data: Frame | Expression
    metadata: Mapping[str, Any] = field(default_factory=dict)
    demo: bool = False


@dataclass(frozen=True)
class Validated:
    """A table that was checked and is not yet published.

    Attributes
    ----------
    table
        Its rows.
    judgements
        One for each of `checks_of(schema)`, in that order.
    quarantine
        The bad rows of a source.
    metadata
        Facts about the rows, for display.
    demo
        Whether the rows are sample data.
    batch
        The batch to which the rows belong, for a table that accumulates.
    """

    table: Staged
    judgements: list[Judgement]
    quarantine: Staged | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    demo: bool = False
    batch: RowBatch | None = None

    def discard(self) -> None:
        """Remove the staged rows, and release the batch."""
        self.table.discard()
        if self.quarantine:
            self.quarantine.discard()
        if self.batch:
            self.batch.release()


def checks_of(schema: TableSchema) -> list[Check]:
    """List the checks of a table.

    In a source, an expectation about single rows does not block publishing, because the rows that break it go to
    quarantine. Too large a share of bad rows blocks publishing, unless the table accumulates: there, one bad batch
    would block all later batches.
    """
    declared = [
        Check(
            expectation.name,
            expectation.description,
            blocking=expectation.blocking and not (schema.source and expectation.columns),
        )
        for expectation in schema.expectations
    ]
    if not schema.source:
        return declared
    share = "The share of rows in quarantine is at most PLATFORM_MAX_BAD_ROWS."
    read = Check(READ_WELL, "Every line can be read, and every value has the type of its column.", blocking=False)
    if schema.accumulates:
        return [Check(WITHIN_LIMIT, share, blocking=False), read, *declared]
    return [
        Check(WITHIN_LIMIT, share, blocking=True),
        read,
        Check(
            USUAL_SIZE,
            f"The number of rows is between 1/{LARGEST_CHANGE} and {LARGEST_CHANGE} times the median of the last "
            f"{HISTORY} versions of the table.",
            blocking=False,
        ),
        *declared,
    ]


class Validator:
    """Stages and checks tables.

    Parameters
    ----------
    engine
        Reads and stages the rows.
    max_bad_rows
        Maximum share of bad rows, 0 to 1, up to which a source is published. For a CSV file, the share of bad lines.
    erased
        Function that returns the erased persons of a kind; None to ignore erasures.
    """

    def __init__(
        self, engine: Engine, max_bad_rows: float, erased: Callable[[str], ErasedSubjects] | None = None
    ) -> None:
        self._engine = engine
        self._max_bad_rows = max_bad_rows
        self._erased = erased

    def validate(
        self,
        schema: TableSchema,
        data: Frame | Expression | Rows | Landed | RowBatch,
        history: Sequence[TableVersion] = (),
    ) -> Validated:
        """Stage and check the rows that an asset returned. The files of a landed source are removed.

        A table that accumulates needs a `RowBatch`, which is released if an error is raised.

        Parameters
        ----------
        schema
            Schema of the table.
        data
            Its rows; for a source, the result of `land`.
        history
            Earlier versions of a source's table.

        Raises
        ------
        SourceError
            The source cannot be read or lacks a column.
        SchemaError
            A derived table does not have the declared columns, a source was not landed, a table that accumulates got
            no `RowBatch`, or another table got one.
        """
        if not isinstance(data, RowBatch):
            _demand_batch(schema, is_batch=False)
            return self._validated(schema, data, history)
        with ExitStack() as on_failure:
            on_failure.callback(data.release)
            _demand_batch(schema, is_batch=True)
            validated = replace(self._validated(schema, data.rows, history), batch=data)
            on_failure.pop_all()
        return validated

    def _validated(
        self, schema: TableSchema, data: Frame | Expression | Landed, history: Sequence[TableVersion]
    ) -> Validated:
        if isinstance(data, Landed):
            with data:
                _demand_source(schema, is_source=True)
                return self._from_outside(schema, data, history)
        _demand_source(schema, is_source=False)
        given = data if isinstance(data, Rows) else Rows(data)
        with ExitStack() as on_failure:
            rows = with_partition_key(conform(self._engine.as_expression(given.data), schema), schema)
            staged = on_failure.enter_context(self._engine.stage(rows, schema.partition_column))
            judgements = self._judge(schema, self._engine.staged(staged), schema.key, staged.rows)
            on_failure.pop_all()
        return Validated(staged, judgements, metadata=given.metadata, demo=given.demo)

    def _from_outside(self, schema: TableSchema, landed: Landed, history: Sequence[TableVersion]) -> Validated:
        with ExitStack() as on_failure:
            erased = self._erased(schema.subject.kind) if self._erased and schema.subject else None
            sifted = sift(landed, schema, self._engine, erased)
            with sifted:
                table = on_failure.enter_context(self._engine.stage(conform(sifted.good(), schema)))
                with reading(landed):
                    quarantine = on_failure.enter_context(self._engine.stage(quarantined(landed, sifted)))
                    lines = bad_lines(landed, sifted)
                erased_rows = sifted.erased_rows + sifted.bad_rows() - quarantine.rows
                judgements = [
                    *self._judge_bad_rows(schema, quarantine, table.rows, lines),
                    *([] if schema.accumulates else [_judge_size(table.rows, _alike(history, landed))]),
                    *self._judge(schema, sifted.readable(), tuple(landed.origin) or (LINE,), sifted.typed.rows),
                ]
            facts = _facts(landed, sifted, quarantine, self._engine, erased_rows)
            on_failure.pop_all()
        return Validated(table, judgements, quarantine, facts, landed.source.demo)

    def _judge(
        self, schema: TableSchema, rows: ir.Table, identified_by: tuple[str, ...], count: int
    ) -> list[Judgement]:
        if count > MOST_ROWS_IN_MEMORY or self._engine.is_on_cluster(rows):
            with self._engine.plain_errors():
                return judge_by_rules(rows, schema.expectations, identified_by)
        read = {name for expectation in schema.expectations for name in expectation.columns}
        frame = as_frame(rows.select(sorted(read | set(identified_by))))
        return judge(frame, schema.expectations, identified_by)

    def _judge_bad_rows(self, schema: TableSchema, quarantine: Staged, good: int, lines: int) -> list[Judgement]:
        bad = self._engine.staged(quarantine)
        unreadable = breaking(bad, reading_rules(schema))
        count = int(unreadable.count().to_pyarrow().as_py())
        total = good + lines
        share = lines / total if total else 0.0
        counted = "rows" if lines == quarantine.rows else "lines"
        return [
            Judgement(
                WITHIN_LIMIT,
                passed=share <= self._max_bad_rows,
                rows=total,
                broken=lines,
                samples=_samples(bad),
                observed=f"{share:.2%} of {total} {counted} are bad; the limit is {self._max_bad_rows:.2%}",
            ),
            Judgement(
                READ_WELL,
                passed=count == 0,
                rows=good + quarantine.rows,
                broken=count,
                samples=_samples(unreadable),
            ),
        ]


def _judge_size(rows: int, history: Sequence[TableVersion]) -> Judgement:
    """Compare the number of rows with that of earlier versions. Without earlier versions, the check passes."""
    if not history:
        return Judgement(USUAL_SIZE, passed=True, rows=rows)
    usual = median(version.rows for version in history)
    return Judgement(
        USUAL_SIZE,
        passed=usual <= rows * LARGEST_CHANGE and rows <= usual * LARGEST_CHANGE,
        rows=rows,
        observed=f"{rows} rows; the median of the last {len(history)} versions is {usual:g}",
    )


def _alike(history: Sequence[TableVersion], landed: Landed) -> list[TableVersion]:
    """Return the versions with the same kind of data as the source: demo data or real data."""
    return [version for version in history if bool(version.metadata.get("demo")) == landed.source.demo]


def _demand_batch(schema: TableSchema, *, is_batch: bool) -> None:
    if schema.accumulates != is_batch:
        declared = "accumulates" if schema.accumulates else "is replaced by each run"
        given = "a RowBatch" if is_batch else "rows without a batch number"
        raise SchemaError(f"{schema.name} {declared}, but its asset returned {given}; change one of them")


def _demand_source(schema: TableSchema, *, is_source: bool) -> None:
    if schema.source != is_source:
        declared = "a source" if schema.source else "derived"
        given = "a landed file" if is_source else "a frame or an expression"
        raise SchemaError(
            f"{schema.name} is declared as {declared}, but its asset returned {given}; change one of them"
        )


def _samples(bad: ir.Table) -> tuple[Mapping[str, Any], ...]:
    # The columns before `RULES` identify the file and line of a row.
    place = bad.columns[: bad.columns.index(RULES)]
    return tuple(bad.order_by(place).limit(SAMPLE_ROWS).to_pyarrow().to_pylist())


def _facts(landed: Landed, sifted: Sifted, quarantine: Staged, engine: Engine, erased: int) -> dict[str, Any]:
    return {
        "source": str(landed.source),
        "source_digest": landed.digest,
        **({"source_remarks": list(landed.remarks)} if landed.remarks else {}),
        "quarantined_rows": quarantine.rows,
        "quarantined_by_rule": dict(count_by_rule(engine.staged(quarantine))),
        "identical_rows_dropped": sifted.twins,
        **({"rows_of_erased_persons_dropped": erased} if erased else {}),
        "unknown_columns": list(sifted.unknown_columns),
    }


def conform(rows: ir.Table, schema: TableSchema) -> ir.Table:
    """Return the declared columns in order, with their types."""
    missing = [column.name for column in schema.columns if column.name not in rows.columns]
    unknown = [name for name in rows.columns if name not in {column.name for column in schema.columns}]
    if missing or unknown:
        raise SchemaError(
            f"the columns of {schema.name} differ from its declaration: missing {missing}, undeclared {unknown}; "
            "change the asset or the declaration"
        )
    return rows.select(**{column.name: rows[column.name].cast(column.type) for column in schema.columns})


def with_partition_key(rows: ir.Table, schema: TableSchema) -> ir.Table:
    """Add a column with the partition keys to the rows, if the schema computes the keys."""
    return rows.mutate(**{PARTITION: schema.partition_by(rows)}) if callable(schema.partition_by) else rows
