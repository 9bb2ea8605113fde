"""Read and write parquet files with Spark, for tables that outgrow one machine.

`query_engine.py` decides which Ibis expressions run on Spark. Requires the optional feature `spark` and Java.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import uuid
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from platform_assets.base.errors import SchemaError, TableError, first_line
from platform_assets.engine.stored_types import LONGEST_PARTITION, REFUSED, refused_partition

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa
    from ibis.backends.pyspark import Backend
    from pyspark.sql import Column, SparkSession

    from platform_assets.base.frames import Expression

CONNECT = "sc://"
# Spark's names for DuckDB's types; types that are not listed have the same name in both.
_SPARK_TYPES = {
    "VARCHAR": "STRING",
    "BLOB": "BINARY",
    # Spark calls an instant TIMESTAMP, and a time without a zone TIMESTAMP_NTZ.
    "TIMESTAMP": "TIMESTAMP_NTZ",
    "TIMESTAMPTZ": "TIMESTAMP",
}
_SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    # Fail on a value that does not fit its type, as DuckDB does.
    "spark.sql.ansi.enabled": "true",
    # The default is INT96, which is deprecated.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
}
_KEY = "platform_partition"
_PORTS = {"sc": 15002, "spark": 7077}
"""Spark's default ports."""
_ANSWER_SECONDS = 10


class SparkCluster:
    """A Spark session that starts when it is first needed.

    The driver and all workers must see the platform's home at the same path, because they exchange files through it.

    Parameters
    ----------
    address
        `sc://host:port` of a Spark Connect server, or a master such as `spark://host:port` or `local[*]`.

    Raises
    ------
    TableError
        On first use: the feature `spark` or Java is not installed, or the cluster cannot be reached.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    @cached_property
    def ibis(self) -> Backend:
        """The Ibis backend."""
        import ibis

        session = _opened(self._address)
        for name, value in _SETTINGS.items():
            session.conf.set(name, value)
        return ibis.pyspark.connect(session)

    def holds(self, expression: Expression) -> bool:
        """Return whether an expression reads tables of this cluster."""
        if "ibis" not in self.__dict__:
            return False
        backends, _ = expression._find_backends()  # noqa: SLF001 - the public method raises for tables in memory
        return any(backend is self.ibis for backend in backends)

    def parquet(self, files: Sequence[str], schema: pa.Schema) -> Expression:
        """Return parquet files as one expression. A column that is missing from a file is null in its rows.

        Parameters
        ----------
        files
            Paths or URIs.
        schema
            Columns to read, with their types.
        """
        import ibis
        import ibis.expr.operations as ops
        from ibis.backends.pyspark.datatypes import PySparkSchema

        types = ibis.Schema.from_pyarrow(schema)
        columns = PySparkSchema.from_ibis(types)
        name = f"rows_{uuid.uuid4().hex}"
        session = self.ibis._session  # noqa: SLF001 - Ibis reads several files only without a schema
        # Escape wildcards, because Spark expands them in paths.
        paths = [re.sub(r"([][{}*?\\])", r"\\\1", file) for file in files]
        rows = session.read.schema(columns).parquet(*paths) if files else session.createDataFrame([], columns)
        rows.createOrReplaceTempView(name)
        # Do not let Ibis infer the types, because it reads Spark's TIMESTAMP as a time without a zone.
        table: Expression = ops.DatabaseTable(name, schema=types, source=self.ibis, namespace=ops.Namespace()).to_expr()
        return table

    def write(self, expression: Expression, types: Mapping[str, str], folder: Path, partition_by: str | None) -> None:
        """Write the rows as parquet files below a folder, with one subfolder `key=<value>` for each partition.

        Parameters
        ----------
        expression
            The rows to write.
        types
            The stored type of each column, from `stored_types`.
        folder
            A folder that does not exist.
        partition_by
            Name of the partition column. It is also written to the files.

        Raises
        ------
        SchemaError
            A value does not fit its type.
        TableError
            A partition value cannot be stored, or the cluster failed.
        """
        from pyspark.sql import functions as sf

        view = f"staging_{uuid.uuid4().hex}"
        with self.plain_errors():
            self.ibis.create_view(view, expression)
            rows = self.ibis._session.table(view)  # noqa: SLF001 - Ibis cannot cast to the stored types
            columns = [_stored(name, kind, is_partition=name == partition_by) for name, kind in types.items()]
            if partition_by is None:
                rows.select(*columns).write.parquet(str(folder))
            else:
                # Partition by a copy of the column, because Spark leaves the partition column out of the files.
                keyed = rows.select(*columns, sf.col(f"`{partition_by}`").cast("string").alias(_KEY))
                keyed.write.partitionBy(_KEY).parquet(str(folder))
            self.ibis._session.catalog.dropTempView(view)  # noqa: SLF001 - Ibis has no function for it

    @contextmanager
    def plain_errors(self) -> Iterator[None]:
        """Turn Spark's errors into `SchemaError` and `TableError`."""
        from pyspark.errors import PySparkException

        try:
            yield
        except PySparkException as error:
            if REFUSED in str(error):
                refused = str(error).split(REFUSED, 1)[1].splitlines()[0]
                raise TableError(refused.split("SQLSTATE:")[0].strip()) from None
            if (error.getCondition() or "").startswith(("CAST_", "NUMERIC_VALUE_OUT_OF_RANGE")):
                raise SchemaError(f"a value does not fit its column's type: {first_line(error)}") from error
            raise TableError(f"Spark at {self._address} cannot compute the rows: {first_line(error)}") from error

    def close(self) -> None:
        """End the session, and the driver that the session started."""
        if "ibis" in self.__dict__:
            self.ibis._session.stop()  # noqa: SLF001 - disconnecting does not end the driver
            del self.ibis


def _opened(address: str) -> SparkSession:
    if reason := why_not(address):
        raise TableError(f"Spark at {address} cannot be used: {reason}")
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    builder: Any = SparkSession.builder.appName("platform_assets")
    if address.startswith(CONNECT):
        builder = builder.remote(address)
    else:
        builder = builder.master(address).config("spark.ui.showConsoleProgress", "false")
    try:
        session: SparkSession = builder.getOrCreate()
        # Run a command, because the session does not connect before the first command.
        _ = session.version
    except (PySparkException, RuntimeError, OSError) as error:
        raise TableError(f"Spark at {address} cannot be used: {first_line(error)}") from error
    return session


def why_not(address: str) -> str | None:
    """Check, without starting Spark, whether it can be used at an address.

    An unreachable address is detected within seconds, whereas Spark itself retries for minutes.

    Returns
    -------
    str or None
        The problem and its fix, or None if Spark can be used.
    """
    if find_spec("pyspark") is None:
        return "pyspark is not installed; run `export EXTRAS=spark` before `make run` or `make up`"
    # A Connect server has its own Java. For any other address, the driver runs on this machine and needs Java.
    if not address.startswith(CONNECT):
        # Like Spark, look on PATH only if JAVA_HOME is not set.
        home = os.environ.get("JAVA_HOME")
        if home and shutil.which(f"{home}/bin/java") is None:
            return f"JAVA_HOME is {home}, which has no bin/java; correct it, or unset it to use the Java on PATH"
        if not home and shutil.which("java") is None:
            return "Java is not installed; install Java 17 (Debian: apt-get install default-jre-headless)"
    parts = urlsplit(address)
    if parts.scheme not in _PORTS:
        return None
    try:
        port = parts.port or _PORTS[parts.scheme]
        socket.create_connection((parts.hostname or "", port), timeout=_ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        return f"the address cannot be reached ({error}); correct PLATFORM_SPARK_REMOTE"
    return None


def _stored(name: str, kind: str, *, is_partition: bool) -> Column:
    """Return a column cast to its stored type. For a value that cannot be stored, Spark raises a `REFUSED` error."""
    from pyspark.sql import functions as sf

    quoted = f"`{name.replace('`', '``')}`"
    column = sf.col(quoted)
    if is_partition:
        text = column.cast("string")
        is_bad = column.isNull() | text.isin("", "__HIVE_DEFAULT_PARTITION__")
        is_long = sf.length(sf.url_encode(text)) > LONGEST_PARTITION
        column = sf.when(is_bad | is_long, sf.raise_error(sf.lit(refused_partition(name)))).otherwise(column)
    return column.cast(_SPARK_TYPES.get(kind, kind)).alias(name)
