"""Parquet files as record batches of plain types, without a query engine.

All values are decoded. The minima and maxima in the footer are ignored, because other programs may write wrong ones.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.base.errors import SourceError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

    from platform_assets.landing.packed_files import SizeLimit

MAGIC = b"PAR1"
"""First bytes of a parquet file."""
MOST_BATCH_BYTES = 1 << 28
"""Maximum size of a decoded batch, if the file has a size limit. A batch of a single row may be larger."""
_MOST_DIGITS = 38
"""Digits of the widest decimal that the engine supports."""


@dataclass(frozen=True)
class ParquetFile:
    """A parquet file whose footer was read.

    Attributes
    ----------
    path
        The file.
    called
        Name of the file in messages.
    schema
        Column names and plain types.
    rows
        Number of rows according to the footer.
    limit
        Size limit for the decoded values; None for a file that the platform wrote.
    """

    path: Path
    called: str
    schema: pa.Schema
    rows: int
    limit: SizeLimit | None = None

    def batches(self, size: int, *, use_threads: bool = False) -> Iterator[pa.RecordBatch]:
        """Read the rows, at most `size` at a time, in their order.

        Raises
        ------
        SourceError
            A page is damaged, a text is not valid UTF-8, the footer states another number of rows, or the decoded
            values exceed the limit.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        found = 0
        # If there is a limit, read texts as dictionaries, which store each text once. The decoded size is then known
        # and checked before the texts are copied to every row.
        texts = [field.name for field in self.schema if _is_text(field.type)] if self.limit else None
        with _plain_errors(self.called, "cannot be read to its end"):
            file = pq.ParquetFile(self.path, pre_buffer=False, page_checksum_verification=True, read_dictionary=texts)
            with file:
                for batch in self._parts(file.iter_batches(batch_size=size, use_threads=use_threads)):
                    columns = [
                        plain(column, kind) for column, kind in zip(batch.columns, self.schema.types, strict=True)
                    ]
                    found += batch.num_rows
                    yield pa.RecordBatch.from_arrays(columns, self.schema.names)
        if found != self.rows:
            raise SourceError(f"{self.called} cannot be read to its end: it has {found} of {self.rows} rows")

    def _parts(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Split batches that would be large once they are decoded."""
        total = 0
        for batch in batches:
            if not self.limit:
                yield batch
                continue
            total += _decoded_bytes(batch)
            if total > self.limit.limit:
                raise self.limit.too_large(self.called)
            yield from _halves(batch)


def open_parquet(path: Path, called: str, limit: SizeLimit | None = None) -> ParquetFile:
    """Open a parquet file.

    Parameters
    ----------
    path
        A local file.
    called
        Name of the file in messages.
    limit
        Size limit for the decoded values, without which a small file could fill memory and disk.

    Raises
    ------
    SourceError
        The footer is missing or damaged, or states a size above the limit.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _plain_errors(called, "cannot be read"), pq.ParquetFile(path, page_checksum_verification=True) as file:
        found = file.schema_arrow
        schema = pa.schema([(name, plain_type(kind)) for name, kind in zip(found.names, found.types, strict=True)])
        groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
        if limit and sum(group.total_byte_size for group in groups) > limit.limit:
            raise limit.too_large(called)
        return ParquetFile(path, called, schema, file.metadata.num_rows, limit)


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow.types as is_

    return bool(is_.is_string(kind) or is_.is_binary(kind))


def _decoded_bytes(batch: pa.RecordBatch) -> int:
    """Return the size in bytes that a batch will have after its dictionaries are decoded."""
    import pyarrow as pa
    import pyarrow.compute as pc

    total = 0
    for column in batch.columns:
        if pa.types.is_dictionary(column.type) and _is_text(plain_type(column.type)):
            total += pc.sum(pc.take(pc.binary_length(column.dictionary), column.indices)).as_py() or 0
        else:
            total += column.nbytes
    return total


def _halves(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    if batch.num_rows <= 1 or _decoded_bytes(batch) <= MOST_BATCH_BYTES:
        yield batch
        return
    middle = batch.num_rows // 2
    yield from _halves(batch.slice(0, middle))
    yield from _halves(batch.slice(middle))


@contextmanager
def _plain_errors(called: str, trouble: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, OverflowError, UnicodeDecodeError) as error:
        raise SourceError(f"{called} {trouble}: {first_line(error)}; fetch the file again") from error


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the plain counterpart of an Arrow type.

    Dictionaries become the type of their values. View types and large types become their ordinary type. 16-bit floats
    become 32-bit floats. Decimals of more than 38 digits, times of day, durations and columns without a type become
    text.
    """
    import pyarrow as pa
    import pyarrow.types as is_

    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if is_.is_dictionary(kind) or is_.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if is_.is_decimal(kind):
        fits = kind.precision <= _MOST_DIGITS and 0 <= kind.scale <= kind.precision
        return pa.decimal128(kind.precision, kind.scale) if fits else pa.string()
    counterparts = {
        pa.string(): (is_.is_large_string, is_.is_string_view, is_.is_null, is_.is_time, is_.is_duration),
        pa.binary(): (is_.is_large_binary, is_.is_fixed_size_binary, is_.is_binary_view),
        pa.float32(): (is_.is_float16,),
        pa.timestamp("ms"): (is_.is_date64,),
    }
    found = (plain for plain, tests in counterparts.items() if any(test(kind) for test in tests))
    return next(found, kind)


def plain(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return a column as its plain type.

    Raises
    ------
    ArrowInvalid
        A text is not valid UTF-8.
    """
    import pyarrow as pa
    import pyarrow.types as is_

    if isinstance(column, pa.ExtensionArray):
        return plain(column.storage, kind)
    if is_.is_dictionary(column.type):
        return plain(column.dictionary_decode(), kind)
    if is_.is_duration(column.type):
        column = column.cast(pa.int64())
    if is_.is_string(kind):
        column.validate(full=True)
    if column.type == kind:
        return column
    if is_.is_decimal(column.type) and is_.is_string(kind):
        return pa.array([None if value is None else format(value, "f") for value in column.to_pylist()], pa.string())
    return column.cast(kind)
