"""Erase a person's rows from a table of the lake, including the files of earlier versions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.engine.staged_files import WHOLE
from platform_assets.lake.lineage import Lineage
from platform_assets.lake.table_versions import TableVersion

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import ibis.expr.types as ir
    import pyarrow as pa
    from deltalake import DeltaTable

    from platform_assets.engine.query_engine import Engine
    from platform_assets.lake.delta_tables import TableStore


Renumbered = tuple[int, TableVersion]
"""The current version of a table before and after an erasure."""


@dataclass(frozen=True)
class SubjectColumn:
    """The column of a table that identifies a person.

    Attributes
    ----------
    table
        The table in the lake.
    column
        The column with the id, or with a text that contains it.
    is_text
        Whether the column contains text in which the id may occur, such as the text of a quarantined row.
    """

    table: str
    column: str
    is_text: bool = False

    def names(self, values: pa.ChunkedArray, subject: str) -> bool:
        """Return whether any value is the person's id, or a text that contains the id as a word."""
        import pyarrow as pa
        import pyarrow.compute as pc

        texts = values.cast(pa.string())
        found = pc.match_substring_regex(texts, word(subject)) if self.is_text else pc.equal(texts, subject)
        return bool(pc.any(found).as_py())

    def others(self, rows: ir.Table, subject: str) -> ir.Table:
        """Return the rows that are not about the person."""
        text = rows[self.column].cast("string")
        found = text.re_search(word(subject)) if self.is_text else text == subject
        return rows.filter(~found.fill_null(False))  # noqa: FBT003 - Ibis takes no keyword


@dataclass(frozen=True)
class ErasedRows:
    """Result of erasing a person's rows from a table.

    Attributes
    ----------
    rows
        Number of rows that were removed from the current version.
    renumbered
        Numbers of the current version before and after the erasure; None if the person was not in the current version.
    """

    rows: int
    renumbered: Renumbered | None = None


@dataclass(frozen=True)
class VersionsWith:
    """The versions of a table that contain a person.

    Attributes
    ----------
    is_found
        Whether any data file of the table contains the person.
    numbers
        Numbers of the versions that contain the person.
    unknown
        Numbers of the versions that cannot be searched, because their files were removed when another person was
        erased.
    """

    is_found: bool = False
    numbers: frozenset[int] = frozenset()
    unknown: frozenset[int] = frozenset()


def word(subject: str) -> str:
    """Return a regular expression that matches an id as a whole word, for Arrow, DuckDB and Python."""
    return rf"(^|[^0-9A-Za-z_-]){re.escape(subject)}($|[^0-9A-Za-z_-])"


def versions_with(tables: TableStore, place: SubjectColumn, subject: str) -> VersionsWith:
    """Return the versions that contain a person. Erasing the person makes these versions unreadable.

    Parameters
    ----------
    tables
        Store of the tables in the lake.
    place
        The table and its column.
    subject
        The person's id.

    Raises
    ------
    TableError
        The table cannot be read.
    """
    name = place.table
    if not tables.exists(name):
        return VersionsWith()
    with tables.location.plain_errors(name, "was not read"):
        dirty, there = _files_with(tables, place, subject), _data_files(tables, name)
        files = {version.version: _files_of(tables, version) for version in tables.versions(name)}
    return VersionsWith(
        is_found=bool(dirty),
        numbers=frozenset(number for number, of_version in files.items() if dirty & of_version),
        unknown=frozenset(number for number, of_version in files.items() if of_version - there),
    )


def erase_rows(
    tables: TableStore,
    engine: Engine,
    place: SubjectColumn,
    subject: str,
    inputs: Mapping[str, tuple[int, TableVersion]],
) -> ErasedRows:
    """Publish the table without the person, and remove every data file that contains the person.

    Versions without the person stay readable. Active writers are not interrupted, but a writer that has read the rows
    before the erasure cannot publish, because there is a newer version.

    Parameters
    ----------
    tables, engine
        The lake and its query engine.
    place
        The table and its column.
    subject
        The person's id.
    inputs
        For each table that was already processed: the number of its current version before the erasure, and the version
        after it.

    Raises
    ------
    TableError
        The table cannot be read or written.
    """
    name = place.table
    if not tables.exists(name):
        return ErasedRows(0)
    location = tables.location
    with location.plain_errors(name, "was not erased"):
        dirty = _files_with(tables, place, subject)
        if not dirty:
            return ErasedRows(0)
        current, rows, renumbered = tables.current(name), 0, None
        if current and dirty & _files_of(tables, current):
            lineage = _lineage(tables, current, inputs)
            with engine.stage(place.others(tables.scan(name), subject)) as staged:
                rows = current.rows - staged.rows
                new = tables.publish(name, staged, metadata=current.metadata, lineage=lineage)
            renumbered = current.version, new
        files = location.files(name)
        for path in sorted(dirty):
            files.delete_file(path)
    return ErasedRows(rows, renumbered)


def _lineage(
    tables: TableStore, current: TableVersion, inputs: Mapping[str, tuple[int, TableVersion]]
) -> Lineage | None:
    """Return the inputs of the current version. An input that the erasure replaced has its new version number."""
    made_from = current.made_from.get(WHOLE, {})
    if not made_from:
        return None
    read: dict[str, TableVersion | None] = {}
    for table, number in made_from.items():
        before, after = inputs.get(table, (None, None))
        read[table] = after if after and before == number else TableVersion(table, number, "", 0, current.committed_at)

    def newest(name: str) -> int | None:
        version = tables.current(name)
        return version.version if version else None

    return Lineage(read, current, newest)


def subjects_in_files(tables: TableStore, name: str, column: str) -> set[str]:
    """Return the ids in all data files of a table, including earlier versions; empty if there is no such table."""
    if not tables.exists(name):
        return set()
    found = (values.unique().to_pylist() for _, values in _columns(tables, name, column))
    return {str(value) for values in found for value in values if value is not None}


def _files_with(tables: TableStore, place: SubjectColumn, subject: str) -> set[str]:
    columns = _columns(tables, place.table, place.column)
    return {path for path, values in columns if place.names(values, subject)}


def _columns(tables: TableStore, name: str, column: str) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """Yield each data file's path and its values of a column. Files that no version refers to are included."""
    import pyarrow.parquet as pq

    files = tables.location.files(name)
    for path in sorted(_data_files(tables, name)):
        with files.open_input_file(path) as file:
            rows = pq.ParquetFile(file)
            if column in rows.schema_arrow.names:
                for group in range(rows.num_row_groups):
                    yield path, rows.read_row_group(group, [column])[column]


def _data_files(tables: TableStore, name: str) -> set[str]:
    import pyarrow.fs as pafs

    found = tables.location.files(name).get_file_info(pafs.FileSelector(""))
    return {info.path for info in found if info.is_file and info.path.endswith(".parquet")}


def _files_of(tables: TableStore, version: TableVersion) -> set[str]:
    import pyarrow as pa

    table: DeltaTable | None = tables.location.find(version.name)
    assert table is not None  # noqa: S101 - the version was read from its log
    table.load_as_version(version.version)
    actions: list[dict[str, Any]] = pa.table(table.get_add_actions(flatten=True)).select(["path"]).to_pylist()
    return {action["path"] for action in actions}
