"""Store measured drift, its evidence, and estimated performance in PostgreSQL.

The tables are `drift_batches`, `drift`, `drift_evidence` and `estimated_performance` in the schema `platform`.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import DatabaseError, first_line
from platform_assets.evaluation.intervals import Estimate
from platform_assets.monitoring.drift.performance_estimate import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime, timedelta

    import psycopg

    from platform_assets.monitoring.drift.evidence import Found
    from platform_assets.monitoring.drift.performance_estimate import PerformanceEstimate

    Connection = psycopg.Connection[Any]

BATCH, DAY = "batch", "day"
"""Units that are measured."""
_SUMMARY = (
    "select batch, name, version, n, alarm, outside, arrived_at, measured_at from platform.drift_batches "
    "where model = %s and stream = %s and unit = 'batch'"
)

_DELETE_OLD = b"""
delete from platform.drift_batches as old where measured_at < now() - %s and exists (
    select from platform.drift_batches as later
    where (later.model, later.stream, later.unit) = (old.model, old.stream, old.unit)
    and later.arrived_at > old.arrived_at
) returning model, stream, unit, batch
"""
_OF_BATCH = "delete from platform.{} where (model, stream, unit, batch) = (%s, %s, %s, %s)"


@dataclass(frozen=True)
class Stream:
    """Stream of new rows for a model, identified by the model's name and the table of the rows."""

    model: str
    table: str


@dataclass(frozen=True)
class MeasuredBatch:
    """Measurement of a batch or a day.

    Attributes
    ----------
    unit
        `batch` or `day`.
    batch, name
        Id and display name of the batch or day.
    arrived_at
        Arrival time of the batch, or of the day's last batch.
    columns
        Drift by column.
    rows
        Number of rows.
    alarm
        Columns with an alarm. For a day: columns with an alarm in at least one of its batches.
    performance
        Estimated performance.
    measured_at
        Time of the measurement. Batches that are measured together have the same time.
    """

    unit: str
    batch: str
    name: str
    arrived_at: datetime
    columns: Mapping[str, Found]
    rows: int
    alarm: frozenset[str]
    performance: PerformanceEstimate
    measured_at: datetime


@dataclass(frozen=True)
class BatchSummary:
    """Summary of a measured batch, without the drift of its columns."""

    batch: str
    name: str
    version: int
    rows: int
    alarm: bool
    outside: float | None
    arrived_at: datetime
    measured_at: datetime


@dataclass(frozen=True)
class Arrived:
    """Arrival time of a measured batch, and the columns with an alarm."""

    at: datetime
    alarm: frozenset[str]


@dataclass(frozen=True)
class MeasuredColumn:
    """Measured drift of a column on a day."""

    effect: float
    evidence: float
    threshold: float
    alarm: bool
    told: str


@dataclass(frozen=True)
class MeasuredDay:
    """Number of rows of a measured day, its drift by column, and its performance estimates (not null) by metric."""

    day: date
    rows: int
    drift: Mapping[str, MeasuredColumn]
    performance: Mapping[str, Estimate]


class DriftHistory:
    """The stored measurements.

    Parameters
    ----------
    connect
        Function that returns a context manager with a connection to the platform's database.
    """

    def __init__(self, connect: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._connect = connect

    def delete_old(self, age: timedelta) -> int:
        """Delete measurements older than `age`, except the newest of each stream and unit.

        Returns
        -------
        int
            Number of deleted batches and days.
        """
        with self._connect() as connection, connection.transaction():
            old = connection.execute(_DELETE_OLD, [age]).fetchall()
            for table in ("drift", "estimated_performance"):
                connection.cursor().executemany(f"{_OF_BATCH.format(table)}".encode(), old)
        return len(old)

    def newest(self, stream: Stream) -> BatchSummary | None:
        """Return the batch that arrived last; None if none was measured."""
        return self._first(f"{_SUMMARY} order by arrived_at desc, batch desc limit 1", stream)

    def newest_alarm(self, stream: Stream) -> BatchSummary | None:
        """Return the batch with an alarm that was measured last; None if there was no alarm."""
        return self._first(
            f"{_SUMMARY} and alarm order by measured_at desc, arrived_at desc, batch desc limit 1", stream
        )

    def of_newest_measurement(self, stream: Stream) -> list[BatchSummary]:
        """Return the batches of the newest measurement, in the order of their arrival."""
        newest = (
            "and measured_at = (select max(measured_at) from platform.drift_batches "
            "where model = %s and stream = %s and unit = 'batch') order by arrived_at, batch"
        )
        keys = [*_key(stream)]
        return [BatchSummary(*row) for row in self._rows(f"{_SUMMARY} {newest}", [*keys, *keys])]

    def measured_since(self, stream: Stream, since: datetime) -> dict[str, Arrived]:
        """Return the batches that arrived at `since` or later, by id."""
        query = (
            "select b.batch, b.arrived_at, coalesce(array_agg(d.feature) filter (where d.alarm), '{}') "
            "from platform.drift_batches b left join platform.drift d using (model, stream, unit, batch) "
            "where b.model = %s and b.stream = %s and b.unit = 'batch' and b.arrived_at >= %s "
            "group by b.batch, b.arrived_at"
        )
        rows = self._rows(query, [*_key(stream), since])
        return {batch: Arrived(at, frozenset(alarmed)) for batch, at, alarmed in rows}

    def days(self, stream: Stream, since: date) -> list[MeasuredDay]:
        """Return the measured days from `since` on, oldest first."""
        values = [*_key(stream), since.isoformat()]
        where = "where model = %s and stream = %s and unit = 'day' and batch >= %s"
        drift: dict[str, dict[str, MeasuredColumn]] = defaultdict(dict)
        rows: dict[str, int] = {}
        query = f"select batch, n, feature, effect, statistic, threshold, alarm, deviation from platform.drift {where}"  # noqa: S608 - constants
        for day, number, feature, *found in self._rows(f"{query} order by batch, feature", values):
            rows[day] = number
            drift[day][feature] = MeasuredColumn(*found)
        performance: dict[str, dict[str, Estimate]] = defaultdict(dict)
        query = f"select batch, metric, value, low, high from platform.estimated_performance {where}"  # noqa: S608 - constants
        for day, metric, *ends in self._rows(f"{query} and value is not null", values):
            performance[day][metric] = Estimate(*ends)
        return [
            MeasuredDay(date.fromisoformat(day), rows[day], found, performance[day]) for day, found in drift.items()
        ]

    def evidence(self, stream: Stream, reference: str) -> dict[str, bytes]:
        """Return the evidence by column, if it was computed with the training rows `reference`; else empty."""
        query = (
            "select feature, capital from platform.drift_evidence where model = %s and stream = %s and reference = %s"
        )
        return {feature: bytes(capital) for feature, capital in self._rows(query, [*_key(stream), reference])}

    def add(
        self,
        stream: Stream,
        version: int,
        measured: Sequence[MeasuredBatch],
        evidence: tuple[str, Mapping[str, bytes]],
        run: str,
    ) -> None:
        """Store measurements and the updated evidence in one transaction.

        Measurements of days in `measured` replace the stored measurements of the same days.

        Parameters
        ----------
        stream
            The stream.
        version
            Model version whose training rows the batches were compared with.
        measured
            Batches and days.
        evidence
            Id of the training rows, and evidence by column.
        run
            Id of the Dagster run.
        """
        reference, capital = evidence
        days = [one.batch for one in measured if one.unit == DAY]
        with self._answers() as connection, connection.transaction(), connection.cursor() as cursor:
            for table in ("drift_batches", "drift", "estimated_performance"):
                cursor.execute(
                    f"delete from platform.{table} where model = %s and stream = %s and unit = 'day' "  # noqa: S608 - constants
                    "and batch = any(%s)".encode(),
                    [*_key(stream), days],
                )
            _insert(cursor, "drift_batches", [_batch_row(stream, version, one, run) for one in measured])
            _insert(cursor, "drift", [row for one in measured for row in _drift_rows(stream, version, one)])
            _insert(
                cursor, "estimated_performance", [row for one in measured for row in _metrics(stream, version, one)]
            )
            cursor.execute("delete from platform.drift_evidence where model = %s and stream = %s", [*_key(stream)])
            _insert(
                cursor,
                "drift_evidence",
                [(*_key(stream), feature, reference, value) for feature, value in capital.items()],
            )

    def _first(self, query: str, stream: Stream) -> BatchSummary | None:
        rows = self._rows(query, [*_key(stream)])
        return BatchSummary(*rows[0]) if rows else None

    def _rows(self, query: str, values: Sequence[Any]) -> list[Any]:
        with self._answers() as connection:
            return connection.execute(query.encode(), values).fetchall()

    @contextmanager
    def _answers(self) -> Iterator[Connection]:
        import psycopg

        try:
            with self._connect() as connection:
                yield connection
        except psycopg.Error as error:
            raise DatabaseError(
                f"the drift history cannot be read or written ({first_line(error)}); run `platform-assets doctor` to "
                "check the database"
            ) from error


def _key(stream: Stream) -> tuple[str, str]:
    return stream.model, stream.table


def _insert(cursor: Any, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    from psycopg import sql

    with cursor.copy(sql.SQL("copy {} from stdin").format(sql.Identifier("platform", table))) as copy:
        for row in rows:
            copy.write_row(row)


def _batch_row(stream: Stream, version: int, one: MeasuredBatch, run: str) -> tuple[Any, ...]:
    identity = (*_key(stream), one.unit, one.batch, one.name, version, one.rows)
    return (*identity, bool(one.alarm), one.performance.outside, one.arrived_at, one.measured_at, run)


def _drift_rows(stream: Stream, version: int, one: MeasuredBatch) -> Iterator[tuple[Any, ...]]:
    for feature, found in one.columns.items():
        numbers = (one.rows, found.evidence, found.threshold, found.effect)
        alarm = feature in one.alarm
        yield (*_key(stream), one.unit, one.batch, feature, version, *numbers, alarm, found.told)


def _metrics(stream: Stream, version: int, one: MeasuredBatch) -> Iterator[tuple[Any, ...]]:
    for name in METRICS:
        metric = one.performance.metrics[name].as_dict() if one.performance.metrics else {}
        yield (
            *_key(stream),
            one.unit,
            one.batch,
            name,
            version,
            *(metric.get(end) for end in ("value", "low", "high")),
        )
