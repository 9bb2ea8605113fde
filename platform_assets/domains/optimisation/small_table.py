"""A table in memory, with each column in the smallest form of `forms.py` that keeps its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.domains.optimisation.forms import restored

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame
    from platform_assets.landing.csv_records import Unread


@dataclass(frozen=True)
class SmallColumn:
    """One column of a small table.

    Attributes
    ----------
    name
        Name of the column.
    type
        Type of the original column.
    form
        Form in which it is stored.
    before
        Bytes in pandas, including objects.
    after
        Bytes in the stored form, including a dictionary.
    data
        The values; the original pandas series if Arrow cannot hold them, e.g. a list of mixed types.
    """

    name: str
    type: str
    form: str
    before: int
    after: int
    data: pa.Array | pd.Series[Any]
    _stands_for: pa.DataType | None
    _dtype: Any

    def values(self) -> pa.Array:
        """Return the values in a form that a query engine reads correctly."""
        import pyarrow as pa

        is_number = self._stands_for is not None and not pa.types.is_boolean(self._stands_for)
        return self.data.cast(pa.uint8()) if is_number and pa.types.is_boolean(self.data.type) else self.data

    def series(self) -> pd.Series[Any]:
        """Return the original column."""
        if self._stands_for is None:
            return self.data
        return in_pandas(restored(self.data, self._stands_for), self._dtype)


@dataclass(frozen=True)
class SmallTable:
    """A table with each column in its smallest form.

    Attributes
    ----------
    columns
        The columns in order.
    rows
        Number of rows.
    encoding
        Text encoding of a CSV file; empty for a frame or a parquet file.
    unread
        Lines of the CSV file that could not be parsed as rows.
    jumps
        Row index and line number of the first row, and of each row whose line number is not one more than that of the
        previous row, for example because the previous row spans several lines.
    """

    columns: tuple[SmallColumn, ...]
    rows: int
    encoding: str = ""
    unread: tuple[Unread, ...] = ()
    jumps: tuple[tuple[int, int], ...] = ()
    _labels: Any = None
    _index: Any = None

    @property
    def nbytes(self) -> int:
        """Bytes of all columns, without the index of a frame, which is not compressed."""
        return sum(column.after for column in self.columns)

    @property
    def arrow(self) -> pa.Table:
        """The columns in their stored forms, without a copy. Columns that Arrow cannot hold are left out.

        DuckDB and Ibis read the original values: a decimal is read as the number, a dictionary as the text. Numbers
        that are stored as one bit are copied to bytes, because an engine would read them as booleans.
        """
        import pyarrow as pa

        held = [column for column in self.columns if isinstance(column.data, pa.Array)]
        return pa.Table.from_arrays([column.values() for column in held], names=[column.name for column in held])

    def lines(self) -> NDArray[np.int64]:
        """Return the line of the CSV file on which each row begins; for other tables, return row numbers from 1.

        The header of a CSV file is line 1.
        """
        import numpy as np

        jumps = self.jumps or ((0, 1),)
        begin = np.array([row for row, _ in jumps])
        lead = np.array([line - row for row, line in jumps])
        lines: NDArray[np.int64] = np.arange(self.rows) + np.repeat(lead, np.diff(begin, append=self.rows))
        return lines

    def frame(self) -> Frame:
        """Return the original frame with the same values and types."""
        import pandas as pd

        index = pd.RangeIndex(self.rows) if self._index is None else self._index
        columns = {place: column.series().set_axis(index) for place, column in enumerate(self.columns)}
        frame = pd.DataFrame(columns, index=index)
        frame.columns = pd.Index([column.name for column in self.columns]) if self._labels is None else self._labels
        return frame


def in_pandas(values: pa.Array, dtype: Any) -> pd.Series[Any]:
    """Return Arrow values as a pandas series of a dtype."""
    import numpy as np
    import pandas as pd

    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        return pd.Series(values.to_pylist(), dtype=object)
    if isinstance(dtype, np.dtype) and dtype.kind in "fiub":
        return pd.Series(values.to_numpy(zero_copy_only=False).astype(dtype))
    mapper = {values.type: dtype}.get if hasattr(dtype, "__from_arrow__") else None
    series: pd.Series[Any] = values.to_pandas(types_mapper=mapper)
    return series if dtype is None or series.dtype == dtype else series.astype(dtype)
