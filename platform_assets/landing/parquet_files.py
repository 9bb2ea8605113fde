"""Parquet files as record batches of plain types, without a query engine.

Each value is decoded; bounds in the footer are ignored because another program may have written wrong ones.
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

MAGIC = b"PAR1"
"""First bytes of a parquet file."""
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
    """

    path: Path
    called: str
    schema: pa.Schema
    rows: int

    def batches(self, size: int, *, use_threads: bool = False) -> Iterator[pa.RecordBatch]:
        """Read the rows, at most `size` at a time, in their order.

        Raises
        ------
        SourceError
            A page is damaged, a text is not valid UTF-8, or the footer states another number of rows.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        found = 0
        with _plain_errors(self.called, "cannot be read to its end"):
            file = pq.ParquetFile(self.path, pre_buffer=False, page_checksum_verification=True)
            with file:
                for batch in file.iter_batches(batch_size=size, use_threads=use_threads):
                    columns = [
                        plain(column, kind) for column, kind in zip(batch.columns, self.schema.types, strict=True)
                    ]
                    found += batch.num_rows
                    yield pa.RecordBatch.from_arrays(columns, self.schema.names)
        if found != self.rows:
            raise SourceError(f"{self.called} cannot be read to its end: it has {found} of {self.rows} rows")


def open_parquet(path: Path, called: str) -> ParquetFile:
    """Open a parquet file.

    Parameters
    ----------
    path
        A local file.
    called
        Name of the file in messages.

    Raises
    ------
    SourceError
        The footer is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _plain_errors(called, "cannot be read"), pq.ParquetFile(path, page_checksum_verification=True) as file:
        found = file.schema_arrow
        schema = pa.schema([(name, plain_type(kind)) for name, kind in zip(found.names, found.types, strict=True)])
        return ParquetFile(path, called, schema, file.metadata.num_rows)


@contextmanager
def _plain_errors(called: str, trouble: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, OverflowError, UnicodeDecodeError) as error:
        raise SourceError(f"{called} {trouble}: {first_line(error)}; fetch the file again") from error


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the plain counterpart of an Arrow type.

    A dictionary becomes the type of its values, a view or large type the ordinary one, a 16-bit float a 32-bit one, a
    decimal one of at most 38 digits or else text, a time of day or a duration text, and a column without a type text.
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
