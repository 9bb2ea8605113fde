"""The log of predictions, for monitoring: who asked, what was answered, by which version, when.

Whoever answers only puts a prediction into a queue in memory. One thread writes what is there, many rows at once,
and goes on when the database comes back. What finds the queue full is dropped and counted: an answer never waits.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections import deque
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from platform_assets.base.errors import DatabaseError, first_line
from platform_assets.base.json_values import as_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime, timedelta

    import psycopg

LOG = logging.getLogger(__name__)
TABLE = "platform.predictions"
COLUMNS = (
    *("batch", "place", "at", "model", "version", "approval_id", "caller", "request_id", "subject", "features"),
    *("score", "positive", "threshold"),
)
CAPACITY = 100_000
"""Rows that wait at most."""
ROWS_AT_ONCE = 10_000
"""Rows that are written at once, about."""
PACE_SECONDS = 0.2
"""Between two writes."""
LONGEST_PAUSE_SECONDS = 10.0
"""Between two attempts while the database is away."""
_GRACE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Predictions:
    """The answers to one request, each a row of the log.

    Attributes
    ----------
    model, version, approval_id, threshold
        What answered.
    caller, request_id
        Who asked, by the name of a key, and in which request.
    subjects
        (n,) of whom or what each is; null where that has no name.
    features
        (n,) what each was made of, by name.
    scores
        (n,) probabilities.
    at
        When, with time zone.
    """

    model: str
    version: int
    approval_id: int
    threshold: float
    caller: str
    request_id: str
    subjects: Sequence[str | int | None]
    features: Sequence[Mapping[str, Any]]
    scores: Sequence[float]
    at: datetime

    def __len__(self) -> int:
        return len(self.scores)


class Sink(Protocol):
    """Where the rows go."""

    def write(self, batch: uuid.UUID, answers: Sequence[Predictions]) -> int:
        """Write all rows, or none and raise; how many of them never can be written.

        After an error the same batch comes again, and if it was written all the same, it is not written twice.
        """
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


class PredictionLog:
    """Takes predictions at once and writes them soon.

    Parameters
    ----------
    sink
        Where they go.
    capacity
        Rows that wait at most, or are being written.

    Attributes
    ----------
    written, dropped, failures
        Rows that were written, rows that never will be, and attempts to write that failed.
    """

    def __init__(self, sink: Sink, capacity: int = CAPACITY) -> None:
        self._sink = sink
        self._capacity = capacity
        self._waiting: deque[Predictions] = deque()
        self._lock = threading.Lock()
        self._rows = 0
        # Rows that found the queue full since it last had room.
        self._refused = 0
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._deadline = float("inf")
        self.written = 0
        self.dropped = 0
        self.failures = 0

    @property
    def queued(self) -> int:
        """Rows that wait, or are being written."""
        return self._rows

    def add(self, predictions: Predictions) -> None:
        """Take the answers to a request; returns at once, whatever becomes of them."""
        rows = len(predictions)
        with self._lock:
            fits = self._rows + rows <= self._capacity and not self._stop.is_set()
            if fits:
                self._rows += rows
                self._waiting.append(predictions)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
                    self._thread.start()
                return
            first = self._refused == 0
            self._refused += rows
            self.dropped += rows
        if first:
            why = "the service ends" if self._stop.is_set() else f"{self._rows:,} wait to be written already"
            LOG.error("predictions are not logged from now on: %s", why)

    def close(self, seconds: float = 10.0) -> None:
        """Write what waits, for some seconds at most; what is left then is dropped and counted."""
        with self._lock:
            self._deadline = time.monotonic() + seconds
            self._stop.set()
        if self._thread is not None:
            # One attempt may be on its way and take longer.
            self._thread.join(seconds + _GRACE_SECONDS)
        with self._lock:
            left, self._rows = self._rows, 0
            self.dropped += left
            self._waiting.clear()
        if left:
            LOG.error("%s predictions were not logged: they could not be written within %g s", f"{left:,}", seconds)

    def _run(self) -> None:
        try:
            while not self._stop.wait(PACE_SECONDS) or self._waiting:
                while self._waiting:
                    if not self._write(self._taken()):
                        return
        finally:
            self._sink.close()

    def _taken(self) -> list[Predictions]:
        taken: list[Predictions] = []
        rows = 0
        with self._lock:
            while self._waiting and rows < ROWS_AT_ONCE:
                rows += len(self._waiting[0])
                taken.append(self._waiting.popleft())
        return taken

    def _write(self, taken: list[Predictions]) -> bool:
        """Write them, however long that takes; False if the end came before."""
        batch, pause, told = uuid.uuid4(), PACE_SECONDS, ""
        while True:
            try:
                lost = self._sink.write(batch, taken)
            # Whatever it is, the next attempt may succeed, and rows that wait are not lost yet.
            except Exception as error:  # noqa: BLE001
                self.failures += 1
                # The end of a server is told in several ways, one after the other.
                if not told:
                    told = first_line(error)
                    LOG.warning("predictions cannot be written and wait: %s", told)
            else:
                if told:
                    LOG.info("predictions are written again")
                self._count(sum(map(len, taken)), lost)
                return True
            if time.monotonic() >= self._deadline:
                return False
            if self._stop.is_set():
                time.sleep(PACE_SECONDS)
            else:
                self._stop.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _count(self, rows: int, lost: int) -> None:
        with self._lock:
            if self._rows < rows:
                # It took longer than `close` waited, which has counted them as dropped.
                self.dropped -= rows
            else:
                self._rows -= rows
            self.written += rows - lost
            self.dropped += lost
            # Half empty, so that a queue that is full again and again is told of once.
            refused = self._refused if self._rows <= self._capacity // 2 else 0
            self._refused -= refused
        if refused:
            LOG.error("%s predictions were not logged; now there is room again", f"{refused:,}")


class TableSink:
    """Writes into the table `platform.predictions`.

    Parameters
    ----------
    connect
        Opens a connection to the platform's database, in autocommit.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._connection: psycopg.Connection[Any] | None = None
        self._tried: uuid.UUID | None = None

    def write(self, batch: uuid.UUID, answers: Sequence[Predictions]) -> int:
        """Write all rows in one transaction; how many PostgreSQL can never take."""
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        # Whether the last attempt was committed, nobody knows who lost the connection before the answer.
        if batch == self._tried and self._is_there(self._connection, batch):
            return 0
        self._tried = batch
        rows = [(batch, place, *row) for place, row in enumerate(_rows(answers, _dumped))]
        with self._connection.transaction():
            return self._copied(self._connection, rows)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _is_there(self, connection: psycopg.Connection[Any], batch: uuid.UUID) -> bool:
        query = f"select from {TABLE} where batch = %s limit 1".encode()
        return connection.execute(query, [batch]).fetchone() is not None

    def _copied(self, connection: psycopg.Connection[Any], rows: Sequence[tuple[Any, ...]]) -> int:
        import psycopg

        try:
            with (
                connection.transaction(),
                connection.cursor() as cursor,
                cursor.copy(f"copy {TABLE} ({', '.join(COLUMNS)}) from stdin".encode()) as copy,
            ):
                for row in rows:
                    copy.write_row(row)
        except (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded) as error:
            if len(rows) == 1:
                LOG.error("a prediction cannot be logged: %s", first_line(error))  # noqa: TRY400 - the row may be private
                return 1
            # One row must not take the others with it.
            middle = len(rows) // 2
            return self._copied(connection, rows[:middle]) + self._copied(connection, rows[middle:])
        return 0


class LogSink:
    """Writes a line of the log for each prediction, where there is no database."""

    def write(self, batch: uuid.UUID, answers: Sequence[Predictions]) -> int:  # noqa: ARG002 - as `Sink`
        """Write all rows."""
        for row in _rows(answers, dict):
            LOG.info("prediction", extra=dict(zip(COLUMNS[2:], row, strict=True)))
        return 0

    def close(self) -> None:
        """Nothing is open."""


def delete_old(connect: Callable[[], psycopg.Connection[Any]], age: timedelta) -> int:
    """Delete the rows of the log that are older than that, by the database's clock; how many.

    Raises
    ------
    DatabaseError
        The database does not answer.
    """
    import psycopg

    # A part at a time, so that nobody waits for a long transaction.
    part = (
        f"delete from {TABLE} where ctid = any(array("  # noqa: S608 - constants
        f"select ctid from {TABLE} where at < now() - %s limit {ROWS_AT_ONCE}))"
    ).encode()
    deleted = 0
    try:
        with closing(connect()) as connection:
            while rows := connection.execute(part, [age]).rowcount:
                deleted += rows
    except psycopg.Error as error:
        raise DatabaseError(
            f"old predictions could not be deleted ({first_line(error)}); {deleted} were, and `platform-assets upkeep` "
            "goes on from there"
        ) from error
    return deleted


def _rows(answers: Sequence[Predictions], form: Callable[[dict[str, Any]], Any]) -> Iterator[tuple[Any, ...]]:
    """The rows without batch and place, in the order of `COLUMNS`, as PostgreSQL and JSON take them."""
    for one in answers:
        who = as_json(one.caller), as_json(one.request_id)
        of_all = (one.at, one.model, one.version, one.approval_id, *who)
        for subject, features, score in zip(one.subjects, one.features, one.scores, strict=True):
            name = None if subject is None else as_json(str(subject))
            yield (*of_all, name, form(as_json(features)), score, score >= one.threshold, one.threshold)


def _dumped(features: dict[str, Any]) -> str:
    return json.dumps(features, default=str)
