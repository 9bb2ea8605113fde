"""The query engine: DuckDB, used through Ibis, with limits on memory, threads and disk.

The engine opens files as Ibis expressions, and stages a frame or an expression as parquet files on local disk.
`staged_files.py` describes staged files, and `stored_types.py` lists the column types that tables support.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import uuid
import weakref
from contextlib import contextmanager, nullcontext
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
    from collections.abc import Iterator, Mapping

    import duckdb
    import pyarrow as pa
    import pyarrow.dataset as pads
    from deltalake import DeltaTable
    from ibis.backends.duckdb import Backend

    from platform_assets.engine.spark_cluster import SparkCluster


def as_frame(expression: Expression) -> Frame:
    """Run an expression and return a pandas frame. Dates are `datetime64`, and integers with nulls are `Int64`."""
    import pandas as pd
    import pyarrow as pa

    rows: pa.Table = expression.to_pyarrow()
    frame: Frame = rows.to_pandas(date_as_object=False)
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        if pa.types.is_integer(column.type) and column.null_count:
            # pandas would convert the integers to floats, which are inexact beyond 2**53.
            frame[name] = column.cast(pa.int64()).to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return frame


class Engine:
    """An embedded DuckDB that spills to disk instead of exceeding its memory limit.

    An engine serves one thread at a time. A second thread needs its own engine.

    Parameters
    ----------
    scratch
        Folder for staged and spilled rows; created when needed. Each engine uses a subfolder, which is removed when
        the process ends. `scratch.clean_scratch` removes the subfolders of killed processes.
    memory
        DuckDB's memory limit, e.g. `2GB`.
    threads
        DuckDB's threads; None for all cores.
    cluster
        Spark cluster that reads and stages tables opened with `delta_on_cluster`; None to use DuckDB for them too.
    """

    def __init__(
        self, scratch: Path, memory: str = "2GB", threads: int | None = None, cluster: SparkCluster | None = None
    ) -> None:
        self._scratch = scratch
        self._cluster = cluster
        self._config: dict[str, Any] = {"memory_limit": memory, "autoinstall_known_extensions": False}
        if threads:
            self._config["threads"] = threads
        self._retired: list[str] = []

    @cached_property
    def _own(self) -> OwnedFolder:
        return OwnedFolder(self._scratch, "engine")

    @cached_property
    def ibis(self) -> Backend:
        """The Ibis backend. Only expressions of the same backend can be combined."""
        import ibis

        # Let DuckDB stream in parallel without preserving the insertion order. Queries that need an order have an
        # ORDER BY.
        backend = ibis.duckdb.connect(
            temp_directory=str(self._own.path / "spill"), preserve_insertion_order=False, **self._config
        )
        # Turn the progress bar off, because DuckDB draws it on standard output.
        backend.con.execute("SET enable_progress_bar = false")
        # DuckDB prints leak warnings if a connection is still open when the interpreter ends.
        atexit.register(self.close)
        return backend

    @property
    def duckdb(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection, for queries that Ibis cannot express."""
        connection: duckdb.DuckDBPyConnection = self.ibis.con
        return connection

    def close(self) -> None:
        """Close the connection, and remove staged and spilled files. This also happens when the process ends."""
        if "ibis" in self.__dict__:
            self.ibis.disconnect()
            del self.ibis
            atexit.unregister(self.close)
        if "_own" in self.__dict__:
            self._own.remove()
            del self._own
        if self._cluster:
            self._cluster.close()

    def sql(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run one SQL statement and return all rows."""
        return self.duckdb.execute(query, list(parameters)).fetchall()

    def folder(self, purpose: str) -> Path:
        """Create a private folder for temporary files."""
        return Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=self._own.path))

    def dataset(self, dataset: pads.Dataset) -> Expression:
        """Return an Arrow dataset as an expression that reads only the needed rows and columns."""
        return self._registered(dataset)

    def delta(self, table: DeltaTable) -> Expression:
        """Return a Delta table, at the version that was opened, as a DuckDB expression."""
        return self.dataset(table.to_pyarrow_dataset())

    def delta_on_cluster(self, table: DeltaTable) -> Expression:
        """Like `delta`, but return a Spark expression if Spark is configured."""
        if self._cluster is None:
            return self.delta(table)
        return self._cluster.parquet(table.file_uris(), table.to_pyarrow_dataset().schema)

    def is_on_cluster(self, expression: Expression) -> bool:
        """Whether Spark computes an expression."""
        return self._cluster is not None and self._cluster.holds(expression)

    def parquet(self, *files: Path) -> Expression:
        """Return parquet files as one expression."""
        # Disable hive partitioning, because it would turn a folder named `a=b` into a column.
        return self.ibis.read_parquet([str(file) for file in files], hive_partitioning=False)

    def staged(self, staged: Staged) -> Expression:
        """Return staged rows as an expression of the engine that staged them, including the partition column."""
        if staged.is_on_cluster and self._cluster is not None:
            return self._cluster.parquet([str(file) for file in staged.files], staged.schema)
        if not staged.parts:
            return self._registered(staged.schema.empty_table())
        return self.parquet(*staged.files)

    def as_expression(self, data: Frame | Expression | pa.Table) -> Expression:
        """Return rows as an expression of this engine. The index of a pandas frame is dropped.

        Raises
        ------
        SchemaError
            A column mixes types, a time is finer than a microsecond, or two column names differ only in case.
        """
        import pyarrow as pa

        if isinstance(data, Expression):
            return data
        if not isinstance(data, Frame | pa.Table):
            raise SchemaError(f"{type(data).__name__} is not a table; return a pandas frame or an Ibis expression")
        try:
            table = data if isinstance(data, pa.Table) else pa.Table.from_pandas(data, preserve_index=False)
            rows = _in_microseconds(table)
        except pa.ArrowException as error:
            reason = "; ".join(map(str, error.args))
            needed = "each column must have a single type, and times must be rounded to microseconds"
            raise SchemaError(f"the frame cannot be stored as a table: {reason}; {needed}") from None
        refuse_doubled_columns(rows.schema.names)
        return self._registered(rows)

    def _registered(self, rows: pads.Dataset | pa.Table) -> Expression:
        self._forget_retired()
        name = f"rows_{uuid.uuid4().hex}"
        self.duckdb.register(name, rows)
        table = self.ibis.table(name)
        # Unregister the rows once no expression uses them. The finalizer may run while the connection streams a
        # result, so it only adds the name to a list, which `_forget_retired` processes later.
        weakref.finalize(table.op(), self._retired.append, name)
        return table

    def _forget_retired(self) -> None:
        while self._retired:
            self.duckdb.unregister(self._retired.pop())

    def stage(self, data: Frame | Expression | pa.Table, partition_by: str | None = None) -> Staged:
        """Stream rows to parquet files in the scratch folder, and compute their digest.

        The digest does not depend on the order of the rows or on their distribution over files. It is computed from
        the exclusive or and the sum of DuckDB's 64-bit row hashes, the number of rows, and the names and types of the
        columns. The digest includes DuckDB's version, because its hash function may change. Each row hash is hashed
        again: DuckDB's row hash is linear in the hashes of the cells, so the exclusive or of the plain hashes would not
        change when two rows exchange cells. As in SQL, 0.0 equals -0.0 and all NaN are equal. Null differs from NaN and
        from the empty string.

        Supported types are booleans, signed integers (unsigned ones become the next larger signed type), floats,
        decimals, strings (categories become strings), binary, dates, and timestamps in microseconds. Timestamps with a
        time zone are stored as instants in UTC.

        Raises
        ------
        SchemaError
            The type of a column is not supported, or a value does not fit its type.
        TableError
            The disk or memory is full, or a partition value cannot be stored.
        """
        expression = self.as_expression(data)
        folder = self.folder("staged")
        try:
            with self.plain_errors():
                return self._stage(expression, folder, partition_by)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _stage(self, expression: Expression, folder: Path, partition_by: str | None) -> Staged:
        types = stored_types(expression, partition_by)
        if self._cluster is not None and self._cluster.holds(expression):
            return self._stage_on_cluster(self._cluster, expression, types, folder, partition_by)
        columns = ", ".join(
            stored_column(name, kind, is_partition=name == partition_by) for name, kind in types.items()
        )
        view = f"staging_{uuid.uuid4().hex}"
        # Use a view, because the SQL of a compiled expression does not contain Ibis' in-memory tables. The casts are
        # needed because DuckDB's types differ from those of Ibis: a sum of integers has 128 bits, and would be written
        # as a double.
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

    def _stage_on_cluster(
        self,
        cluster: SparkCluster,
        expression: Expression,
        types: Mapping[str, str],
        folder: Path,
        partition_by: str | None,
    ) -> Staged:
        """Write the files with Spark. DuckDB reads them to compute the digest, so both engines give the same digest."""
        target = folder / "rows"
        cluster.write(expression, types, target, partition_by)
        written = tuple(sorted(target.glob("*.parquet")))
        files = files_by_partition(target) if partition_by else {WHOLE: written}
        nothing = ", ".join(f"NULL::{kind} AS {sql_name(name)}" for name, kind in types.items())
        schema = self.duckdb.sql(f"SELECT {nothing} LIMIT 0").to_arrow_table().schema
        parts = {name: self._part(these) for name, these in files.items()}
        return Staged(folder, schema, parts, partition_by, is_on_cluster=True)

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
    def plain_errors(self) -> Iterator[None]:
        """Turn errors of DuckDB and Spark about memory, disk and values into `SchemaError` and `TableError`."""
        import duckdb

        try:
            with self._cluster.plain_errors() if self._cluster else nullcontext():
                yield
        except duckdb.OutOfMemoryException as error:
            reason = first_line(error)
            needed = f"raise PLATFORM_ENGINE_MEMORY, or free space on {self._scratch} for spilling"
            raise TableError(f"not enough memory to stage the rows ({reason}); {needed}") from error
        except duckdb.IOException as error:
            if not is_full(error):
                raise
            raise TableError(
                f"no space left on {self._scratch} to stage the rows; free some space, and run again"
            ) from error
        except duckdb.ConversionException as error:
            raise SchemaError(f"a value does not fit its column's type: {first_line(error)}") from error
        except duckdb.InvalidInputException as error:
            if REFUSED not in str(error):
                raise
            raise TableError(str(error).split(REFUSED, 1)[1].strip()) from None


def is_full(error: BaseException) -> bool:
    """Whether an error of DuckDB, Arrow or delta-rs means that the disk is full."""
    return any(words in str(error) for words in ("No space left", "os error 28", "Errno 28", "errno 28"))


def _in_microseconds(table: pa.Table) -> pa.Table:
    import pyarrow as pa

    fields = [
        field.with_type(pa.timestamp("us", field.type.tz)) if pa.types.is_timestamp(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))
