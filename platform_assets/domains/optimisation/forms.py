"""Storage forms of a column: which forms can hold its values, and how to encode and decode them.

Everything here works on Arrow arrays of one column. `memory.py` handles pandas and files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

SURE_ROWS = 1 << 15
"""Number of rows after which values are no longer collected if they hardly repeat."""
_LARGEST_OFFSET = (1 << 31) - 1
_MOST_DIGITS = 9  # digits of Arrow's smallest decimal, which has four bytes
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
LARGEST_EXACT = 1 << 53
"""Largest number up to which a float64 represents every whole number."""


class Facts:
    """Facts about the values of a column, collected incrementally.

    Parameters
    ----------
    kind
        Type of the values.
    remembers
        Whether to collect the distinct values. Collecting stops if the values hardly repeat.
    """

    def __init__(self, kind: pa.DataType, *, remembers: bool = True) -> None:
        self.kind = kind
        self.rows = 0
        self.nulls = 0
        self.weight = 0
        """Total bytes of the texts."""
        self.distinct: pa.Array | None = None
        """The distinct values, encoded by `bits_of`; None if values hardly repeat."""
        self._remembers = remembers
        self._low: int | float = 0
        self._high: int | float = 0
        self._is_whole = True
        self._digits: int | None = 0  # decimal places; None if no decimal represents the floats
        self._is_single = True
        self._is_date = True

    def add(self, values: pa.Array) -> None:
        """Update the facts with the next values."""
        import pyarrow as pa
        import pyarrow.compute as pc

        self.rows += len(values)
        self.nulls += values.null_count
        present = bits_of(values.drop_null())
        if is_text(self.kind):
            self.weight += pc.sum(pc.binary_length(present)).as_py() or 0
        try:
            new = pc.unique(present)
        except pa.ArrowNotImplementedError:
            new, self._remembers = present, False
        self.measure(from_bits(new, self.kind))
        if self._remembers:
            self._remember(new)

    def _remember(self, new: pa.Array) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        self.distinct = new if self.distinct is None else pc.unique(pa.concat_arrays([self.distinct, new]))
        if self.rows >= SURE_ROWS and 2 * len(self.distinct) > self.rows - self.nulls:
            self._remembers, self.distinct = False, None

    def measure(self, values: pa.Array) -> None:
        """Rule out the forms that cannot hold the given values. The values must not contain nulls."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if not len(values):
            return
        kind = self.kind
        if pa.types.is_integer(kind):
            self._widen(*pc.min_max(values).as_py().values())
        elif pa.types.is_floating(kind):
            self._measure_floats(values.to_numpy(zero_copy_only=False))
        elif is_text(kind):
            self._is_date = (
                self._is_date and all_true(pc.match_substring_regex(values, _DATE)) and _is_kept_by_date(values)
            )
        else:
            self._is_date = self._is_date and _is_naive_time(kind) and _is_kept_by_date(values)

    def _widen(self, low: float, high: float) -> None:
        self._low, self._high = min(self._low, low), max(self._high, high)

    def _measure_floats(self, values: NDArray[Any]) -> None:
        import numpy as np

        finite = bool(np.isfinite(values).all()) and not bool((np.signbit(values) & (values == 0)).any())
        if not finite:
            self._is_whole, self._digits = False, None
        if self.kind.bit_width > 32:  # noqa: PLR2004 - the width that it must fit
            with np.errstate(over="ignore"):
                single = values.astype(np.float32).astype(values.dtype)
            self._is_single = self._is_single and bool((single == values)[~np.isnan(values)].all())
            self._is_single = self._is_single and not np.isnan(values).any()
        else:
            self._is_single, self._digits = False, None
        if finite:
            self._widen(float(values.min()), float(values.max()))
            large = max(abs(self._low), abs(self._high))
            self._is_whole = self._is_whole and large <= LARGEST_EXACT and bool((np.rint(values) == values).all())
            self._digits = _digits_needed(values.astype(np.float64), self._digits, large)

    @property
    def in_pandas(self) -> int:
        """Bytes of the column in pandas, estimated from the type."""
        mask = self.rows if self.nulls else 0
        if is_text(self.kind):
            return 8 * (self.rows + 1) + self.weight + (-(-self.rows // 8) if self.nulls else 0)
        width = width_of(self.kind)
        return self.rows * (width or 8) + (0 if is_float(self.kind) else mask)

    def forms(self) -> list[Form]:
        """Return the forms that can hold the values, the smallest first. One of them stores the values unchanged."""
        import pyarrow as pa

        found = [self._as_it_is()]
        if self.rows == self.nulls:
            found.append(Form("all null", 0, lambda values: pa.nulls(len(values))))
        else:
            found += [*self._numbers(), *self._others(), *self._dictionary()]
        return sorted(found, key=lambda form: form.size)

    def _mask(self) -> int:
        return -(-self.rows // 8) if self.nulls else 0

    def _as_it_is(self) -> Form:
        if is_text(self.kind):
            size = self.weight + _offset_width(self.kind) * (self.rows + 1)
        else:
            size = -(-self.rows * (width_of(self.kind, in_bits=True) or 64) // 8)
        return Form("unchanged", size + self._mask(), lambda values: values)

    def _numbers(self) -> Iterator[Form]:
        import pyarrow as pa

        if not (pa.types.is_integer(self.kind) or (is_float(self.kind) and (self._is_whole or self._digits))):
            if is_float(self.kind) and self._is_single:
                yield self._plain(pa.float32())
            return
        if self._is_whole:
            low, high = int(self._low), int(self._high)
            yield self._plain(_smallest_integer(low, high))
            if low >= 0 and high <= 1:
                yield self._plain(pa.bool_())
        elif self._digits:
            digits = self._digits
            kind = pa.decimal32(_MOST_DIGITS, digits)
            yield Form(str(kind), 4 * self.rows + self._mask(), lambda values: _as_decimals(values, kind))
        if is_float(self.kind) and self._is_single:
            yield self._plain(pa.float32())

    def _others(self) -> Iterator[Form]:
        import pyarrow as pa

        if (is_text(self.kind) or _is_naive_time(self.kind)) and self._is_date:
            yield self._plain(pa.date32(), "date")
        if pa.types.is_large_string(self.kind) and self.weight <= _LARGEST_OFFSET:
            size = self.weight + 4 * (self.rows + 1) + self._mask()
            yield Form("text, 32-bit offsets", size, lambda values: values.cast(pa.string()))

    def _dictionary(self) -> Iterator[Form]:
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.distinct is None or pa.types.is_boolean(self.kind):
            return
        found = self.distinct
        codes = _smallest_integer(0, max(len(found) - 1, 0))
        meanings = from_bits(found, self.kind)
        if pa.types.is_large_string(self.kind) and meanings.nbytes <= _LARGEST_OFFSET:
            meanings = meanings.cast(pa.string())

        def encode(values: pa.Array) -> pa.Array:
            return without_idle_mask(pc.index_in(bits_of(values), value_set=found).cast(codes))

        def finish(coded: pa.Array) -> pa.Array:
            return pa.DictionaryArray.from_arrays(coded, meanings)

        size = self.rows * codes.bit_width // 8 + self._mask() + meanings.nbytes
        yield Form(f"dictionary of {len(found):,}, {codes}", size, encode, finish)

    def _plain(self, kind: pa.DataType, name: str = "") -> Form:
        import pyarrow as pa

        size = -(-self.rows * kind.bit_width // 8) + self._mask()

        def encode(values: pa.Array) -> pa.Array:
            if pa.types.is_boolean(kind) and is_float(values.type):
                return values.cast(pa.uint8()).cast(kind)
            return values.cast(kind, safe=kind != pa.float32())

        return Form(name or str(kind), size, encode)


def _as_they_are(data: pa.Array) -> pa.Array:
    return data


@dataclass(frozen=True)
class Form:
    """A way to store a column.

    Attributes
    ----------
    name
        Name shown in reports.
    size
        Bytes of the whole column.
    encode
        Function that encodes a part of the values.
    finish
        Function that converts the array of all encoded values to the final array.
    """

    name: str
    size: int
    encode: Callable[[pa.Array], pa.Array]
    finish: Callable[[pa.Array], pa.Array] = _as_they_are


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is text."""
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_float(kind: pa.DataType) -> bool:
    """Whether a type is a float."""
    import pyarrow as pa

    return bool(pa.types.is_floating(kind))


def _is_naive_time(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_timestamp(kind)) and kind.tz is None


def _is_kept_by_date(values: pa.Array) -> bool:
    import pyarrow as pa

    try:
        return bool(restored(values.cast(pa.date32(), safe=False), values.type).equals(values))
    except pa.ArrowInvalid:
        return False


def _offset_width(kind: pa.DataType) -> int:
    import pyarrow as pa

    return 8 if pa.types.is_large_string(kind) else 4


def width_of(kind: pa.DataType, *, in_bits: bool = False) -> int:
    """Return the width of a value; 0 if it varies."""
    try:
        bits: int = kind.bit_width
    except ValueError:
        return 0
    return bits if in_bits else -(-bits // 8)


def _smallest_integer(low: int, high: int) -> pa.DataType:
    import pyarrow as pa

    unsigned = ((pa.uint8(), 8), (pa.uint16(), 16), (pa.uint32(), 32), (pa.uint64(), 64))
    signed = ((pa.int8(), 7), (pa.int16(), 15), (pa.int32(), 31), (pa.int64(), 63))
    if low >= 0:
        return next(kind for kind, bits in unsigned if high < 1 << bits)
    return next(kind for kind, bits in signed if -(1 << bits) <= low and high < 1 << bits)


def _digits_needed(values: NDArray[np.float64], so_far: int | None, large: float) -> int | None:
    """Return the fewest decimal places that represent all values exactly; None if there is no such number."""
    import numpy as np

    if so_far is None:
        return None
    for digits in range(so_far, _MOST_DIGITS + 1):
        if large * 10**digits > 10**_MOST_DIGITS - 1:
            return None
        # Both numbers are exact floats, so their quotient is the float nearest to the decimal.
        if bool((np.rint(values * 10**digits) / 10**digits == values).all()):
            return digits
    return None


def bits_of(values: pa.Array) -> pa.Array:
    """Return floats as integers with the same bits, so that NaN equals itself and -0.0 differs from 0.0."""
    return values.view(f"int{values.type.bit_width}") if is_float(values.type) else values


def from_bits(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Invert `bits_of`."""
    return values.view(kind) if is_float(kind) else values


def without_idle_mask(values: pa.Array) -> pa.Array:
    """If no value is null, drop the validity mask that Arrow's look-ups always create."""
    import pyarrow as pa

    if values.null_count:
        return values
    return pa.Array.from_buffers(values.type, len(values), [None, *values.buffers()[1:]], offset=values.offset)


def same(values: pa.Array, others: pa.Array) -> bool:
    """Whether two arrays are equal bit for bit."""
    return bool(bits_of(values).equals(bits_of(others)))


def _as_decimals(values: pa.Array, kind: pa.DataType) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    floats = values.to_numpy(zero_copy_only=False)
    whole = np.rint(np.nan_to_num(floats.astype(np.float64)) * 10**kind.scale).astype(np.int32)
    missing = values.is_null().to_numpy(zero_copy_only=False) if values.null_count else None
    plain = pa.array(whole, mask=missing)
    return pa.Array.from_buffers(kind, len(plain), plain.buffers())


def _from_decimals(values: pa.Array) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    whole = np.frombuffer(values.buffers()[1], np.int32, len(values), values.offset * 4)
    missing = values.is_null().to_numpy(zero_copy_only=False) if values.null_count else None
    # Divide in numpy, because Arrow's cast is not correctly rounded.
    return pa.array(whole / 10**values.type.scale, mask=missing)


def restored(data: pa.Array, kind: pa.DataType) -> pa.Array:
    """Decode stored values to their original type."""
    import pyarrow as pa

    if data.type == kind:
        return data
    if pa.types.is_dictionary(data.type):
        return pa.DictionaryArray.from_arrays(data.indices, data.dictionary.cast(kind)).dictionary_decode()
    if pa.types.is_decimal32(data.type):
        return _from_decimals(data).cast(kind)
    if pa.types.is_boolean(data.type):
        return data.cast(pa.uint8()).cast(kind)
    if pa.types.is_date32(data.type) and is_text(kind):
        return data.cast(pa.string()).cast(kind)
    return data.cast(kind)


def all_true(truths: pa.Array) -> bool:
    """Whether all values are true or null."""
    import pyarrow.compute as pc

    return bool(pc.all(truths, min_count=0).as_py())
