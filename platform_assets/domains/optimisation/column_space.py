"""Preallocated buffers of a column, filled incrementally with Arrow arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.domains.optimisation.forms import is_text, width_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from platform_assets.domains.optimisation.forms import Facts


class ColumnSpace:
    """Buffers of a column, allocated once and filled incrementally with Arrow arrays.

    Keeping the arrays and joining them at the end would need twice the memory.

    Parameters
    ----------
    kind
        The type of the arrays.
    facts
        Numbers of values, nulls and bytes of text.
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
        """Whether values of a type are stored in one contiguous buffer, so that this class can hold them."""
        import pyarrow as pa

        is_flat = is_text(kind) or (width_of(kind) > 0 and pa.types.is_primitive(kind)) or pa.types.is_decimal(kind)
        return bool(is_flat)

    def add(self, values: pa.Array) -> None:
        """Append a copy of the given values."""
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
            # An array without nulls may be a slice of a larger buffer, so start at its offset. An array with nulls was
            # copied by `fill_null`, so its offset is 0.
            new = np.frombuffer(places, kind, rows + 1, values.offset * kind.itemsize if not values.null_count else 0)
            self._offsets[self._at + 1 : self._at + rows + 1] = new[1:] - new[0] + self._used
            taken = int(new[-1] - new[0])
            if taken:
                self._data[self._used : self._used + taken] = np.frombuffer(letters, np.uint8, taken, int(new[0]))
            self._used += taken
        self._at += rows

    def array(self) -> pa.Array:
        """Return the values without a copy."""
        import pyarrow as pa

        parts = [self._mask, *([] if self._offsets is None else [self._offsets]), self._data]
        buffers = [None if part is None else pa.py_buffer(part) for part in parts]
        return pa.Array.from_buffers(self._kind, self._at, buffers)


def _put_bits(target: NDArray[np.uint8], at: int, truths: pa.Array) -> None:
    """Write booleans as bits, starting at bit `at`. The bits from there on must still be 0."""
    import numpy as np

    start, shift = divmod(at, 8)
    bits = np.concatenate([np.zeros(shift, bool), truths.to_numpy(zero_copy_only=False)])
    packed = np.packbits(bits, bitorder="little")
    target[start : start + len(packed)] |= packed
