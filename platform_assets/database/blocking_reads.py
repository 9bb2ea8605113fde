"""Statements that only read, for whoever must answer at once: one round trip each, and an end to waiting.

On connections that are kept between requests, in autocommit. One that died meanwhile, because the server was
restarted for example, is replaced and the statement asked again, which is harmless as it reads only. A database that
is away fails at once, and one that hangs after a few seconds. What writes, or reads more than once in one
transaction, borrows a connection of `Database.pooled` instead.
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
"""Kept at most; a statement takes a fraction of a millisecond."""
STATEMENT_SECONDS = 2.0
"""Longest time of a statement, by the server's clock."""
SILENCE_SECONDS = 3.0
"""Longest time without a word from the server."""


class Silence(psycopg.OperationalError):
    """The server says nothing, though the connection stands."""


class ImpatientConnection(psycopg.Connection[Any]):
    """A connection that gives up on a server which says nothing, where psycopg waits for ever.

    Attributes
    ----------
    patience
        Seconds that a step of the protocol may take; None for ever.
    """

    patience: float | None = None

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        """Do a step of the protocol; psycopg does each of them through here.

        Raises
        ------
        Silence
            It took too long. The connection is closed.
        """
        try:
            step = gen if self.patience is None else _within(self.patience, gen)
            return super().wait(step, *arguments, **options)
        except Silence:
            # What the server says later would be taken for the answer to something else.
            self.close()
            raise


class Reads:
    """Statements on connections that are kept.

    Parameters
    ----------
    connect
        Opens a connection, in autocommit and of little patience; raises `DatabaseError`.
    seconds
        Longest wait for one of them while all are in use.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], seconds: float = SILENCE_SECONDS) -> None:
        from sqlalchemy.pool import QueuePool

        self._pool: QueuePool = QueuePool(
            connect,  # type: ignore[arg-type]  # SQLAlchemy's own name for such connections lacks psycopg's
            pool_size=CONNECTIONS,
            max_overflow=0,
            timeout=seconds,
            # Nothing is left open: each statement is a transaction of its own.
            reset_on_return=None,
            use_lifo=True,
        )

    def rows(self, query: bytes, values: Sequence[Any] = ()) -> list[Any]:
        """The rows of one statement.

        Parameters
        ----------
        query
            With `%s` for each value.
        values
            Its values.

        Raises
        ------
        DatabaseError
            The database does not answer, or not in time.
        psycopg.Error
            It refuses the statement.
        """
        from sqlalchemy.exc import TimeoutError as AllInUseError

        while True:
            try:
                borrowed = self._pool.connect()
            except AllInUseError:
                raise DatabaseError(
                    f"the database does not answer: {CONNECTIONS} statements wait for it already; `platform-assets "
                    "doctor` says what is reachable"
                ) from None
            try:
                return _rows(borrowed, query, values)
            except psycopg.OperationalError as error:
                # Each that died meanwhile fails at once, until one is opened anew or none can be.
                if not _died_in_the_pool(borrowed, error):
                    raise DatabaseError(
                        f"the database does not answer ({first_line(error)}); `platform-assets doctor` says what is "
                        "reachable"
                    ) from None
            finally:
                _give_back(borrowed)

    def close(self) -> None:
        """Close the connections that nobody uses at the moment."""
        self._pool.dispose()


def _rows(borrowed: PoolProxiedConnection, query: bytes, values: Sequence[Any]) -> list[Any]:
    driver = borrowed.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - narrows the type
    with driver.cursor() as cursor:
        # From the first time on, so that the server plans it once.
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
    """The same step, given up on when the server was waited for in vain; psycopg asks every tenth of a second."""
    end = monotonic() + seconds
    try:
        waits_for = next(step)
        while True:
            ready = yield waits_for
            if not ready and monotonic() > end:
                step.close()
                raise Silence(f"the server said nothing for {seconds:g} s")
            waits_for = step.send(ready)
    except StopIteration as done:
        return done.value
