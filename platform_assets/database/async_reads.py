"""Run read-only statements on PostgreSQL from an event loop; `blocking_reads.py` is the counterpart for threads.

Each loop has one connection, in libpq's pipeline mode: statements are sent without waiting for earlier results, so one
connection serves all requests of a process. psycopg's own asynchronous connection takes three times as long per row,
mostly because it registers with the loop for each wait. `benchmarks/reads.py` compares this module with asyncpg.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer

from platform_assets.base.errors import DatabaseError, first_line
from platform_assets.database.blocking_reads import SILENCE_SECONDS, Silence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OVER = (
    psycopg.errors.AdminShutdown,
    psycopg.errors.CrashShutdown,
    # Raised for a prepared statement whose result columns were changed by a migration.
    psycopg.errors.FeatureNotSupported,
)


Value = str | int | Sequence[str | int]


class Lost(psycopg.OperationalError):
    """The connection ended before the result arrived."""


class AsyncReads:
    """Runs statements on one connection for each event loop.

    Parameters
    ----------
    connect
        Function that opens a connection in autocommit mode, or raises `DatabaseError`. It is called in a thread.
    patience
        Seconds without data from the server after which statements fail.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], patience: float = SILENCE_SECONDS) -> None:
        self._connect = connect
        self._patience = patience
        self._lines: dict[asyncio.AbstractEventLoop, _Line] = {}
        self._opening: dict[asyncio.AbstractEventLoop, asyncio.Task[_Line]] = {}
        self._meanwhile: dict[asyncio.AbstractEventLoop, Callable[[], object]] = {}

    @contextmanager
    def meanwhile(self, work: Callable[[], object]) -> Iterator[None]:
        """Context in which `work` runs on the current loop whenever a statement is in flight.

        With one client, this keeps the CPU from becoming idle, which lowers the latency (measured).

        Parameters
        ----------
        work
            Function that takes less time than a statement, i.e. at most some hundredths of a millisecond.
        """
        loop = asyncio.get_running_loop()
        self._meanwhile[loop] = work
        try:
            yield
        finally:
            # Another application on this loop may have set its own `work` in the meantime; keep that.
            if self._meanwhile.get(loop) is work:
                del self._meanwhile[loop]

    async def rows(self, query: bytes, values: Sequence[Value] = ()) -> list[dict[str, Any]]:
        """Return the rows of one statement, as mappings from column name to value.

        Parameters
        ----------
        query
            Statement with `%s` for each value.
        values
            Values; PostgreSQL infers their types from the statement. A sequence becomes an array.

        Raises
        ------
        DatabaseError
            The database does not respond in time.
        psycopg.Error
            The database refuses the statement.
        """
        loop = asyncio.get_running_loop()
        for again in (False, True):
            line = self._lines.get(loop) or await self._opened()
            try:
                answer = line.ask(query, values)
                if (work := self._meanwhile.get(loop)) is not None:
                    loop.call_soon(work)
                return await answer
            except (psycopg.OperationalError, *_OVER) as error:
                # A second attempt is safe, because statements only read.
                if again or not isinstance(error, (Lost, *_OVER)):
                    raise DatabaseError(
                        f"the database does not answer ({first_line(error)}); run `platform-assets doctor` to see "
                        "what is reachable"
                    ) from None
        raise AssertionError("the second attempt returns or raises")

    def close(self) -> None:
        """Close the connections; any thread may call this."""
        for loop, line in list(self._lines.items()):
            if loop.is_running():
                loop.call_soon_threadsafe(line.end)
            else:
                line.end()

    async def _opened(self) -> _Line:
        """Return this loop's connection; concurrent callers share one attempt to open it."""
        loop = asyncio.get_running_loop()
        if loop not in self._opening:
            self._opening[loop] = opening = loop.create_task(self._open(loop))
            # Retrieve the exception even if no caller waits any more, so that asyncio does not log it.
            opening.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(self._opening[loop])

    async def _open(self, loop: asyncio.AbstractEventLoop) -> _Line:
        try:
            line = _Line(await asyncio.to_thread(self._connect), loop, self._patience, self._forget)
            for other in [other for other in self._lines if other.is_closed()]:
                self._lines[other].end()
            self._lines[loop] = line
            return line
        finally:
            del self._opening[loop]

    def _forget(self, line: _Line) -> None:
        for loop in [loop for loop, kept in self._lines.items() if kept is line]:
            del self._lines[loop]


class _Asked:
    """A statement in flight."""

    __slots__ = ("answer", "failure", "query", "rows")

    def __init__(self, answer: asyncio.Future[list[dict[str, Any]]], query: bytes) -> None:
        self.answer = answer
        self.query = query
        self.rows: list[dict[str, Any]] = []
        self.failure: psycopg.Error | None = None

    def settle(self) -> None:
        # The future is done already if the caller was cancelled.
        if self.answer.done():
            return
        if self.failure is not None:
            self.answer.set_exception(self.failure)
        else:
            self.answer.set_result(self.rows)


class _Line:
    """A connection in pipeline mode, driven by one event loop."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        loop: asyncio.AbstractEventLoop,
        patience: float,
        ended: Callable[[_Line], None],
    ) -> None:
        self._connection = connection
        self._wire = connection.pgconn
        self._loop = loop
        self._patience = patience
        self._ended = ended
        self._waiting: deque[_Asked] = deque()
        self._prepared: dict[bytes, bytes] = {}
        self._columns: dict[bytes, list[str]] = {}
        self._numbers = count()
        self._types = Transformer(connection)
        self._encoding = connection.info.encoding
        self._refused = False
        self._heard = loop.time()
        self._watch: asyncio.TimerHandle | None = None
        self._wire.nonblocking = 1
        self._wire.enter_pipeline_mode()
        self._socket = self._wire.socket
        loop.add_reader(self._socket, self._receive)

    def ask(self, query: bytes, values: Sequence[Value]) -> asyncio.Future[list[dict[str, Any]]]:
        """Send a statement; return a future of its rows."""
        sent: list[bytes | None] = [_text(value).encode(self._encoding) for value in values]
        if any(b"\0" in value for value in sent if value):
            # Refuse a NUL byte here, because the protocol would end the text there.
            raise psycopg.DataError("PostgreSQL text cannot contain NUL (0x00) bytes")
        asked = _Asked(self._loop.create_future(), query)
        if not self._waiting:
            self._heard = self._loop.time()
        self._waiting.append(asked)
        try:
            self._send(query, sent)
        except psycopg.OperationalError as error:
            self._fail(Lost(first_line(error)))
        if self._watch is None and self._waiting:
            self._watch = self._loop.call_later(self._patience, self._look)
        return asked.answer

    def end(self) -> None:
        """Close the connection; statements in flight fail."""
        self._fail(Lost("the connection was closed"))

    def _send(self, query: bytes, values: list[bytes | None]) -> None:
        name = self._prepared.get(query)
        if name is None:
            self._prepared[query] = name = b"read_%d" % next(self._numbers)
            self._wire.send_prepare(name, _numbered(query))
        self._wire.send_query_prepared(name, values)
        self._wire.pipeline_sync()
        self._flush()

    def _flush(self) -> None:
        if self._wire.flush():
            self._loop.add_writer(self._socket, self._write)

    def _write(self) -> None:
        try:
            if not self._wire.flush():
                self._loop.remove_writer(self._socket)
        except psycopg.OperationalError as error:
            self._fail(Lost(first_line(error)))

    def _receive(self) -> None:
        try:
            self._wire.consume_input()
            self._heard = self._loop.time()
            while self._waiting and not self._wire.is_busy():
                result = self._wire.get_result()
                if result is not None:
                    self._take(result)
        except psycopg.OperationalError as error:
            self._fail(Lost(first_line(error)))
            return
        if self._refused and not self._waiting:
            self.end()

    def _take(self, result: pq.abc.PGresult) -> None:
        asked = self._waiting[0]
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            self._waiting.popleft().settle()
        elif result.status == pq.ExecStatus.TUPLES_OK:
            names = self._columns.get(asked.query)
            if names is None:
                named = (result.fname(place) or b"" for place in range(result.nfields))
                names = self._columns[asked.query] = [name.decode() for name in named]
            self._types.set_pgresult(result)
            try:
                rows = self._types.load_rows(0, result.ntuples, tuple)
            except psycopg.DataError as error:
                # Python cannot represent one of the values. Fail only this statement.
                asked.failure = error
                return
            asked.rows = [dict(zip(names, row, strict=True)) for row in rows]
        elif result.status == pq.ExecStatus.FATAL_ERROR:
            asked.failure = psycopg.errors.error_from_result(result)
            # Use a new connection for later statements, because a prepared statement may have caused the error.
            self._refused = True
            self._ended(self)

    def _look(self) -> None:
        """Close the connection if the server sent no data within the time limit."""
        self._watch = None
        if not self._waiting:
            return
        left = self._heard + self._patience - self._loop.time()
        if left <= 0:
            self._fail(Silence(f"the server sent nothing for {self._patience:g} s"))
        else:
            self._watch = self._loop.call_later(left, self._look)

    def _fail(self, failure: psycopg.Error) -> None:
        self._ended(self)
        if not self._loop.is_closed():
            if self._watch is not None:
                self._watch.cancel()
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            while self._waiting:
                asked = self._waiting.popleft()
                asked.failure = asked.failure or failure
                asked.settle()
        with suppress(psycopg.Error):
            self._connection.close()


@cache
def _numbered(query: bytes) -> bytes:
    """Return a statement with numbered parameters. The cache stays small, because statements are constants."""
    first, *others = query.split(b"%s")
    return first + b"".join(b"$%d%s" % (place, part) for place, part in enumerate(others, 1))


def _text(value: Value) -> str:
    if isinstance(value, str | int):
        return str(value)
    quoted = (str(one).replace("\\", "\\\\").replace('"', '\\"') for one in value)
    return "{" + ",".join(f'"{one}"' for one in quoted) + "}"
