"""Write landed rows as a parquet file: the source's columns, and the platform's own columns about each row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from platform_assets.base.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    import pyarrow as pa

    from platform_assets.landing.source_files import Source

LINE = "source_line"
"""Line of a CSV file on which the row begins (the header is line 1), or the number of the row from 1."""
ERROR = "source_error"
"""Why the whole row cannot be read; null for a readable row."""
TEXT = "source_text"
"""Text of an unreadable row; null for a readable row. Bytes that are not UTF-8 are escaped."""
LINES = "source_lines"
"""Number of lines of the row; only for CSV."""
UNREADABLE = "source_unreadable"
"""Names of the row's columns whose bytes are not UTF-8 text, as a list; only for formats with byte values."""
OWN = (LINE, ERROR, TEXT, LINES, UNREADABLE)
_BUFFERED_BYTES = 1 << 24


def named(columns: Sequence[str], source: Source) -> list[str]:
    """Return column names in lower case without surrounding whitespace, as schemas write them.

    An empty name, as pandas gives to an index column, becomes `unnamed_<place>`. A name that the platform uses for a
    column of its own gets the suffix `_of_source`.

    Raises
    ------
    SourceError
        Two columns have the same name.
    """
    names = [name.strip().lower() or f"unnamed_{place}" for place, name in enumerate(columns, start=1)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise SourceError(f"{source} has the columns {doubled} more than once; rename or drop all but one of each")
    for place, name in enumerate(names):
        if name in OWN:
            free = f"{name}_of_source"
            while free in names:
                free += "_"
            names[place] = free
    return names


class RowWriter:
    """Buffers batches of rows and writes them together. A context manager.

    Parameters
    ----------
    target
        The parquet file to write.
    columns
        Names and types of the source's columns.
    own
        The platform's optional columns to write, `LINES` or `UNREADABLE`.
    """

    def __init__(self, target: Path, columns: Sequence[tuple[str, pa.DataType]], *own: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {LINES: pa.int32(), UNREADABLE: pa.list_(pa.string())}
        fields = [(LINE, pa.int64()), (ERROR, pa.string()), (TEXT, pa.string()), *((name, types[name]) for name in own)]
        self.schema = pa.schema([*fields, *columns])
        self.rows = 0
        self._writer = pq.ParquetWriter(target, self.schema)
        self._waiting: list[pa.RecordBatch] = []
        self._bytes = 0

    def write(self, values: Mapping[str, Any], rows: int) -> None:
        """Add rows. A column without values is null.

        Parameters
        ----------
        values
            Arrays or lists by column name.
        rows
            Number of rows.
        """
        import pyarrow as pa

        if not rows:
            return
        columns = [_as(values.get(field.name), field.type, rows) for field in self.schema]
        batch = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        self.rows += rows
        self._waiting.append(batch)
        self._bytes += batch.nbytes
        if self._bytes > _BUFFERED_BYTES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting))
            self._waiting, self._bytes = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()


def _as(values: Any, kind: pa.DataType, rows: int) -> pa.Array:
    import pyarrow as pa

    if values is None:
        return pa.nulls(rows, kind)
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, kind)
