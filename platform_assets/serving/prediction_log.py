"""The prediction log, for monitoring: caller, features, score, version and time of every prediction.

Requests put their predictions into a queue in memory. One thread writes the queue in batches, and retries while the
database is unavailable. If the queue is full, further predictions are dropped and counted. By default, requests do not
wait for the log, so a process that is killed loses the predictions of about the last 0.2 s. With `before_answer`, a
request gets a future that is done once its predictions are committed.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections import deque
from concurrent.futures import Future
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
    *("score", "positive", "threshold", "read_from"),
)
CAPACITY = 100_000
"""Maximum length of the queue, in rows."""
ROWS_AT_ONCE = 10_000
"""Approximate number of rows per transaction."""
PACE_SECONDS = 0.2
"""Pause between two writes."""
LONGEST_PAUSE_SECONDS = 10.0
"""Longest pause between two attempts while the database is unavailable."""
_GRACE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Predictions:
    """The predictions of one request; each is a row of the log.

    Attributes
    ----------
    model, version, approval_id
        The model version and its approval request.
    threshold
        Score from which a prediction is positive; None if the model makes no decisions.
    caller, request_id
        Name of the caller's key, and id of the request.
    subjects
        (n,) id of the item that each prediction is about, such as a client; None if it has no id.
    features
        (n,) feature values by name.
    scores
        (n,) probability of the positive class, or the predicted value.
    at
        Time of the prediction, with time zone.
    read_from
        (n,) online table and version that the features were read from, as `<table>@<version>`; None if the request
        contained the features. An empty sequence means None for every prediction.
    """

    model: str
    version: int
    approval_id: int
    threshold: float | None
    caller: str
    request_id: str
    subjects: Sequence[str | int | None]
    features: Sequence[Mapping[str, Any]]
    scores: Sequence[float]
    at: datetime
    read_from: Sequence[str | None] = ()

    def __len__(self) -> int:
        return len(self.scores)


class Sink(Protocol):
    """Destination of the rows."""

    def write(self, batch: uuid.UUID, answers: Sequence[Predictions]) -> int:
        """Write all rows in one transaction; return the number of rows that are rejected for good.

        After an error, the caller passes the same batch again. If the first attempt was committed after all, the batch
        must not be written a second time.
        """
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class PredictionLog:
    """Queue of predictions and the thread that writes them.

    Parameters
    ----------
    sink
        Destination of the rows.
    capacity
        Maximum number of rows that are queued or being written.
    before_answer
        Whether requests wait until their predictions are committed. If so, the thread writes without pauses.

    Attributes
    ----------
    written, dropped
        Number of rows that were written, and of rows that were dropped.
    failures
        Number of failed attempts to write.
    """

    def __init__(self, sink: Sink, capacity: int = CAPACITY, *, before_answer: bool = False) -> None:
        self._sink = sink
        self._capacity = capacity
        self._before_answer = before_answer
        self._added = threading.Event()
        self._futures: dict[int, Future[None]] = {}
        self._waiting: deque[Predictions] = deque()
        self._lock = threading.Lock()
        self._rows = 0
        # Rows that were dropped since the last report by `_count`.
        self._refused = 0
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._deadline = float("inf")
        self.written = 0
        self.dropped = 0
        self.failures = 0

    @property
    def queued(self) -> int:
        """Rows that are queued or being written."""
        return self._rows

    def add(self, predictions: Predictions) -> Future[None] | None:
        """Queue the predictions of a request; return at once.

        Returns
        -------
        With `before_answer`, a future that is done once the predictions are committed, and fails with a `DatabaseError`
        if they are dropped. Else None.
        """
        logged: Future[None] | None = Future() if self._before_answer else None
        if logged is not None:
            # Mark the future as running, so that a request that stops waiting cannot cancel it.
            logged.set_running_or_notify_cancel()
        if (reason := self._queue(predictions, logged)) is not None and logged is not None:
            logged.set_exception(DatabaseError(f"the prediction cannot be logged: {reason}"))
        return logged

    def _queue(self, predictions: Predictions, logged: Future[None] | None) -> str | None:
        """Queue predictions; return None, or the reason if they are dropped."""
        rows = len(predictions)
        with self._lock:
            fits = self._rows + rows <= self._capacity and not self._stop.is_set()
            if fits:
                self._rows += rows
                self._waiting.append(predictions)
                if logged is not None:
                    self._futures[id(predictions)] = logged
                    self._added.set()
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
                    self._thread.start()
                return None
            first = self._refused == 0
            self._refused += rows
            self.dropped += rows
        reason = "the service is stopping" if self._stop.is_set() else f"{self._rows:,} rows are already queued"
        if first:
            LOG.error("predictions are being dropped: %s", reason)
        return reason

    def close(self, seconds: float = 10.0) -> None:
        """Write the queue for up to `seconds`; drop and count the rest."""
        with self._lock:
            self._deadline = time.monotonic() + seconds
            self._stop.set()
            self._added.set()
        if self._thread is not None:
            # Wait a little longer, because a write may be in progress.
            self._thread.join(seconds + _GRACE_SECONDS)
        with self._lock:
            left, self._rows = self._rows, 0
            self.dropped += left
            self._waiting.clear()
            futures, self._futures = self._futures, {}
        for logged in futures.values():
            logged.set_exception(DatabaseError("the prediction was not logged before the service stopped"))
        if left:
            LOG.error("%s predictions were dropped: they could not be written within %g s", f"{left:,}", seconds)

    def _run(self) -> None:
        try:
            while not self._is_over():
                while self._waiting:
                    if not self._write(self._taken()):
                        return
        finally:
            self._sink.close()

    def _is_over(self) -> bool:
        """Wait before the next batch; return whether the log was closed and its queue is empty."""
        if self._before_answer:
            self._added.wait()
            self._added.clear()
            if self._stop.is_set():
                # Set the event again, because `close` may have set it just before this thread cleared it.
                self._added.set()
        else:
            self._stop.wait(PACE_SECONDS)
        return self._stop.is_set() and not self._waiting

    def _taken(self) -> list[Predictions]:
        taken: list[Predictions] = []
        rows = 0
        with self._lock:
            while self._waiting and rows < ROWS_AT_ONCE:
                rows += len(self._waiting[0])
                taken.append(self._waiting.popleft())
        return taken

    def _write(self, taken: list[Predictions]) -> bool:
        """Write a batch, retrying until it succeeds; return False if the deadline of `close` passed first."""
        batch, pause, told = uuid.uuid4(), PACE_SECONDS, ""
        while True:
            try:
                lost = self._sink.write(batch, taken)
            # Catch any error, because the next attempt may succeed.
            except Exception as error:  # noqa: BLE001
                self.failures += 1
                # Log only the first error, because a server that shuts down causes several different ones in a row.
                if not told:
                    told = first_line(error)
                    LOG.warning("predictions cannot be written and are kept in the queue: %s", told)
            else:
                if told:
                    LOG.info("predictions are written again")
                self._count(sum(map(len, taken)), lost)
                self._settle(taken, lost)
                return True
            if time.monotonic() >= self._deadline:
                return False
            if self._stop.is_set():
                time.sleep(PACE_SECONDS)
            else:
                self._stop.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _settle(self, taken: Sequence[Predictions], lost: int) -> None:
        """Complete the futures of the requests whose predictions are in this batch."""
        for predictions in taken:
            with self._lock:
                logged = self._futures.pop(id(predictions), None)
            if logged is None:
                continue
            if lost:
                # The sink does not report which rows of the batch it rejected, so none of them may be reported as
                # logged.
                logged.set_exception(
                    DatabaseError("the prediction cannot be logged; the service's own log has the reason")
                )
            else:
                logged.set_result(None)

    def _count(self, rows: int, lost: int) -> None:
        with self._lock:
            if self._rows < rows:
                # `close` stopped waiting for this batch and has counted it as dropped.
                self.dropped -= rows
            else:
                self._rows -= rows
            self.written += rows - lost
            self.dropped += lost
            # Report only when the queue is at most half full, so that a queue that stays nearly full is reported once.
            refused = self._refused if self._rows <= self._capacity // 2 else 0
            self._refused -= refused
        if refused:
            LOG.error("%s predictions were dropped; the queue has room again", f"{refused:,}")


class TableSink:
    """Writes to the table `platform.predictions`.

    Parameters
    ----------
    connect
        Function that opens a connection to the platform's database, in autocommit mode.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._connection: psycopg.Connection[Any] | None = None
        self._tried: uuid.UUID | None = None

    def write(self, batch: uuid.UUID, answers: Sequence[Predictions]) -> int:
        """Write all rows in one transaction; return the number of rows that PostgreSQL rejects."""
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        # If the connection was lost during the last attempt, that attempt may have been committed.
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
                LOG.error("a prediction cannot be logged: %s", first_line(error))  # noqa: TRY400 - the traceback could show private values
                return 1
            # Split the batch, so that only the bad row is lost.
            middle = len(rows) // 2
            return self._copied(connection, rows[:middle]) + self._copied(connection, rows[middle:])
        return 0


class LogSink:
    """Writes each prediction as a log line, for a service without a database."""

    def write(self, batch: uuid.UUID, answers: Sequence[Predictions]) -> int:  # noqa: ARG002 - as `Sink`
        """Write all rows."""
        for row in _rows(answers, dict):
            LOG.info("prediction", extra=dict(zip(COLUMNS[2:], row, strict=True)))
        return 0

    def close(self) -> None:
        """Do nothing, because this sink opens no connection."""


def delete_old(connect: Callable[[], psycopg.Connection[Any]], age: timedelta) -> int:
    """Delete the rows that are older than `age` by the database's clock; return their number.

    Raises
    ------
    DatabaseError
        The database does not answer.
    """
    import psycopg

    # Delete in parts, to keep transactions short.
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
            f"not all old predictions could be deleted ({first_line(error)}); {deleted} rows were deleted. Run "
            "`platform-assets upkeep` again"
        ) from error
    return deleted


def _rows(answers: Sequence[Predictions], form: Callable[[dict[str, Any]], Any]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows with values that PostgreSQL can store, in the order of `COLUMNS`, without `batch` and `place`."""
    for one in answers:
        who = as_json(one.caller), as_json(one.request_id)
        of_all = (one.at, one.model, one.version, one.approval_id, *who)
        read_from = one.read_from or [None] * len(one)
        for subject, features, score, origin in zip(one.subjects, one.features, one.scores, read_from, strict=True):
            name = None if subject is None else as_json(str(subject))
            decided = None if one.threshold is None else score >= one.threshold
            yield (*of_all, name, form(as_json(features)), score, decided, one.threshold, origin)


def _dumped(features: dict[str, Any]) -> str:
    return json.dumps(features, default=str)
