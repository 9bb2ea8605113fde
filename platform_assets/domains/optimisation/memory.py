"""Compress a table in memory without losing a value.

`shrink` takes a frame, `read_small` a file. Both return a `SmallTable`, whose columns are Arrow arrays, each in the
smallest form of `forms.py` that holds its values. Each stored column is decoded and compared with the original, bit for
bit. `sources.py` fetches files, and `reading.py` reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import SourceError
from platform_assets.domains.optimisation.column_space import ColumnSpace
from platform_assets.domains.optimisation.forms import Facts, is_text, restored, same, without_idle_mask
from platform_assets.domains.optimisation.reading import LARGE, one_by_one, open_table, plain_errors, sparing
from platform_assets.domains.optimisation.small_table import SmallColumn, SmallTable
from platform_assets.domains.optimisation.text_column import TextColumn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa

    from platform_assets.base.frames import Frame
    from platform_assets.domains.optimisation.reading import TableFile


def shrink(frame: Frame) -> SmallTable:
    """Store each column of a frame in the smallest form that reproduces every bit.

    Parameters
    ----------
    frame
        Any frame. It is not changed.
    """
    columns = tuple(_shrunk(str(label), frame.iloc[:, place]) for place, label in enumerate(frame.columns))
    return SmallTable(columns, len(frame), _labels=frame.columns, _index=frame.index)


def read_small(path: Path, encoding: str | None = None, types: Mapping[str, pa.DataType] | None = None) -> SmallTable:
    """Read a CSV or parquet file; only the small table and a small part of the file are in memory at a time.

    The file is read twice: first to infer the column types, then to fill the columns. If no type is given, a text
    column is converted to integers, float64 or booleans, or stays text, as in pandas. Unlike in pandas, no value is
    lost: `NA` in a text column stays text, a column of numbers with leading zeros or of integers beyond uint64 stays
    text, and an integer column with missing values stays integer.

    Parameters
    ----------
    path
        A local file: parquet, or comma-separated CSV with a header row and double quotes around quoted fields.
    encoding
        Text encoding of a CSV file; detected if None.
    types
        Column types by lower-case column name, for columns that are text in the file. A column stays text if a value
        does not fit.

    Raises
    ------
    SourceError
        The file is missing, is neither CSV nor parquet, cannot be decoded, or changed while it was read.
    """
    import pyarrow as pa

    with plain_errors(path), sparing():
        file = open_table(path, encoding)
        learned: list[TextColumn | Facts] = []
        for batch in one_by_one(file.batches(LARGE)):
            learned = learned or _learners(file, batch.schema.types, types or {})
            for column, facts in zip(batch.columns, learned, strict=True):
                facts.add(column)
        learned = learned or [Facts(pa.null()) for _ in file.names]
        plans = [_Plan(one) for one in learned]
        for batch in one_by_one(file.batches(1)):
            for column, plan in zip(batch.columns, plans, strict=True):
                plan.add(column, path)
        columns = tuple(plan.column(name) for name, plan in zip(file.names, plans, strict=True))
    return SmallTable(columns, plans[0].facts.rows, file.encoding, tuple(file.unread), tuple(file.jumps))


def _learners(
    file: TableFile, kinds: Sequence[pa.DataType], types: Mapping[str, pa.DataType]
) -> list[TextColumn | Facts]:
    declared = [types.get(name.strip().lower()) for name in file.names]
    return [
        TextColumn(stated) if file.encoding or (stated is not None and is_text(kind)) else Facts(kind)
        for kind, stated in zip(kinds, declared, strict=True)
    ]


class _Plan:
    """The second pass for one column: encodes the values incrementally, in the chosen form.

    Parameters
    ----------
    learned
        Facts about the column from the first pass.
    """

    def __init__(self, learned: TextColumn | Facts) -> None:
        self._texts = learned if isinstance(learned, TextColumn) else None
        self.facts = learned.facts() if isinstance(learned, TextColumn) else learned
        self._form = self.facts.forms()[0]
        self._space: ColumnSpace | None = None
        self._nested: list[pa.Array] = []
        self._encoded_texts: pa.Array | None = None
        if self._texts and self._texts.seen is not None:
            self._encoded_texts = self._encode(self._texts.seen)

    def _encode(self, column: pa.Array) -> pa.Array | None:
        """Return values in the chosen form; None if decoding would not give the same values."""
        values = self._texts.parse(column, self.facts.kind) if self._texts else column
        if values is None:
            return None
        encoded = self._form.encode(values)
        return encoded if same(restored(self._form.finish(encoded), self.facts.kind), values) else None

    def _look_up(self, column: pa.Array) -> pa.Array | None:
        """Like `_encode`, but look up the encoded form of each text; None if a text is new."""
        import pyarrow.compute as pc

        if self._texts is None or self._encoded_texts is None:
            return None
        places = pc.index_in(column, value_set=self._texts.seen)
        if places.null_count > column.null_count:
            return None
        return without_idle_mask(self._encoded_texts.take(places))

    def add(self, column: pa.Array, path: Path) -> None:
        """Encode and store the next values.

        Raises
        ------
        SourceError
            The values do not fit the facts of the first pass.
        """
        encoded = self._encode(column) if self._encoded_texts is None else self._look_up(column)
        if encoded is None:
            raise SourceError(f"{path} changed while it was being read; try again when no program writes to it")
        if ColumnSpace.fits(encoded.type):
            if self._space is None:
                self._space = ColumnSpace(encoded.type, self.facts)
            self._space.add(encoded)
        else:
            self._nested.append(encoded)

    def column(self, name: str) -> SmallColumn:
        """Return the column of all stored values."""
        import pyarrow as pa

        facts = self.facts
        if self._space:
            kept = self._space.array()
        else:
            kept = pa.concat_arrays(self._nested) if self._nested else pa.nulls(0, facts.kind)
        data = self._form.finish(kept)
        dtype = _pandas_type(facts.kind, has_nulls=facts.nulls > 0)
        shown = str(dtype or facts.kind)
        return SmallColumn(name, shown, self._form.name, facts.in_pandas, data.nbytes, data, facts.kind, dtype)


def _pandas_type(kind: pa.DataType, *, has_nulls: bool) -> Any:
    """Return the pandas dtype for an Arrow type, nullable if values are missing. Return None to let pandas decide."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    if pa.types.is_boolean(kind):
        return pd.BooleanDtype() if has_nulls else np.dtype(bool)
    if pa.types.is_integer(kind):
        name = str(kind)
        return pd.api.types.pandas_dtype(name.replace("uint", "UInt").replace("int", "Int") if has_nulls else name)
    if pa.types.is_floating(kind):
        return np.dtype(kind.to_pandas_dtype())
    return pd.StringDtype(na_value=np.nan) if is_text(kind) else None


def _shrunk(name: str, series: pd.Series[Any]) -> SmallColumn:
    before = int(series.memory_usage(index=False, deep=True))
    values = _in_arrow(series)
    if values is not None:
        facts = Facts(values.type)
        facts.add(values)
        for form in facts.forms():
            data = form.finish(form.encode(values))
            if same(restored(data, values.type), values):
                column = SmallColumn(
                    name, str(series.dtype), form.name, before, data.nbytes, data, values.type, series.dtype
                )
                if _same_series(column.series(), series):
                    return column
                break
    return SmallColumn(name, str(series.dtype), "unchanged", before, before, series, None, series.dtype)


def _in_arrow(series: pd.Series[Any]) -> pa.Array | None:
    """Return a column as an Arrow array; None if Arrow has no type for it."""
    import pandas as pd
    import pyarrow as pa

    try:
        if series.dtype == object:
            kinds = {type(value) for value in series} - {type(None)}
            # Mixed types stay in pandas, because Arrow would convert them to one type.
            return pa.array(series.tolist(), from_pandas=False) if len(kinds) == 1 else None
        if isinstance(series.dtype, pd.DatetimeTZDtype):
            # Convert by hand, because Arrow's conversion uses an interface that pandas deprecates.
            naive = pa.array(series.dt.tz_convert(None))
            return naive.cast(pa.timestamp(series.dtype.unit, str(series.dtype.tz)))
        found = pa.array(series)
        return pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None


def _same_series(series: pd.Series[Any], other: pd.Series[Any]) -> bool:
    import numpy as np

    if series.dtype != other.dtype:
        return False
    if other.dtype == object:
        return all(type(a) is type(b) and (a == b or a != a) for a, b in zip(series, other, strict=True))  # noqa: PLR0124 - NaN is not itself
    if isinstance(other.dtype, np.dtype) and other.dtype.kind == "f":
        a, b = series.to_numpy(), other.to_numpy()
        return bool((((a == b) & (np.signbit(a) == np.signbit(b))) | (np.isnan(a) & np.isnan(b))).all())
    return series.reset_index(drop=True).equals(other.reset_index(drop=True))
