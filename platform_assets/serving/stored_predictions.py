"""Stored predictions of a model: one row per landed row, in a PostgreSQL table whose rows are never changed.

A domain declares the table with `prediction_table` and creates it with a migration. `batch_predictions.py` adds rows
and copies them to the lake.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from platform_assets.lake.expectations import is_present, is_within
from platform_assets.lake.online_tables import plain_errors
from platform_assets.lake.schemas import Column, TableSchema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import psycopg
    import pyarrow as pa

    from platform_assets.database.connections import Database

DIGEST, LINE = "file_digest", "line"
"""Columns that identify a landed row: SHA-256 of the file's content, and the line in the file."""
PROBABILITY, PREDICTED_AT = "probability", "predicted_at"
OUTSIDE = "outside_training_range"
ROWS_AT_ONCE = 50_000
"""Number of rows per read, which limits the number of Python objects in memory."""
_PROBABILITY = Column(PROBABILITY, "float64", "Probability of the positive class.")
_BY_MODEL = (
    Column("threshold", "float64", "Threshold of the model version."),
    Column("model_version", "int64", "Version of the model that made the prediction."),
    Column("approval_id", "int64", "Approval request of that version."),
    Column(
        OUTSIDE,
        "boolean",
        "Whether a feature is outside its range in the training data; null if that range is unknown.",
    ),
    Column(PREDICTED_AT, "timestamp('UTC')", "Time of the prediction. All rows of a batch have the same time."),
)
_START = datetime(1970, 1, 1, tzinfo=UTC)


def prediction_table(name: str, landed: TableSchema, copied: Sequence[str], positive: Column) -> TableSchema:
    """Return the table of stored predictions for the rows of a landed table.

    Parameters
    ----------
    name
        Name of the table, `<domain>/<table>`. The table in PostgreSQL is `<domain>.<table>`.
    landed
        The table whose rows are predicted. Its key consists of the file's digest and the line number.
    copied
        Further columns of `landed` that are stored with each prediction.
    positive
        Column of the decision: whether the probability reaches the threshold.
    """
    columns = {column.name: column for column in landed.columns}
    by_model = [column.name for column in _BY_MODEL if column.name != OUTSIDE]
    return TableSchema(
        name=name,
        columns=(*(columns[one] for one in (DIGEST, LINE, *copied)), _PROBABILITY, positive, *_BY_MODEL),
        key=(DIGEST, LINE),
        accumulates=True,
        expectations=(
            *(is_present(one) for one in (DIGEST, LINE, PROBABILITY, positive.name, *by_model)),
            is_within(PROBABILITY, 0.0, 1.0),
        ),
    )


def batch_time(batch: int) -> datetime:
    """Return the time of the predictions of a batch."""
    return _START + timedelta(microseconds=batch)


def batch_number(predictions: pa.Table) -> int:
    """Return the batch number of the newest predictions; 0 if there are none.

    The number is the time of the newest prediction, in microseconds since 1970.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    newest = pc.max(predictions[PREDICTED_AT].cast(pa.timestamp("us"))).cast(pa.int64()).as_py()
    return int(newest or 0)


class StoredPredictions:
    """The stored predictions of one model in PostgreSQL.

    Parameters
    ----------
    database
        Function that returns the platform's database.
    schema
        The table, declared by `prediction_table`.
    """

    def __init__(self, database: Callable[[], Database], schema: TableSchema) -> None:
        self._database = database
        self._schema = schema
        self._names = tuple(column.name for column in schema.columns)

    def add(self, connection: psycopg.Connection[Any], rows: Iterable[Sequence[Any]]) -> datetime:
        """Insert predictions in the caller's transaction, and return their time.

        Rows whose key is already stored keep their values. Transactions commit in the order of these times, so that no
        row with an earlier time appears after a reader has read a row with a later time.

        Parameters
        ----------
        connection
            Connection with an open transaction.
        rows
            Values of all columns except the last one, the time.
        """
        # The lock is held until the end of the transaction.
        connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [self._schema.name])
        [(moment,)] = connection.execute(self._queries.next_moment).fetchall()
        self._insert(connection, ((*row, moment) for row in rows))
        return cast("datetime", moment)

    def adopt(self, predictions: pa.Table) -> None:
        """Insert predictions that the lake has and the database lost, for example when a backup was restored.

        Parameters
        ----------
        predictions
            Rows with all columns, from the lake.

        Raises
        ------
        DatabaseError
            The database does not respond.
        """
        with (
            plain_errors(self._schema.name),
            self._database().pooled() as connection,
            connection.transaction(),
        ):
            rows = predictions.select(self._names).to_pylist()
            self._insert(connection, (tuple(row.values()) for row in rows))

    def _insert(self, connection: psycopg.Connection[Any], rows: Iterable[Sequence[Any]]) -> None:
        connection.execute(self._queries.create_new)
        with connection.cursor() as cursor, cursor.copy(self._queries.copy_new) as copy:
            for row in rows:
                copy.write_row(row)
        connection.execute(self._queries.insert)
        connection.execute(self._queries.drop_new)

    def last_batch(self) -> int:
        """Return the number of the last batch, see `batch_number`; 0 if there are no predictions.

        Raises
        ------
        DatabaseError
            The database does not respond.
        """
        [(moment,)] = self._database().reads.rows(self._queries.newest)
        return 0 if moment is None else (moment - _START) // timedelta(microseconds=1)

    def after(self, batch: int) -> pa.Table:
        """Return the predictions after a batch, ordered by time, file and line.

        Parameters
        ----------
        batch
            Number of the batch; 0 for all predictions.

        Raises
        ------
        DatabaseError
            The database does not respond.
        """
        import ibis
        import pyarrow as pa

        schema = ibis.schema({column.name: column.type for column in self._schema.columns}).to_pyarrow()
        parts = [schema.empty_table()]
        with (
            plain_errors(self._schema.name),
            self._database().pooled() as connection,
            connection.transaction(),
            connection.cursor("after") as cursor,
        ):
            cursor.execute(self._queries.after, [batch_time(batch)])
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                columns = zip(schema.names, zip(*rows, strict=True), strict=True)
                parts.append(pa.table({name: pa.array(values, schema.field(name).type) for name, values in columns}))
        return pa.concat_tables(parts)

    def page(self, digests: Sequence[str], offset: int, size: int) -> tuple[list[dict[str, Any]], int]:
        """Return one page of the predictions for files, and the total number of predictions for these files.

        Parameters
        ----------
        digests
            SHA-256 of the files, in the order of the result. The rows of a file are in the order of its lines.
        offset, size
            Number of rows to skip, and maximum number of rows to return.

        Raises
        ------
        DatabaseError
            The database does not respond.
        """
        query, reads = self._queries, self._database().reads
        [(total,)] = reads.rows(query.count, [list(digests)])
        rows = reads.rows(query.page, [list(digests), size, offset])
        return [dict(zip(self._names, row, strict=True)) for row in rows], total

    @cached_property
    def _queries(self) -> _Queries:
        return _Queries(self._schema)


class _Queries:
    """The statements for one table."""

    def __init__(self, schema: TableSchema) -> None:
        from psycopg import sql

        parts = {
            "table": sql.Identifier(*schema.name.split("/")),
            "columns": sql.SQL(", ").join(sql.Identifier(column.name) for column in schema.columns),
            "digest": sql.Identifier(DIGEST),
            "line": sql.Identifier(LINE),
            "at": sql.Identifier(PREDICTED_AT),
        }

        def composed(query: str) -> bytes:
            return sql.SQL(query).format(**parts).as_bytes(None)

        self.next_moment = composed(
            "select greatest(clock_timestamp(), max({at}) + interval '1 microsecond') from {table}"
        )
        self.newest = composed("select max({at}) from {table}")
        self.create_new = composed("create temporary table new (like {table}) on commit drop")
        self.copy_new = composed("copy new ({columns}) from stdin")
        self.insert = composed("insert into {table} ({columns}) select {columns} from new on conflict do nothing")
        self.drop_new = composed("drop table new")
        self.after = composed("select {columns} from {table} where {at} > %s order by {at}, {digest}, {line}")
        self.count = composed("select count(*) from {table} where {digest} = any(%s)")
        self.page = composed(
            "select {columns} from unnest(%s::text[]) with ordinality as wanted (digest, place)"
            " join {table} on {digest} = wanted.digest order by place, {line} limit %s offset %s"
        )
