"""Assemble a trace: the answers recorded under an id, and the rows, tables and models that produced them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from platform_assets.base.errors import NotFound
from platform_assets.base.json_values import as_json
from platform_assets.lake.ancestry import Ancestor, Ancestry, grouped
from platform_assets.lake.table_versions import SOURCE, SOURCE_DIGEST
from platform_assets.monitoring.trace.answers import batches_of, find_answers, recorded_inputs, scores_of_shadows
from platform_assets.monitoring.trace.results import RowsOfTable, Trace, TracedAnswer, TracedTable
from platform_assets.monitoring.trace.source_rows import SourceRows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from platform_assets.engine.query_engine import Engine
    from platform_assets.lake.delta_tables import TableStore
    from platform_assets.landing.declared_sources import Sources
    from platform_assets.monitoring.trace.answers import Connect, FoundAnswer
    from platform_assets.monitoring.trace.declarations import TracedAnswers
    from platform_assets.monitoring.trace.models import ModelRecords

MOST_ANSWERS = 10
"""Maximum number of answers in one trace."""


@dataclass(frozen=True)
class Tracer:
    """Service that traces answers.

    Parameters
    ----------
    connect
        Function that returns a context manager with a connection to the platform's database.
    declared
        The kinds of answers that the domains declare.
    tables, sources, engine
        The lake, the sources of raw data, and the query engine.
    records
        Reader of the recorded facts about model versions.
    """

    connect: Connect
    declared: Sequence[TracedAnswers]
    tables: TableStore
    sources: Sources
    engine: Engine
    records: ModelRecords

    def trace(self, wanted: str, number: int | None = None) -> Trace:
        """Trace the answers recorded under an id.

        Parameters
        ----------
        wanted
            Id of a request, or of a stored answer.
        number
            Number of the answer to trace, from 1; None to trace the first `MOST_ANSWERS` answers.

        Raises
        ------
        NotFound
            No answer has this id.
        DatabaseError
            The database does not respond.
        """
        found, total = find_answers(self.connect, self.declared, wanted, number, MOST_ANSWERS)
        if not found:
            raise _not_found(wanted, number, total)
        ancestry = Ancestry(self.tables)
        with SourceRows(self.tables, self.sources, self.engine) as rows:
            answers = [self._traced(ancestry, rows, one) for one in found]
        versions = dict.fromkeys((one.model, one.version, one.approval_id) for one in answers)
        models = [self.records.trace(*one) for one in versions]
        named = [
            *(pair for answer in answers for pair in answer.inputs.items()),
            *(pair for model in models for pair in model.tables.items()),
            *((one.table, one.version) for answer in answers for one in answer.rows if one.version is not None),
        ]
        everything = ancestry.closure(grouped(named))
        tables = [_table(ancestry.find(name, one)) for name in sorted(everything) for one in sorted(everything[name])]
        return Trace(wanted, total, answers, models, tables)

    def _traced(self, ancestry: Ancestry, rows: SourceRows, found: FoundAnswer) -> TracedAnswer:
        stored = found.stored
        inputs, missing = self._inputs(found)
        of_tables = self._rows_behind(ancestry, rows, found, inputs)
        features = found.features
        if not features and of_tables and of_tables[0].rows:
            features = {name: of_tables[0].rows[0].values[name] for name in found.in_rows}
        return TracedAnswer(
            model=found.model,
            version=found.row[stored.version],
            approval_id=found.row[stored.approval],
            at=found.row[stored.at],
            caller=found.value(stored.caller),
            subject=None if found.value(stored.subject) is None else str(found.value(stored.subject)),
            answer=as_json(found.answer),
            features=as_json(features),
            read_from=found.value(stored.read_from),
            inputs=inputs,
            rows=of_tables,
            shadows=scores_of_shadows(self.connect, found),
            missing=missing,
        )

    def _inputs(self, found: FoundAnswer) -> tuple[dict[str, int], list[str]]:
        """Return the table versions from which the features were computed, and messages about what is missing."""
        stored = found.stored
        if stored.inputs:
            inputs = found.row[stored.inputs]
            return dict(inputs or {}), [] if inputs else ["the source tables of the features were not recorded"]
        if not (read_from := found.value(stored.read_from)):
            is_known = stored.read_from or found.behind
            return {}, [] if is_known else [f"{stored.name} does not record the source tables of its features"]
        inputs = recorded_inputs(self.connect, read_from)
        if not inputs:
            return {}, [f"the source tables of {read_from} were not recorded"]
        return inputs, []

    def _rows_behind(
        self, ancestry: Ancestry, reader: SourceRows, found: FoundAnswer, inputs: Mapping[str, int]
    ) -> list[RowsOfTable]:
        everything = ancestry.closure({name: {version} for name, version in inputs.items()})
        rows = []
        for behind in found.behind:
            name, accumulates = behind.table.name, behind.table.accumulates
            # If a table accumulates, runs only add rows, so the newest version contains the rows of all versions.
            number = max(everything.get(name, ()), default=ancestry.newest(name) if accumulates else None)
            if number is None:
                why = f"this answer was computed from {name}, but the version of this table was not recorded"
                rows.append(RowsOfTable(name, None, missing=[why]))
                continue
            of_table = reader.find(behind, ancestry.find(name, number), found.row, found.features)
            rows.append(self._as_added(ancestry, of_table) if accumulates else of_table)
        return rows

    def _as_added(self, ancestry: Ancestry, found: RowsOfTable) -> RowsOfTable:
        """Return rows of a table that accumulates, with `version` set to the version that added them."""
        digests = {row.file_digest for row in found.rows if row.file_digest}
        batches = {batch for digest in digests for batch in batches_of(self.connect, digest)}
        version = ancestry.version_of_batch(found.table, batches)
        return found if version is None else replace(found, version=version)


def _not_found(wanted: str, number: int | None, total: int) -> NotFound:
    if total and number is not None:
        answers = "1 answer" if total == 1 else f"{total:,} answers"
        return NotFound(f"{wanted} has {answers}, so there is no answer {number}; give a number from 1 to {total:,}")
    return NotFound(
        f"no answer with the id {wanted!r} is stored. Give the X-Request-ID of a response, or the id of a stored "
        "answer, such as <file digest>:<line> of a prediction for a file. An answer is logged shortly after its "
        "response, and deleted after PLATFORM_PREDICTIONS_DAYS"
    )


def _table(ancestor: Ancestor) -> TracedTable:
    version = ancestor.version
    if version is None:
        return TracedTable(ancestor.name, ancestor.number, missing=ancestor.missing)
    metadata = version.metadata
    return TracedTable(
        name=ancestor.name,
        version=ancestor.number,
        digest=version.digest,
        rows=version.rows,
        committed_at=version.committed_at,
        run=metadata.get("run"),
        code=metadata.get("code"),
        demo=metadata.get("demo"),
        source=metadata.get(SOURCE),
        source_digest=metadata.get(SOURCE_DIGEST),
        inputs={name: sorted(numbers) for name, numbers in ancestor.inputs.items()},
        missing=ancestor.missing,
        undone=ancestor.undone,
    )
