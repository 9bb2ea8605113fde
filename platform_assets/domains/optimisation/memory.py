"""Tables in as little memory as their values allow, without losing one of them.

`shrink` takes a frame, `read_small` a file; both give a `SmallTable`, whose columns are Arrow arrays, each in
the smallest of the forms of `forms.py`. That a form loses nothing is not believed but tried: what is stored is turned
back and compared, bit for bit. Where files come from is for `sources.py`, how they are read for `reading.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import SourceError
from platform_assets.domains.optimisation.forms import Facts, bits_of, is_text, restored, same, width_of
from platform_assets.domains.optimisation.reading import (
    learn,
    one_by_one,
    open_table,
    parsed,
    plain_errors,
    possible_types,
    sparing,
)
from platform_assets.domains.optimisation.small_table import SmallColumn, SmallTable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame


def shrink(frame: Frame) -> SmallTable:
    """Put each column of a frame into the smallest form that gives back every bit of it.

    Parameters
    ----------
    frame
        Any frame; it is not changed.
    """
    columns = tuple(_shrunk(str(label), frame.iloc[:, place]) for place, label in enumerate(frame.columns))
    return SmallTable(columns, len(frame), _labels=frame.columns, _index=frame.index)


def read_small(path: Path, encoding: str | None = None) -> SmallTable:
    """Read a CSV or parquet file without ever holding more than the small table and a part of the file.

    The file is read twice: first to learn what the columns hold, then to fill them. In a CSV file a column is of
    whole numbers, numbers (float64), truth values or texts, as in pandas, but for what pandas loses: texts such as
    `NA` stay texts, so do numbers with leading zeros and whole numbers that neither int64 nor uint64 holds, and
    whole numbers stay whole where some are missing.

    Parameters
    ----------
    path
        A local file; CSV with commas, double quotes and a header, or parquet.
    encoding
        Of a CSV file; detected when None.

    Raises
    ------
    SourceError
        The file is missing, is neither, cannot be decoded, or changed while it was read.

    """
    import pyarrow as pa

    with plain_errors(path), sparing():
        file = open_table(path, encoding)
        facts: list[dict[pa.DataType, Facts]] = []
        for batch in one_by_one(file.batches()):
            facts = facts or [possible_types(column.type, is_stated=not file.encoding) for column in batch.columns]
            for column, possible in zip(batch.columns, facts, strict=True):
                learn(column, possible)
        plans = [_Plan(_likeliest(possible)) for possible in facts] or [_Plan(Facts(pa.null())) for _ in file.names]
        for batch in one_by_one(file.batches()):
            for column, plan in zip(batch.columns, plans, strict=True):
                plan.add(column, path)
        columns = tuple(plan.column(name) for name, plan in zip(file.names, plans, strict=True))
    return SmallTable(columns, plans[0].facts.rows, file.encoding, tuple(file.unread), tuple(file.jumps))


def _likeliest(possible: dict[pa.DataType, Facts]) -> Facts:
    import pyarrow as pa

    *_, last = possible.values()
    if last.rows == last.nulls and len(possible) > 1:
        return possible[pa.float64()]  # as in pandas, where there is no value at all
    found = next(facts for facts in possible.values() if facts.rows > facts.nulls or facts is last)
    if found is not last and last.distinct is not None:
        values = parsed(last.distinct, found.kind)
        found.distinct = None if values is None else bits_of(values.drop_null()).unique()
    return found


class _Plan:
    """How a column of a file is kept; takes its values part by part.

    Parameters
    ----------
    facts
        What the column holds.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._form = facts.forms()[0]
        self._kept: _Space | None = None
        self._nested: list[pa.Array] = []

    def add(self, column: pa.Array, path: Path) -> None:
        """Keep some more values.

        Raises
        ------
        SourceError
            They are not those of the first reading.
        """
        values = parsed(column, self.facts.kind)
        encoded = None if values is None else self._form.encode(values)
        if encoded is None or not same(restored(self._form.finish(encoded), self.facts.kind), values):
            raise SourceError(f"{path} changed while it was read; read it again when nobody writes to it")
        if _Space.fits(encoded.type):
            if self._kept is None:
                self._kept = _Space(encoded.type, self.facts)
            self._kept.add(encoded)
        else:
            self._nested.append(encoded)

    def column(self, name: str) -> SmallColumn:
        """All that was kept."""
        import pyarrow as pa

        facts = self.facts
        if self._kept:
            kept = self._kept.array()
        else:
            kept = pa.concat_arrays(self._nested) if self._nested else pa.nulls(0, facts.kind)
        data = self._form.finish(kept)
        dtype = _pandas_type(facts.kind, has_nulls=facts.nulls > 0)
        shown = str(dtype or facts.kind)
        return SmallColumn(name, shown, self._form.name, facts.in_pandas, data.nbytes, data, facts.kind, dtype)


class _Space:
    """The memory of a column, taken once and filled part by part: parts kept until the end would be there twice.

    Parameters
    ----------
    kind
        The type of the parts.
    facts
        How many values there are, how many nulls and bytes of text.
    """

    def __init__(self, kind: pa.DataType, facts: Facts) -> None:
        import numpy as np
        import pyarrow as pa

        self._kind = kind
        self._at = 0
        bits = -(-facts.rows // 8)
        self._mask = np.zeros(bits, np.uint8) if facts.nulls else None
        self._offsets: NDArray[Any] | None = None
        self._used = 0
        if is_text(kind):
            self._offsets = np.zeros(facts.rows + 1, np.int64 if pa.types.is_large_string(kind) else np.int32)
        size = facts.weight if is_text(kind) else bits if pa.types.is_boolean(kind) else facts.rows * width_of(kind)
        self._data = np.zeros(size, np.uint8)

    @staticmethod
    def fits(kind: pa.DataType) -> bool:
        """Whether values of a type lie one behind the other."""
        import pyarrow as pa

        is_flat = is_text(kind) or (width_of(kind) > 0 and pa.types.is_primitive(kind)) or pa.types.is_decimal(kind)
        return bool(is_flat)

    def add(self, values: pa.Array) -> None:
        import numpy as np
        import pyarrow as pa

        rows, width = len(values), width_of(self._kind)
        if self._mask is not None:
            _put_bits(self._mask, self._at, values.is_valid())
        if pa.types.is_boolean(self._kind):
            _put_bits(self._data, self._at, values.fill_null(False))  # noqa: FBT003 - Arrow takes no keyword
        elif self._offsets is None:
            new = np.frombuffer(values.buffers()[1], np.uint8, rows * width, values.offset * width)
            self._data[self._at * width : (self._at + rows) * width] = new
        else:
            _, places, letters = (values.fill_null("") if values.null_count else values).buffers()
            kind = self._offsets.dtype
            # A copy that was filled begins at 0, and so does one that was not cut out of another.
            new = np.frombuffer(places, kind, rows + 1, values.offset * kind.itemsize if not values.null_count else 0)
            self._offsets[self._at + 1 : self._at + rows + 1] = new[1:] - new[0] + self._used
            taken = int(new[-1] - new[0])
            if taken:
                self._data[self._used : self._used + taken] = np.frombuffer(letters, np.uint8, taken, int(new[0]))
            self._used += taken
        self._at += rows

    def array(self) -> pa.Array:
        import pyarrow as pa

        parts = [self._mask, *([] if self._offsets is None else [self._offsets]), self._data]
        buffers = [None if part is None else pa.py_buffer(part) for part in parts]
        return pa.Array.from_buffers(self._kind, self._at, buffers)


def _put_bits(target: NDArray[np.uint8], at: int, truths: pa.Array) -> None:
    """Write truth values as bits, from a place on where only zeros are."""
    import numpy as np

    start, shift = divmod(at, 8)
    bits = np.concatenate([np.zeros(shift, bool), truths.to_numpy(zero_copy_only=False)])
    packed = np.packbits(bits, bitorder="little")
    target[start : start + len(packed)] |= packed


def _pandas_type(kind: pa.DataType, *, has_nulls: bool) -> Any:
    """What pandas calls a type, whole numbers and truth values being able to miss; None for what it decides."""
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
    return SmallColumn(name, str(series.dtype), "as it was", before, before, series, None, series.dtype)


def _in_arrow(series: pd.Series[Any]) -> pa.Array | None:
    """A column as an Arrow array; None where Arrow has no type for it."""
    import pandas as pd
    import pyarrow as pa

    try:
        if series.dtype == object:
            kinds = {type(value) for value in series} - {type(None)}
            # Arrow would make one type of several.
            return pa.array(series.tolist(), from_pandas=False) if len(kinds) == 1 else None
        if isinstance(series.dtype, pd.DatetimeTZDtype):
            # Arrow asks pandas for these in a way that pandas will drop.
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
