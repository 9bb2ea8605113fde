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

from platform_assets.core.errors import DatabaseError, first_line

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

    def write(self, batch: uuid.UUID, rows: Sequence[Predictions], *, again: bool) -> int:
        """Write them all, or raise; how many could never be written. The same batch `again` is written once."""
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
        Rows that wait at most.

    Attributes
    ----------
    written, dropped, failures
        Rows that were written, rows that were not and never will be, and attempts that failed.
    """

    def __init__(self, sink: Sink, capacity: int = CAPACITY) -> None:
        self._sink = sink
        self._capacity = capacity
        self._waiting: deque[Predictions] = deque()
        self._lock = threading.Lock()
        self._rows = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._told_of_drops = False
        self.written = 0
        self.dropped = 0
        self.failures = 0

    @property
    def queued(self) -> int:
        """Rows that wait."""
        return self._rows

    def add(self, predictions: Predictions) -> None:
        """Take the answers to a request; returns at once, whatever becomes of them."""
        rows = len(predictions)
        with self._lock:
            fits = self._rows + rows <= self._capacity and not self._stop.is_set()
            if fits:
                self._rows += rows
                self._waiting.append(predictions)
            if self._thread is None and fits:
                self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
                self._thread.start()
        if not fits:
            self._drop(rows)

    def close(self, seconds: float = 10.0) -> None:
        """Write what waits, for some seconds at most; what is left then is dropped and counted."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(seconds)
        with self._lock:
            left, self._rows = self._rows, 0
            self._waiting.clear()
        if left:
            self._drop(left)

    def _run(self) -> None:
        while not self._stop.wait(PACE_SECONDS) or self._waiting:
            while self._waiting:
                self._write(self._taken())
        self._sink.close()

    def _taken(self) -> list[Predictions]:
        taken: list[Predictions] = []
        rows = 0
        while self._waiting and rows < ROWS_AT_ONCE:
            taken.append(self._waiting[0])
            rows += len(self._waiting.popleft())
        return taken

    def _write(self, taken: list[Predictions]) -> None:
        batch, rows, pause, again = uuid.uuid4(), sum(map(len, taken)), PACE_SECONDS, False
        lost = None
        while lost is None:
            try:
                lost = self._sink.write(batch, taken, again=again)
            except Exception as error:  # noqa: BLE001 - whatever it is, the thread has to go on
                self.failures += 1
                if not again:
                    LOG.warning("%s predictions wait to be written: %s", self._rows, first_line(error))
                again = True
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        with self._lock:
            self._rows -= rows
        self.written += rows - lost
        self.dropped += lost
        self._told_of_drops = False

    def _drop(self, rows: int) -> None:
        self.dropped += rows
        if not self._told_of_drops:
            self._told_of_drops = True
            LOG.error("predictions are not logged: %s wait already, and they cannot be written", self._rows)


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

    def write(self, batch: uuid.UUID, rows: Sequence[Predictions], *, again: bool) -> int:
        """Write all rows in one statement, or none; how many could never be written."""
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        if again and self._connection.execute(f"select from {TABLE} where batch = %s".encode(), [batch]).fetchone():
            return 0
        with (
            self._connection.cursor() as cursor,
            cursor.copy(f"copy {TABLE} ({', '.join(COLUMNS)}) from stdin".encode()) as copy,
        ):
            for place, row in enumerate(_rows(rows)):
                copy.write_row((batch, place, *row))
        return 0

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()


class LogSink:
    """Writes a line of the log for each prediction, where there is no database."""

    def write(self, batch: uuid.UUID, rows: Sequence[Predictions], *, again: bool) -> int:  # noqa: ARG002 - as `Sink`
        """Write all rows."""
        for row in _rows(rows):
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


def _rows(requests: Sequence[Predictions]) -> Iterator[tuple[Any, ...]]:
    for one in requests:
        of_all = (one.at, one.model, one.version, one.approval_id, one.caller, one.request_id)
        for subject, features, score in zip(one.subjects, one.features, one.scores, strict=True):
            name = None if subject is None else str(subject)
            positive = bool(score >= one.threshold)
            yield (*of_all, name, json.dumps(features), float(score), positive, one.threshold)
