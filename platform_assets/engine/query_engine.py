"""The query engine: DuckDB behind Ibis, within stated bounds of memory, threads and disk.

Everything that moves rows goes through here: opening files as Ibis expressions, and staging a
frame or an expression as parquet files on local disk. `staged_files.py` says what is staged, and
`stored_types.py` which types of columns can be.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import uuid
import weakref
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import SchemaError, TableError, first_line
from platform_assets.base.frames import Expression, Frame, refuse_doubled_columns
from platform_assets.base.scratch import OwnedFolder
from platform_assets.base.sql_quoting import sql_name, sql_text
from platform_assets.engine.staged_files import WHOLE, Part, Staged, files_by_partition, short_sha
from platform_assets.engine.stored_types import REFUSED, stored_column, stored_types

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb
    import pyarrow as pa
    import pyarrow.dataset as pads
    from ibis.backends.duckdb import Backend


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
        refuse_doubled_columns(rows.schema.names)
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
        types = stored_types(expression, partition_by)
        columns = ", ".join(
            stored_column(name, kind, is_partition=name == partition_by) for name, kind in types.items()
        )
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
        files = {WHOLE: (target,)} if partition_by is None else files_by_partition(target)
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
        return Part(files, rows, f"duckdb-{duckdb.__version__}:{short_sha([columns, mixed, str(total), rows])}")

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
            if REFUSED not in str(error):
                raise
            raise TableError(str(error).split(REFUSED, 1)[1].strip()) from None


def is_full(error: BaseException) -> bool:
    """Whether an error of DuckDB, Arrow or delta-rs says that the disk is full."""
    return any(words in str(error) for words in ("No space left", "os error 28", "Errno 28", "errno 28"))


def _in_microseconds(table: pa.Table) -> pa.Table:
    import pyarrow as pa

    fields = [
        field.with_type(pa.timestamp("us", field.type.tz)) if pa.types.is_timestamp(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))
