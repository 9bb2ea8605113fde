"""Measure the drift and the estimated performance on a model's new rows, per batch and per day."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TrainingError
from platform_assets.engine.query_engine import as_frame
from platform_assets.models.registry import IMPORTED_TAG, champion_or_newest
from platform_assets.monitoring.drift.evidence import LONGEST_PAUSE, ColumnDetector
from platform_assets.monitoring.drift.history import BATCH, DAY, MeasuredBatch, Stream
from platform_assets.monitoring.drift.performance_estimate import MOST_ROWS, estimate_performance
from platform_assets.monitoring.drift.reference import PROBABILITY, read_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from platform_assets.base.frames import Expression, Frame
    from platform_assets.lake.delta_tables import TableStore
    from platform_assets.models.artefact_store import ArtefactStore
    from platform_assets.models.registry import ModelRegistry
    from platform_assets.monitoring.drift.history import BatchSummary, DriftHistory
    from platform_assets.monitoring.drift.performance_estimate import PerformanceEstimate
    from platform_assets.monitoring.drift.reference import Reference
    from platform_assets.training.model_spec import Incoming, ModelSpec

MOST_BATCHES = 2_000
"""Maximum number of batches per measurement. The next measurement continues with the remaining batches."""
ROWS_AT_ONCE = 500_000
"""Maximum number of rows per measurement. A larger batch is measured alone."""
LATE = timedelta(days=1)
"""Batches that arrived up to this long before the newest measured batch are still measured.

Without this allowance, a batch would be missed if it became visible after a batch with a later arrival time had already
been measured.
"""


@dataclass(frozen=True, eq=False)
class Measurement:
    """Result of a measurement.

    Attributes
    ----------
    batches
        Newly measured batches, in the order of their arrival.
    days
        Measurements of the days on which these batches arrived, each computed from all rows that arrived on the day.
    left
        Number of batches that were not measured yet.
    reference
        The training rows; None if nothing was measured.
    values
        Values of the newly measured rows by column; a sample if there are many rows.
    reason
        Why nothing was measured; empty if a batch was measured.
    """

    batches: Sequence[MeasuredBatch] = ()
    days: Sequence[MeasuredBatch] = ()
    left: int = 0
    reference: Reference | None = None
    values: Mapping[str, Any] | None = None
    reason: str = ""


class DriftMonitor:
    """Service that measures drift.

    Parameters
    ----------
    stores
        Stores of the tables, artefacts and model versions.
    history
        Stored measurements.
    lock
        Function that takes a name and returns a context manager, which holds the lock with this name.
    false_alarm_days
        Mean number of days between two false alarms of a stream.
    """

    def __init__(
        self,
        stores: tuple[TableStore, ArtefactStore, ModelRegistry],
        history: DriftHistory,
        lock: Callable[[str], AbstractContextManager[None]],
        false_alarm_days: float,
    ) -> None:
        self._tables, self._artefacts, self._registry = stores
        self._history = history
        self._lock = lock
        self._false_alarm_days = false_alarm_days

    def measure(self, spec: ModelSpec, run: str, rows: Expression | None = None) -> Measurement:
        """Measure new batches, that is, compare them with training rows.

        The training rows are those of the champion or, if there is no champion, of the newest version.

        Parameters
        ----------
        spec
            Declaration of a model with `incoming`.
        run
            Id of the Dagster run.
        rows
            The new rows; None to read the table of `incoming`.

        Raises
        ------
        TableError, TrainingError, ArtefactError, RegistryError, DatabaseError
            The rows, the training rows, the model or the history cannot be read.
        """
        incoming = _incoming(spec)
        with self._lock(f"drift of {spec.name}"):
            version = champion_or_newest(self._registry, spec.name)
            if version is None:
                return Measurement(
                    reason=f"{spec.name} has no version yet, so there are no training rows to compare with"
                )
            if imported := version.tags.get(IMPORTED_TAG):
                return Measurement(reason=f"version {version.version} is {imported}, so its training rows are unknown")
            if rows is None:
                if not self._tables.exists(incoming.table):
                    return Measurement(reason=f"the table {incoming.table} does not exist yet")
                rows = self._tables.scan(incoming.table)
            stream = Stream(spec.name, incoming.table)
            newest = self._history.newest(stream)
            waiting = self._waiting(stream, incoming, rows, newest)
            if waiting.empty:
                return Measurement(reason="no new rows have arrived since the last measurement")
            taken = _first(waiting)
            reference = read_reference(self._tables, self._artefacts, spec, version)
            name = _name(reference, self._false_alarm_days)
            comparison = _Comparison(reference, self._detectors(reference, self._history.evidence(stream, name)))
            frame = as_frame(rows.filter(rows[incoming.batch].cast("string").isin(taken["batch"].tolist())))
            batches = list(comparison.batches(taken, frame, newest.arrived_at if newest else None))
            days = list(self._days(comparison, stream, rows, batches))
            self._history.add(stream, version.version, [*batches, *days], (name, comparison.evidence()), run)
        shown = frame if len(frame) <= MOST_ROWS else frame.sample(MOST_ROWS, random_state=0)
        return Measurement(batches, days, len(waiting) - len(taken), reference, reference.columns(shown))

    def _waiting(self, stream: Stream, incoming: Incoming, rows: Expression, newest: BatchSummary | None) -> Frame:
        """Return the batches that were not measured yet, oldest first.

        The columns are `batch`, `name`, `arrived_at` and `rows`.
        """
        import ibis

        known: list[str] = []
        if newest:
            since = newest.arrived_at - LATE
            known = list(self._history.measured_since(stream, since))
            rows = rows.filter(rows[incoming.arrived_at] >= ibis.literal(since))
        found = as_frame(
            rows.group_by(batch=rows[incoming.batch].cast("string")).aggregate(
                name=rows[incoming.batch_name].cast("string").max(),
                arrived_at=rows[incoming.arrived_at].max(),
                rows=rows.count(),
            )
        )
        return found[~found["batch"].isin(known)].sort_values(["arrived_at", "batch"], ignore_index=True)

    def _detectors(self, reference: Reference, capital: Mapping[str, bytes]) -> dict[str, ColumnDetector]:
        rulers = reference.rulers
        return {
            name: ColumnDetector(ruler, len(rulers), self._false_alarm_days, capital.get(name))
            for name, ruler in rulers.items()
        }

    def _days(
        self, comparison: _Comparison, stream: Stream, rows: Expression, batches: Sequence[MeasuredBatch]
    ) -> Iterator[MeasuredBatch]:
        """Yield a measurement for each day on which batches arrived.

        Drift tests run on single batches, not on days. The measurement of a day therefore contains the evidence of the
        day's last batch, and an alarm for each column that has an alarm in any of the day's batches.
        """
        import ibis

        incoming = _incoming(comparison.reference.spec)
        # Batches are ordered by time, so this keeps the last batch of each day.
        last = {one.arrived_at.date(): one for one in batches}
        for day, batch in last.items():
            start = datetime.combine(day, datetime.min.time(), UTC)
            at = rows[incoming.arrived_at]
            of_day = rows.filter(at >= ibis.literal(start), at < ibis.literal(start + timedelta(days=1)))
            count = int(of_day.count().to_pyarrow().as_py())
            sampled = of_day.sample(MOST_ROWS / count, method="row", seed=0) if count > MOST_ROWS else of_day
            earlier = self._history.measured_since(stream, start).values()
            alarms = [one.alarm for one in batches if one.arrived_at.date() == day]
            alarms += [one.alarm for one in earlier if one.at.astimezone(UTC).date() == day]
            yield comparison.day(batch, as_frame(sampled), count, frozenset().union(*alarms))


class _Comparison:
    """Comparison of batches with training rows.

    Parameters
    ----------
    reference
        The training rows.
    detectors
        Detectors by column, each with the evidence from earlier batches.
    """

    def __init__(self, reference: Reference, detectors: Mapping[str, ColumnDetector]) -> None:
        self.reference = reference
        self._detectors = detectors
        self._now = datetime.now(UTC)

    def evidence(self) -> dict[str, bytes]:
        """Return the evidence from all batches so far, by column."""
        return {name: detector.stored() for name, detector in self._detectors.items()}

    def batches(self, taken: Frame, frame: Frame, previous: datetime | None) -> Iterator[MeasuredBatch]:
        """Measure batches.

        Parameters
        ----------
        taken
            Batches in the order of their arrival, with the columns `batch`, `name` and `arrived_at`.
        frame
            Rows of all these batches.
        previous
            Arrival time of the newest batch that was measured before; None if there is none.
        """
        columns, outside = self.reference.columns(frame), self.reference.outside(frame)
        places = frame.groupby(frame[_incoming(self.reference.spec).batch].astype(str)).indices
        for batch, called, time in zip(taken["batch"], taken["name"], taken["arrived_at"], strict=True):
            arrived_at, rows = time.to_pydatetime(), places[batch]
            # The budget of a batch is a time: the pause between the latest arrival of the earlier batches and the
            # arrival of this batch, at most `LONGEST_PAUSE`. The first batch gets `LONGEST_PAUSE`. A batch that became
            # visible late may have arrived before a batch that is already measured. It gets no budget, because other
            # batches already got the budget of that time.
            pause = timedelta(days=LONGEST_PAUSE) if previous is None else max(arrived_at - previous, timedelta())
            previous = arrived_at if previous is None else max(arrived_at, previous)
            days = pause / timedelta(days=1)
            found = {name: detector.add(columns[name][rows], days) for name, detector in self._detectors.items()}
            yield MeasuredBatch(
                unit=BATCH,
                batch=batch,
                name=called,
                arrived_at=arrived_at,
                columns=found,
                rows=len(rows),
                alarm=frozenset(name for name, one in found.items() if one.alarm),
                performance=self._performance(columns[PROBABILITY][rows], None if outside is None else outside[rows]),
                measured_at=self._now,
            )

    def day(self, last: MeasuredBatch, frame: Frame, rows: int, alarms: frozenset[str]) -> MeasuredBatch:
        """Measure a day: the distance from the training rows by column, and the estimated performance.

        Parameters
        ----------
        last
            Measurement of the day's last batch.
        frame
            Rows of the day; a sample if there are many rows.
        rows
            Number of rows of the day.
        alarms
            Columns with an alarm in at least one of the day's batches.
        """
        columns = self.reference.columns(frame)
        day = f"{last.arrived_at:%Y-%m-%d}"
        return replace(
            last,
            unit=DAY,
            batch=day,
            name=day,
            columns={
                name: replace(found, effect=self.reference.rulers[name].distance(columns[name]))
                for name, found in last.columns.items()
            },
            rows=rows,
            alarm=alarms,
            performance=self._performance(columns[PROBABILITY], self.reference.outside(frame)),
        )

    def _performance(self, probabilities: Any, outside: Any) -> PerformanceEstimate:
        return estimate_performance(probabilities, self.reference.version.threshold, outside)


def _incoming(spec: ModelSpec) -> Incoming:
    if spec.incoming is None:
        raise TrainingError(f"{spec.key} declares no table of new rows; set `incoming` in its declaration")
    return spec.incoming


def _first(waiting: Frame) -> Frame:
    """Return the oldest batches within `MOST_BATCHES` and `ROWS_AT_ONCE`, but at least one batch."""
    fitting = int((waiting["rows"].cumsum() <= ROWS_AT_ONCE).sum())
    return waiting.head(min(max(fitting, 1), MOST_BATCHES))


def _name(reference: Reference, false_alarm_days: float) -> str:
    """Return a hash of the model, its training rows and the budget. If the hash changes, the evidence restarts at 0."""
    parts = [
        reference.version.digest,
        false_alarm_days,
        {name: [ruler.names, ruler.rows] for name, ruler in reference.rulers.items()},
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
