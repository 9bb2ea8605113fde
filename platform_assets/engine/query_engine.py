"""The query engine: DuckDB behind Ibis, within stated bounds of memory, threads and disk.

Everything that moves rows goes through here: opening files as Ibis expressions, and staging a
frame or an expression as parquet files on local disk, from where `tables.py` and `online.py`
publish them. Staging is what lets a table be validated before anyone can see it.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import tempfile
import uuid
import weakref
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from platform_assets.base.errors import SchemaError, TableError, first_line
from platform_assets.base.frames import Expression, Frame
from platform_assets.base.scratch import OwnedFolder
from platform_assets.base.sql_quoting import sql_name, sql_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    import duckdb
    import pyarrow as pa
    import pyarrow.dataset as pads
    from ibis.backends.duckdb import Backend

WHOLE = ""
"""The name of the only part of a table that has no partitions."""

# Ibis types to what a column of a table is stored as. Lists and structs are left out on purpose: DuckDB
# hashes [[1], [2]] and [[1, 2]] alike, so the digest would not notice that one became the other.
_STORED = {
    "boolean": "BOOLEAN",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "uint8": "SMALLINT",
    "uint16": "INTEGER",
    "uint32": "BIGINT",
    "uint64": "BIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "string": "VARCHAR",
    "binary": "BLOB",
    "date": "DATE",
}
_PARTITIONS = {"BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "VARCHAR", "DATE"}
# A file name has at most 255 bytes, and DuckDB makes one of each value.
_LONGEST_PARTITION = 180


@dataclass(frozen=True)
class Part:
    """The staged rows of one partition.

    Attributes
    ----------
    files
        The parquet files, the partition's own column included.
    rows
        Number of rows.
    digest
        Digest of the rows in any order; see `Engine.stage`.
    """

    files: tuple[Path, ...]
    rows: int
    digest: str


@dataclass(frozen=True)
class Staged:
    """Rows on local disk, ready to be checked and published. A context manager that removes its files.

    Attributes
    ----------
    folder
        Where the files are.
    schema
        Arrow schema of the rows, the partition's column included.
    parts
        The rows by value of the partition column; one part named `WHOLE` without one.
    partition_by
        Name of the partition column.
    """

    folder: Path
    schema: pa.Schema
    parts: Mapping[str, Part]
    partition_by: str | None

    @property
    def rows(self) -> int:
        """Number of rows in all parts."""
        return sum(part.rows for part in self.parts.values())

    @property
    def digest(self) -> str:
        """Digest of all rows, in any order and file layout."""
        return combined_digest({name: part.digest for name, part in self.parts.items()})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def discard(self) -> None:
        """Remove the files."""
        shutil.rmtree(self.folder, ignore_errors=True)


def combined_digest(parts: Mapping[str, str]) -> str:
    """One digest for a table from the digests of its partitions; that of the only part where there is one."""
    if set(parts) == {WHOLE}:
        return parts[WHOLE]
    return _sha(sorted(parts.items()))


def as_frame(expression: Expression) -> Frame:
    """Run an expression; the rows as a pandas frame, dates as `datetime64`, whole numbers with nulls as `Int64`."""
    import pandas as pd
    import pyarrow as pa

    rows: pa.Table = expression.to_pyarrow()
    frame: Frame = rows.to_pandas(date_as_object=False)
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        if pa.types.is_integer(column.type) and column.null_count:
            # As floats, numbers beyond 2**53 would change.
            frame[name] = column.cast(pa.int64()).to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return frame


class Engine:
    """An embedded DuckDB that spills to disk instead of outgrowing its memory limit.

    It serves one thread at a time; a second thread needs an engine of its own.

    Parameters
    ----------
    scratch
        Folder for staged and spilled rows; made when needed. Each engine keeps to a folder of its own
        in it, which goes with the process; `scratch.clean_scratch` removes those of killed processes.
    memory
        DuckDB's memory limit, e.g. `2GB`.
    threads
        DuckDB's threads; None for all cores.
    """

    def __init__(self, scratch: Path, memory: str = "2GB", threads: int | None = None) -> None:
        self._scratch = scratch
        self._config: dict[str, Any] = {"memory_limit": memory, "autoinstall_known_extensions": False}
        if threads:
            self._config["threads"] = threads
        self._retired: list[str] = []

    @cached_property
    def _own(self) -> OwnedFolder:
        return OwnedFolder(self._scratch, "engine")

    @cached_property
    def ibis(self) -> Backend:
        """The Ibis backend; its expressions can be combined with each other."""
        import ibis

        # Order is kept only where a query asks for it: that is what lets DuckDB stream in parallel.
        backend = ibis.duckdb.connect(
            temp_directory=str(self._own.path / "spill"), preserve_insertion_order=False, **self._config
        )
        # It would be drawn on standard output.
        backend.con.execute("SET enable_progress_bar = false")
        # A connection still open when the interpreter ends makes DuckDB print what it takes for leaks.
        atexit.register(self.close)
        return backend

    @property
    def duckdb(self) -> duckdb.DuckDBPyConnection:
        """The connection below, for what Ibis does not express."""
        connection: duckdb.DuckDBPyConnection = self.ibis.con
        return connection

    def close(self) -> None:
        """Close the connection and remove what was staged and spilled; the process's end does the same."""
        if "ibis" in self.__dict__:
            self.ibis.disconnect()
            del self.ibis
            atexit.unregister(self.close)
        if "_own" in self.__dict__:
            self._own.remove()
            del self._own

    def sql(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run one SQL statement to its end; the rows."""
        return self.duckdb.execute(query, list(parameters)).fetchall()

    def folder(self, purpose: str) -> Path:
        """A new private folder for files that do not outlive the work."""
        return Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=self._own.path))

    def dataset(self, dataset: pads.Dataset) -> Expression:
        """An Arrow dataset as an expression that reads only the rows and columns asked for."""
        return self._registered(dataset)

    def parquet(self, *files: Path) -> Expression:
        """Parquet files as one expression."""
        # Folders named like `a=b` would otherwise become columns.
        return self.ibis.read_parquet([str(file) for file in files], hive_partitioning=False)

    def staged(self, staged: Staged) -> Expression:
        """Staged rows as an expression, the partition's column included."""
        if not staged.parts:
            return self._registered(staged.schema.empty_table())
        return self.parquet(*(file for part in staged.parts.values() for file in part.files))

    def as_expression(self, data: Frame | Expression | pa.Table) -> Expression:
        """Any of the forms in which rows come, as an expression of this engine; a frame's index is left out.

        Raises
        ------
        SchemaError
            A column of a frame mixes types or has times finer than a microsecond; two names differ only in case.
        """
        import pyarrow as pa

        if isinstance(data, Expression):
            return data
        if not isinstance(data, Frame | pa.Table):
            raise SchemaError(f"{type(data).__name__} is no table; a pandas frame or an Ibis expression is needed")
        try:
            table = data if isinstance(data, pa.Table) else pa.Table.from_pandas(data, preserve_index=False)
            rows = _in_microseconds(table)
        except pa.ArrowException as error:
            reason = "; ".join(map(str, error.args))
            needed = "each column needs one type, and times no finer than a microsecond"
            raise SchemaError(f"the frame cannot become a table: {reason}; {needed}") from None
        _refuse_twins(rows.schema.names)
        return self._registered(rows)

    def _registered(self, rows: pads.Dataset | pa.Table) -> Expression:
        self._forget_retired()
        name = f"rows_{uuid.uuid4().hex}"
        self.duckdb.register(name, rows)
        table = self.ibis.table(name)
        # The rows stay in memory as long as an expression needs them. They are let go of later, not here: garbage
        # is collected at any moment, also while the connection streams a result.
        weakref.finalize(table.op(), self._retired.append, name)
        return table

    def _forget_retired(self) -> None:
        while self._retired:
            self.duckdb.unregister(self._retired.pop())

    def stage(self, data: Frame | Expression | pa.Table, partition_by: str | None = None) -> Staged:
        """Write rows as parquet files to scratch, streaming, and digest them.

        The digest is the same for the same rows in any order, whatever files they lie in: DuckDB's
        64-bit hash of each row, mixed once more (a row's own hash is linear in those of its cells, so that
        exclusive or alone is blind to cells that change places between rows), combined by exclusive or
        and by sum, with count, column names and types. DuckDB's version is part of it, for its hash may change
        between versions. As for SQL, 0.0 and -0.0 are the same value, and so are all NaN; null is neither NaN nor
        the empty string.

        Tables keep booleans, signed integers (unsigned ones become the next larger signed type), floats, decimals,
        strings (categories become strings), binary, dates, and timestamps in microseconds: with a time zone as
        instants in UTC, without one as they are.

        Raises
        ------
        SchemaError
            A column has a type that tables do not keep, or a value that its type does not hold.
        TableError
            No space or no memory for the rows, or a partition value that cannot be kept.
        """
        expression = self.as_expression(data)
        folder = self.folder("staged")
        try:
            with self._plain_errors():
                return self._stage(expression, folder, partition_by)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _stage(self, expression: Expression, folder: Path, partition_by: str | None) -> Staged:
        types = _stored_types(expression, partition_by)
        columns = ", ".join(_stored(name, kind, is_partition=name == partition_by) for name, kind in types.items())
        view = f"staging_{uuid.uuid4().hex}"
        # A view, for a compiled expression knows nothing of Ibis' own in-memory tables; the casts, for DuckDB's
        # types differ from those that Ibis states (the sum of integers is one of 128 bits, and written as a double).
        self.ibis.create_view(view, expression)
        try:
            rows = f"SELECT {columns} FROM {view}"  # noqa: S608 - the names are quoted
            target = folder / "rows.parquet" if partition_by is None else folder / "rows"
            options = f", PARTITION_BY ({sql_name(partition_by)}), WRITE_PARTITION_COLUMNS true" if partition_by else ""
            self.sql(f"COPY ({rows}) TO {sql_text(str(target))} (FORMAT parquet{options})")
            schema = self.duckdb.sql(f"{rows} LIMIT 0").to_arrow_table().schema
        finally:
            self.sql(f"DROP VIEW {view}")
        files = {WHOLE: (target,)} if partition_by is None else _files_by_partition(target)
        return Staged(folder, schema, {name: self._part(these) for name, these in files.items()}, partition_by)

    def _part(self, files: tuple[Path, ...]) -> Part:
        import duckdb

        paths = [str(file) for file in files]
        columns = self.sql(
            "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet(?, hive_partitioning = false))",
            paths,
        )
        [(mixed, total, rows)] = self.sql(
            "SELECT bit_xor(h), sum(h::HUGEINT), count(*) FROM"
            " (SELECT hash(hash(t)) AS h FROM read_parquet(?, hive_partitioning = false) t)",
            paths,
        )
        return Part(files, rows, f"duckdb-{duckdb.__version__}:{_sha([columns, mixed, str(total), rows])}")

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        import duckdb

        try:
            yield
        except duckdb.OutOfMemoryException as error:
            reason = first_line(error)
            needed = f"raise PLATFORM_ENGINE_MEMORY, or make space on {self._scratch} to spill to"
            raise TableError(f"no memory to stage the rows ({reason}); {needed}") from error
        except duckdb.IOException as error:
            if not is_full(error):
                raise
            raise TableError(f"no space left on {self._scratch} to stage the rows; make some and run again") from error
        except duckdb.ConversionException as error:
            raise SchemaError(f"a value does not fit its column's type: {first_line(error)}") from error
        except duckdb.InvalidInputException as error:
            if _REFUSED not in str(error):
                raise
            raise TableError(str(error).split(_REFUSED, 1)[1].strip()) from None


def is_full(error: BaseException) -> bool:
    """Whether an error of DuckDB, Arrow or delta-rs says that the disk is full."""
    return any(words in str(error) for words in ("No space left", "os error 28", "Errno 28", "errno 28"))


_REFUSED = "refused by the platform: "


def _refuse_twins(names: list[str]) -> None:
    counts = Counter(name.lower() for name in names)
    twins = sorted(name for name in names if counts[name.lower()] > 1)
    if twins:
        raise SchemaError(f"columns {twins} have the same name, or differ only in case; rename all but one")


def _stored_types(expression: Expression, partition_by: str | None) -> dict[str, str]:
    types = {name: _stored_type(name, dtype) for name, dtype in expression.schema().items()}
    if partition_by is not None and types.get(partition_by) not in _PARTITIONS:
        found = types.get(partition_by, "no such column")
        raise SchemaError(f"cannot partition by {partition_by} ({found}); it must be one of {sorted(_PARTITIONS)}")
    return types


def _stored_type(name: str, dtype: Any) -> str:
    if dtype.is_timestamp():
        return "TIMESTAMPTZ" if dtype.timezone else "TIMESTAMP"
    if dtype.is_decimal() and dtype.precision is not None:
        return f"DECIMAL({dtype.precision}, {dtype.scale})"
    stored = _STORED.get(str(dtype.copy(nullable=True)))
    if stored is None:
        kind = "no type (all its values are missing)" if '"NULL"' in str(dtype) or dtype.is_null() else f"type {dtype}"
        raise SchemaError(f"column {name} has {kind}, which tables do not keep; cast it first, e.g. to string")
    return stored


def _stored(name: str, kind: str, *, is_partition: bool) -> str:
    column = sql_name(name)
    if is_partition:
        return f"{_checked_partition(name)}::{kind} AS {column}"
    if kind == "TIMESTAMP":
        lossy = sql_text(f"{_REFUSED}column {name} has times finer than a microsecond; round them first")
        return f"CASE WHEN epoch_ns({column}) % 1000 <> 0 THEN error({lossy}) ELSE {column}::{kind} END AS {column}"
    return f"{column}::{kind} AS {column}"


def _checked_partition(name: str) -> str:
    # Delta Lake reads an empty partition value as null, and DuckDB writes null under the third name.
    column = sql_name(name)
    text = f"{column}::VARCHAR"
    reason = sql_text(
        f"{_REFUSED}partition column {name} has a value that is missing, empty or very long; fill or filter"
    )
    return (
        f"CASE WHEN {column} IS NULL OR {text} IN ('', '__HIVE_DEFAULT_PARTITION__')"
        f" OR strlen(url_encode({text})) > {_LONGEST_PARTITION} THEN error({reason}) ELSE {column} END"
    )


def _files_by_partition(folder: Path) -> dict[str, tuple[Path, ...]]:
    from urllib.parse import unquote

    inner = sorted(folder.glob("*=*")) if folder.is_dir() else []
    return {unquote(part.name.split("=", 1)[1]): tuple(sorted(part.glob("*.parquet"))) for part in inner}


def _in_microseconds(table: pa.Table) -> pa.Table:
    import pyarrow as pa

    fields = [
        field.with_type(pa.timestamp("us", field.type.tz)) if pa.types.is_timestamp(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def _sha(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]
