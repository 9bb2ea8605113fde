"""Count prediction requests, failures and durations per model, in `platform.request_statistics`.

Counting must not delay a response, so the counts are kept in memory, and a thread writes them about once a minute. If
the process is killed, the counts of its last minute are lost.
"""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import DatabaseError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import timedelta

    import psycopg

LOG = logging.getLogger(__name__)
PACE_SECONDS = 60.0
"""Time between two writes."""
SHORTEST_SECONDS = 1e-4
"""Upper bound of the first bucket of the duration histogram, in seconds."""
PER_TENFOLD = 16
"""Number of buckets of the duration histogram per power of ten. Neighbouring upper bounds differ by 15 %."""
CLASSES = 6 * PER_TENFOLD + 1
"""Number of buckets of the duration histogram; the last bucket has no upper bound."""


@dataclass
class Counts:
    """Counts of the requests of a model."""

    requests: int = 0
    failures: int = 0
    durations: list[int] = field(default_factory=lambda: [0] * CLASSES)

    def add(self, status: int, seconds: float) -> None:
        """Count one request."""
        self.requests += 1
        self.failures += status >= HTTPStatus.INTERNAL_SERVER_ERROR
        self.durations[duration_class(seconds)] += 1

    def merge(self, others: Counts) -> None:
        """Add other counts."""
        self.requests += others.requests
        self.failures += others.failures
        self.durations = [one + other for one, other in zip(self.durations, others.durations, strict=True)]


class RequestStatistics:
    """Counts the requests of each model.

    Parameters
    ----------
    connect
        Context manager that yields a connection to the platform's database.
    """

    def __init__(self, connect: Callable[[], AbstractContextManager[psycopg.Connection[Any]]]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._counts: dict[str, Counts] = {}
        # For each route, the model that was used last. A request that fails before it uses a model is counted for this
        # model.
        self._models: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def count(self, scope: Mapping[str, Any], status: int, seconds: float) -> None:
        """Count a response if its request was for predictions.

        Parameters
        ----------
        scope
            The ASGI scope of the request.
        status, seconds
            Status of the response, and time until its end.
        """
        route = getattr(scope.get("route"), "path", "")
        asked = scope.get("state", {}).get("asked")
        if asked is not None and asked.models:
            self._models[route] = asked.models[0]
        if (model := self._models.get(route)) is None:
            return
        with self._lock:
            self._counts.setdefault(model, Counts()).add(status, seconds)
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="request-statistics", daemon=True)
                self._thread.start()

    def write(self) -> None:
        """Write the counts since the last write. If the database does not answer, keep them for the next write."""
        import psycopg

        with self._lock:
            taken, self._counts = self._counts, {}
        if not taken:
            return
        now = datetime.now(UTC)
        rows = [(model, now, one.requests, one.failures, one.durations) for model, one in taken.items()]
        try:
            with self._connect() as connection, connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(
                    b"insert into platform.request_statistics (model, at, requests, failures, durations) "
                    b"values (%s, %s, %s, %s, %s)",
                    rows,
                )
        except psycopg.Error as error:
            LOG.warning("cannot write the request counts; they are kept for the next attempt: %s", first_line(error))
            with self._lock:
                for model, counts in taken.items():
                    self._counts.setdefault(model, Counts()).merge(counts)

    def close(self) -> None:
        """Write the counts and stop the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.write()

    def _run(self) -> None:
        while not self._stop.wait(PACE_SECONDS):
            self.write()


def delete_old_statistics(
    connect: Callable[[], AbstractContextManager[psycopg.Connection[Any]]], age: timedelta
) -> None:
    """Delete the counts that are older than `age` by the database's clock.

    Raises
    ------
    DatabaseError
        The database does not answer.
    """
    import psycopg

    try:
        with connect() as connection:
            connection.execute(b"delete from platform.request_statistics where at < now() - %s", [age])
    except psycopg.Error as error:
        raise DatabaseError(
            f"the old request counts could not be deleted ({first_line(error)}). Run `platform-assets upkeep` again"
        ) from error


def duration_class(seconds: float) -> int:
    """Return the index of the histogram bucket that contains a duration, from 0 to `CLASSES - 1`."""
    if seconds <= SHORTEST_SECONDS:
        return 0
    return min(math.ceil(PER_TENFOLD * math.log10(seconds / SHORTEST_SECONDS)), CLASSES - 1)


def quantile_seconds(durations: Sequence[int], share: float) -> float:
    """Return the upper bound of the histogram bucket that contains a quantile; NaN without requests.

    Parameters
    ----------
    durations
        (`CLASSES`,) number of requests in each bucket of the duration histogram.
    share
        The quantile of the durations, 0 to 1.
    """
    if not any(durations):
        return math.nan
    needed = share * sum(durations)
    number = next(number for number, total in enumerate(accumulate(durations)) if total >= needed)
    return float(SHORTEST_SECONDS * 10 ** (number / PER_TENFOLD))
