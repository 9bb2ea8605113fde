"""Find the rows from which an answer was computed, with their source file and line."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from platform_assets.base.errors import PlatformError, first_line
from platform_assets.lake.field_types import typed_rows
from platform_assets.lake.table_versions import SOURCE_DIGEST
from platform_assets.landing.row_writer import LINE, OWN
from platform_assets.landing.zone_batch import FILE_DIGEST, FILE_LINE, FILE_NAME
from platform_assets.monitoring.trace.results import RowsOfTable, SourceRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import ibis.expr.types as ir

    from platform_assets.engine.query_engine import Engine
    from platform_assets.lake.ancestry import Ancestor
    from platform_assets.lake.delta_tables import TableStore
    from platform_assets.landing.declared_sources import Sources
    from platform_assets.landing.landed_rows import Landed
    from platform_assets.monitoring.trace.declarations import RowsBehind

MOST_ROWS = 100
"""Maximum number of rows of one table in the trace of an answer."""


class SourceRows:
    """Reader of the rows from which answers were computed.

    Use it as a context manager: it reads each source at most once, and removes its temporary files at the end.

    Parameters
    ----------
    tables
        Store of the tables in the lake.
    sources
        The sources of raw data.
    engine
        The query engine.
    """

    def __init__(self, tables: TableStore, sources: Sources, engine: Engine) -> None:
        self._tables = tables
        self._sources = sources
        self._engine = engine
        self._landed: dict[Any, Landed] = {}
        self._held = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def find(
        self, behind: RowsBehind, ancestor: Ancestor, answer: Mapping[str, Any], features: Mapping[str, Any]
    ) -> RowsOfTable:
        """Return the rows of one table from which an answer was computed.

        Parameters
        ----------
        behind
            Declaration of the rows.
        ancestor
            Version of the table.
        answer
            Stored values of the answer by column.
        features
            The features that the model received.
        """
        name = behind.table.name
        if ancestor.version is None or ancestor.missing:
            return RowsOfTable(name, ancestor.number, missing=[ancestor.missing])
        try:
            found = behind.rows(self._tables.scan(name, version=ancestor.number), answer)
            rows = found.order_by(list(behind.table.key)).limit(MOST_ROWS).to_pyarrow().to_pylist()
            more = int(found.count().to_pyarrow().as_py()) - len(rows)
        except PlatformError as error:
            return RowsOfTable(name, ancestor.number, missing=[str(error)])
        if not rows:
            return RowsOfTable(
                name, ancestor.number, missing=[f"version {ancestor.number} of {name} does not contain the row"]
            )
        missing: list[str] = []
        placed = [_landed_row(row) for row in rows]
        if behind.read:
            placed, missing = self._in_file(behind, ancestor, answer, rows)
        return RowsOfTable(name, ancestor.number, placed, more, _equal(rows, features), missing)

    def _in_file(
        self, behind: RowsBehind, ancestor: Ancestor, answer: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
    ) -> tuple[list[SourceRow], list[str]]:
        """Return the rows with their lines in the source file, and messages about what could not be determined."""
        assert ancestor.version is not None  # noqa: S101 - narrows the type
        assert behind.read is not None  # noqa: S101 - narrows the type
        metadata = ancestor.version.metadata
        digest, file = metadata.get(SOURCE_DIGEST), metadata.get("source")
        plain = [SourceRow(row, file, digest) for row in rows]
        if digest is None:
            return plain, [f"version {ancestor.number} of {ancestor.name} does not record its source file"]
        try:
            if behind.read not in self._landed:
                self._landed[behind.read] = self._held.enter_context(behind.read(self._sources, self._engine))
            landed = self._landed[behind.read]
            if landed.digest != digest:
                why = (
                    f"the lines are unknown, because {landed.source} has changed (SHA-256 is now {landed.digest}); "
                    f"to find them, restore the file with SHA-256 {digest} and trace again"
                )
                return plain, [why]
            lines = _lines(behind, landed, answer)
        except PlatformError as error:
            return plain, [f"the lines are unknown, because the source cannot be read: {first_line(error)}"]
        key = behind.table.key
        found = [SourceRow(row, file, digest, *lines.get(_key(row, key), (None, None))) for row in rows]
        return found, []


def _lines(
    behind: RowsBehind, landed: Landed, answer: Mapping[str, Any]
) -> dict[tuple[Any, ...], tuple[int, dict[str, Any]]]:
    """Return the first line of each key in a source file: by key, the line's number and its unconverted values."""
    key = behind.table.key
    rows = behind.rows(typed_rows(landed.rows, behind.table), answer)
    keys = rows.select(*key, LINE).order_by(LINE).to_pyarrow().to_pylist()
    raw = _raw_rows(landed.rows, [row[LINE] for row in keys])
    found: dict[tuple[Any, ...], tuple[int, dict[str, Any]]] = {}
    for row in keys:
        found.setdefault(_key(row, key), (row[LINE], raw[row[LINE]]))
    return found


def _raw_rows(rows: ir.Table, lines: Sequence[int]) -> dict[int, dict[str, Any]]:
    own = [name for name in OWN if name != LINE and name in rows.columns]
    found = rows.filter(rows[LINE].isin(lines)).drop(*own).to_pyarrow().to_pylist()
    return {row.pop(LINE): row for row in found}


def _landed_row(row: Mapping[str, Any]) -> SourceRow:
    return SourceRow(row, row.get(FILE_NAME), row.get(FILE_DIGEST), row.get(FILE_LINE))


def _key(row: Mapping[str, Any], key: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in key)


def _equal(rows: Sequence[Mapping[str, Any]], features: Mapping[str, Any]) -> bool | None:
    """Return whether the only row contains the features that the model received.

    Return None if there are several rows, or if the row does not have all features.
    """
    if len(rows) != 1 or not features or not set(features) <= set(rows[0]):
        return None
    return all(rows[0][name] == value for name, value in features.items())
