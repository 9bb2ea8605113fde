"""Run read-only statements on PostgreSQL with low latency: one round trip per statement, and short timeouts.

Connections are in autocommit mode and kept between requests. If a connection broke, for example because the server was
restarted, it is replaced and the statement is repeated. This is safe, because statements only read. If the database is
unreachable, statements fail at once. If it does not respond, they fail after a few seconds. For writes and longer
transactions, use `Database.pooled`.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

import psycopg

from platform_assets.base.errors import DatabaseError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from sqlalchemy.pool import PoolProxiedConnection, QueuePool

CONNECTIONS = 8
"""Maximum number of connections; few suffice, because a statement takes a fraction of a millisecond."""
STATEMENT_SECONDS = 2.0
"""PostgreSQL's timeout for a statement."""
SILENCE_SECONDS = 3.0
"""Longest time without data from the server."""


class Silence(psycopg.OperationalError):
    """The connection is open, but the server sends nothing."""


class ImpatientConnection(psycopg.Connection[Any]):
    """A connection with a timeout for an unresponsive server; psycopg itself has none.

    Attributes
    ----------
    patience
        Seconds that a step of the protocol may take; None for no limit.
    """

    patience: float | None = None

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        """Run a step of the protocol; psycopg calls this method for each step.

        Raises
        ------
        Silence
            The step took too long. The connection is closed.
        """
        try:
            step = gen if self.patience is None else _within(self.patience, gen)
            return super().wait(step, *arguments, **options)
        except Silence:
            # Close the connection, because a late result would be taken for the result of the next statement.
            self.close()
            raise


class Reads:
    """Runs statements on a pool of connections.

    Parameters
    ----------
    connect
        Function that opens a connection in autocommit mode with short timeouts, or raises `DatabaseError`.
    seconds
        Longest wait for a connection while all are in use.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], seconds: float = SILENCE_SECONDS) -> None:
        from sqlalchemy.pool import QueuePool

        self._pool: QueuePool = QueuePool(
            connect,  # type: ignore[arg-type]  # SQLAlchemy's type does not match psycopg's
            pool_size=CONNECTIONS,
            max_overflow=0,
            timeout=seconds,
            # There is nothing to roll back, because each statement is a separate transaction.
            reset_on_return=None,
            use_lifo=True,
        )

    def rows(self, query: bytes, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of one statement.

        Parameters
        ----------
        query
            Statement with `%s` for each value.
        values
            Values of the statement.

        Raises
        ------
        DatabaseError
            The database does not respond in time.
        psycopg.Error
            The database refuses the statement.
        """
        from sqlalchemy.exc import TimeoutError as AllInUseError

        while True:
            try:
                borrowed = self._pool.connect()
            except AllInUseError:
                raise DatabaseError(
                    f"the database does not answer: {CONNECTIONS} statements are already waiting for a response; "
                    "run `platform-assets doctor` to see what is reachable"
                ) from None
            try:
                return _rows(borrowed, query, values)
            except psycopg.OperationalError as error:
                # Repeat the statement on the next connection. Broken connections fail at once, so the loop soon opens a
                # new connection or fails.
                if not _died_in_the_pool(borrowed, error):
                    raise DatabaseError(
                        f"the database does not answer ({first_line(error)}); run `platform-assets doctor` to see "
                        "what is reachable"
                    ) from None
            finally:
                _give_back(borrowed)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._pool.dispose()


def _rows(borrowed: PoolProxiedConnection, query: bytes, values: Sequence[Any]) -> list[Any]:
    driver = borrowed.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - narrows the type
    with driver.cursor() as cursor:
        # Prepare the statement on first use, so that the server plans it once.
        found = cursor.execute(query, values, prepare=True).fetchall()
    borrowed.info["used"] = True
    return found


def _died_in_the_pool(borrowed: PoolProxiedConnection, error: psycopg.OperationalError) -> bool:
    driver = borrowed.driver_connection
    return "used" in borrowed.info and driver is not None and driver.closed and not isinstance(error, Silence)


def _give_back(borrowed: PoolProxiedConnection) -> None:
    if borrowed.driver_connection is not None and borrowed.driver_connection.closed:
        borrowed.invalidate()
    borrowed.close()


def _within(seconds: float, step: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Wrap a step of the protocol with a timeout; psycopg checks every tenth of a second."""
    end = monotonic() + seconds
    try:
        waits_for = next(step)
        while True:
            ready = yield waits_for
            if not ready and monotonic() > end:
                step.close()
                raise Silence(f"the server sent nothing for {seconds:g} s")
            waits_for = step.send(ready)
    except StopIteration as done:
        return done.value
