"""Read-only SQL statements for HTTP requests, with one round trip and a time-out each.

The statements run in autocommit mode on pooled connections. If a pooled connection was lost, for example because the
server restarted, the statement runs again on a new connection, which is safe because it only reads. If the server is
down, a statement fails at once; if the server hangs, after a few seconds. For writes, and for transactions with several
statements, use `Database.pooled`.
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
"""Size of the pool. Few connections are enough, because a statement takes less than a millisecond."""
STATEMENT_SECONDS = 2.0
"""Time-out of a statement on the server (`statement_timeout`)."""
SILENCE_SECONDS = 3.0
"""Time-out of the client: longest wait for data from the server."""


class Silence(psycopg.OperationalError):
    """The server did not respond in time, although the connection is open."""


class ImpatientConnection(psycopg.Connection[Any]):
    """A connection with a time-out for each response; psycopg itself waits without limit.

    Attributes
    ----------
    patience
        Longest wait for a response in seconds; None for no limit.
    """

    patience: float | None = None

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        """Wait for a response with the time-out. psycopg calls this for every exchange with the server.

        Raises
        ------
        Silence
            The response took longer than `patience`. The connection is closed.
        """
        try:
            step = gen if self.patience is None else _within(self.patience, gen)
            return super().wait(step, *arguments, **options)
        except Silence:
            # Close the connection, because a late response would be read as that of the next statement.
            self.close()
            raise


class Reads:
    """Runs read-only statements on pooled connections.

    Parameters
    ----------
    connect
        Function that opens a connection in autocommit mode with a short time-out, or raises `DatabaseError`.
    seconds
        Longest wait for a free connection.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], seconds: float = SILENCE_SECONDS) -> None:
        from sqlalchemy.pool import QueuePool

        self._pool: QueuePool = QueuePool(
            connect,  # type: ignore[arg-type]  # psycopg's connections do not match SQLAlchemy's protocol for them
            pool_size=CONNECTIONS,
            max_overflow=0,
            timeout=seconds,
            # No rollback is needed, because in autocommit mode each statement is its own transaction.
            reset_on_return=None,
            use_lifo=True,
        )

    def rows(self, query: bytes, values: Sequence[Any] = ()) -> list[Any]:
        """Run one statement, and return its rows as tuples.

        Parameters
        ----------
        query
            The statement, with `%s` for each value.
        values
            Values of the placeholders.

        Raises
        ------
        DatabaseError
            The database is unreachable, or does not respond in time.
        psycopg.Error
            The database rejects the statement.
        """
        from sqlalchemy.exc import TimeoutError as AllInUseError

        while True:
            try:
                borrowed = self._pool.connect()
            except AllInUseError:
                raise DatabaseError(
                    f"the database does not respond: all {CONNECTIONS} connections are busy; run `platform-assets "
                    "doctor` to see what is reachable"
                ) from None
            try:
                return _rows(borrowed, query, values)
            except psycopg.OperationalError as error:
                # Try the next connection if this one was lost while it was idle in the pool. The loop ends, because
                # the pool then opens a new connection, or fails to.
                if not _died_in_the_pool(borrowed, error):
                    raise DatabaseError(
                        f"the database does not respond ({first_line(error)}); run `platform-assets doctor` to see "
                        "what is reachable"
                    ) from None
            finally:
                _give_back(borrowed)

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.dispose()


def _rows(borrowed: PoolProxiedConnection, query: bytes, values: Sequence[Any]) -> list[Any]:
    driver = borrowed.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - narrows the type
    with driver.cursor() as cursor:
        # Prepare the statement at once (psycopg would wait for its fifth use), so that the server parses it only once.
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
    """Wrap a psycopg wait generator in a time-out; psycopg resumes the generator every 0.1 s."""
    end = monotonic() + seconds
    try:
        waits_for = next(step)
        while True:
            ready = yield waits_for
            if not ready and monotonic() > end:
                step.close()
                raise Silence(f"no response from the server for {seconds:g} s")
            waits_for = step.send(ready)
    except StopIteration as done:
        return done.value
