"""Pace of requests to arXiv: one connection at a time and a pause between requests, across all processes.

arXiv's terms of use: https://info.arxiv.org/help/api/tou.html
"""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from platform_assets.landing.http_client import TemporaryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from platform_assets.database.connections import Database

_LOCK = "select pg_advisory_lock(hashtextextended(%s, 0))"
_WAIT = (
    "select extract(epoch from last_request_at - clock_timestamp())::float8 + %s"
    " from arxiv_harvest.request_pace where server = %s"
)
_MARK = (
    "insert into arxiv_harvest.request_pace (server, last_request_at) values (%s, clock_timestamp())"
    " on conflict (server) do update set last_request_at = excluded.last_request_at"
)


class Pace:
    """Rate limiter for all processes that share a database: one request at a time, with a pause between requests.

    A process holds a PostgreSQL advisory lock during its request. The lock ends with the connection, so a killed
    process does not block others. The time of the last request is stored, measured by the clock of the database server.

    Parameters
    ----------
    database
        The platform's database.
    server
        Server that receives the requests. Each server is limited separately.
    interval
        Seconds from the end of a request to the start of the next one.
    """

    def __init__(self, database: Database, server: str, interval: float) -> None:
        self._database = database
        self._server = server
        self._interval = interval

    @contextmanager
    def turn(self, seconds: float) -> Iterator[None]:
        """Wait until a request may be sent, and block other requests until it ends.

        Parameters
        ----------
        seconds
            Longest time to wait, in seconds.

        Raises
        ------
        TemporaryError
            Other requests have to be sent first, so the wait would be longer than `seconds`.
        """
        deadline = time.monotonic() + seconds
        with closing(self._database.connect("platform")) as connection:
            self._lock(connection, seconds)
            found = connection.execute(_WAIT, [self._interval, self._server]).fetchone()
            # Wait at most one interval. If the server's clock was set back, the calculated wait could be hours.
            wait = min(max(0.0, found[0]), self._interval) if found else 0.0
            if wait > deadline - time.monotonic():
                raise self._too_late(seconds)
            time.sleep(wait)
            connection.execute(_MARK, [self._server])
            try:
                yield
            finally:
                # Record the time again at the end, because the request may have reached the server late.
                connection.execute(_MARK, [self._server])

    def _lock(self, connection: psycopg.Connection[object], seconds: float) -> None:
        from psycopg import errors

        # Set at least 1 ms, because PostgreSQL treats 0 as no time-out.
        connection.execute(f"set lock_timeout = {max(1, round(seconds * 1000))}".encode())
        try:
            connection.execute(_LOCK, [f"arxiv_harvest request to {self._server}"])
        except errors.LockNotAvailable:
            raise self._too_late(seconds) from None

    def _too_late(self, seconds: float) -> TemporaryError:
        return TemporaryError(
            f"{self._server} was not contacted, because earlier requests to it would have delayed this one by more "
            f"than {seconds:.3g} s"
        )
