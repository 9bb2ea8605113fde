"""Tables of landing zones: the columns that describe a row's file, and the files whose rows are in a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.lake.schemas import Column
from platform_assets.landing.zone_batch import FILE_DIGEST, FILE_LINE, FILE_NAME, LANDED_AT

if TYPE_CHECKING:
    from collections.abc import Collection

    from platform_assets.lake.delta_tables import TableStore
    from platform_assets.lake.schemas import TableSchema

FILE_COLUMNS = (
    Column(FILE_DIGEST, "string", "SHA-256 of the file's bytes, which identifies the file."),
    Column(FILE_LINE, "int64", "Line of the file; the header is line 1."),
    Column(FILE_NAME, "string", "Path in the landing zone from which the file was read."),
)
"""Columns of a landing zone's table that say where a row comes from. The first two are the key."""
LANDED_AT_COLUMN = Column(LANDED_AT, "timestamp('UTC')", "Time at which the file landed.")
"""Column of a landing zone's table with the time of the batch."""


@dataclass(frozen=True)
class LandedFiles:
    """The files whose rows are in the lake. Each query reads the whole table, so a run queries only after a crash.

    Parameters
    ----------
    tables
        Store of the tables in the lake.
    schema
        Schema of the table.
    """

    tables: TableStore
    schema: TableSchema

    def last_batch(self) -> int:
        """Return the number of the last batch in the table; 0 if there is none."""
        return self.tables.last_batch(self.schema.name)

    def last_quarantined_batch(self) -> int:
        """Return the number of the last batch in the quarantine; 0 if there is none."""
        return self.tables.last_batch(self.schema.quarantine)

    def files(self, digests: Collection[str] | None = None) -> dict[str, str]:
        """Return, by digest, the names of the files with rows in the table; if digests are given, only for these."""
        return self._files(self.schema.name, digests)

    def quarantined_files(self) -> dict[str, str]:
        """Return, by digest, the name of each file that has rows in the quarantine."""
        return self._files(self.schema.quarantine, None)

    def _files(self, table: str, digests: Collection[str] | None) -> dict[str, str]:
        if not self.tables.exists(table):
            return {}
        rows = self.tables.scan(table)
        if digests is not None:
            rows = rows.filter(rows[FILE_DIGEST].isin(sorted(digests)))
        found = rows.group_by(FILE_DIGEST).agg(file_name=rows[FILE_NAME].min()).to_pyarrow()
        return dict(zip(found.column(FILE_DIGEST).to_pylist(), found.column(FILE_NAME).to_pylist(), strict=True))
