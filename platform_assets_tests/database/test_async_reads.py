"""`AsyncReads` on a real PostgreSQL server, including lost connections and a slow or unavailable server."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import make_url

from platform_assets.base.errors import DatabaseError
from platform_assets.database.async_reads import AsyncReads
from platform_assets.database.connections import Database
from platform_assets_tests.postgres import empty_databases, wait_until

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

TWICE = b"select number, number * 2 as twice from (values (%s::bigint)) as given (number)"
ONE = [{"number": 1, "twice": 2}]
BACKEND = b"select pg_backend_pid() as number"


class Connections:
    """Opens and counts connections to this module's database; refuses them while `away` is set."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.opened = 0
        self.away = False

    def connect(self) -> psycopg.Connection[Any]:
        if self.away:
            raise DatabaseError("the database is away")
        self.opened += 1
        return Database(self.url).connect("platform")

    def do(self, statement: str) -> None:
        with closing(Database(self.url).connect("platform")) as connection:
            connection.execute(statement.encode())

    def alive(self) -> set[int]:
        """Return the ids of the server processes that serve the open connections."""
        query = b"select pid from pg_stat_activity where datname = current_database()"
        with closing(Database(self.url).connect("platform")) as connection:
            return {row[0] for row in connection.execute(query)}


@pytest.fixture(scope="module")
def url(postgres_server: Database) -> Iterator[str]:
    with empty_databases(postgres_server) as url:
        yield url


@pytest.fixture
def connections(url: str) -> Connections:
    return Connections(url)


@contextmanager
def opened(connections: Connections, patience: float = 60) -> Iterator[AsyncReads]:
    reads = AsyncReads(connections.connect, patience)
    try:
        yield reads
    finally:
        reads.close()


def run(connections: Connections, work: Any, **options: Any) -> Any:
    async def whole(reads: AsyncReads) -> Any:
        try:
            return await work(reads)
        finally:
            reads.close()
            # Let the loop run once, so that it closes the connection.
            await asyncio.sleep(0)

    with opened(connections, **options) as reads:
        return asyncio.run(whole(reads))


async def outcome(asked: Coroutine[Any, Any, list[dict[str, Any]]]) -> Any:
    """Run a statement. Return its rows, or the type of a psycopg error, or the message of a `DatabaseError`."""
    try:
        return await asked
    except psycopg.Error as error:
        return type(error)
    except DatabaseError as error:
        return str(error)


def test_rows_map_column_names_to_typed_values(connections: Connections) -> None:
    async def work(reads: AsyncReads) -> None:
        assert await reads.rows(TWICE, [1]) == ONE
        assert await reads.rows("select 1 as number where %s = 'ö'".encode(), ["o"]) == []
        assert await reads.rows(b"select %s as text", ["ö"]) == [{"text": "ö"}]
        found = await reads.rows(b"select null as nothing, 2.5::float8 as half, date '2020-02-29' as day")
        assert [(type(value).__name__, str(value)) for row in found for value in row.values()] == [
            ("NoneType", "None"),
            ("float", "2.5"),
            ("date", "2020-02-29"),
        ]

    run(connections, work)


def test_concurrent_statements_get_their_own_rows_over_one_connection(connections: Connections) -> None:
    async def work(reads: AsyncReads) -> None:
        found = await asyncio.gather(*(reads.rows(TWICE, [number]) for number in range(2_000)))
        assert [row["twice"] for rows in found for row in rows] == [2 * number for number in range(2_000)]

    run(connections, work)
    assert connections.opened == 1


def test_values_longer_than_one_packet_are_sent_and_received_completely(connections: Connections) -> None:
    long = "0123456789" * 1_000_000

    async def work(reads: AsyncReads) -> None:
        asked = (reads.rows(b"select %s || %s as text", [long, letter]) for letter in "abc")
        found = await asyncio.gather(*asked)
        assert [rows[0]["text"] == long + letter for rows, letter in zip(found, "abc", strict=True)] == [True] * 3

    run(connections, work)


def test_a_refused_statement_does_not_affect_other_statements(connections: Connections) -> None:
    async def work(reads: AsyncReads) -> None:
        asked = [reads.rows(TWICE, [1]), reads.rows(b"select * from nowhere"), reads.rows(TWICE, [1])]
        found = await asyncio.gather(*map(outcome, asked))
        assert found == [ONE, psycopg.errors.UndefinedTable, ONE]
        assert await reads.rows(TWICE, [1]) == ONE

    run(connections, work)


def test_text_with_a_nul_character_is_refused_and_not_truncated(connections: Connections) -> None:
    async def work(reads: AsyncReads) -> None:
        with pytest.raises(psycopg.DataError, match="NUL"):
            await reads.rows(b"select %s as text", ["a\0b"])
        assert await reads.rows(TWICE, [1]) == ONE

    run(connections, work)


def test_a_lost_connection_is_replaced_and_its_statements_are_repeated(connections: Connections) -> None:
    async def work(reads: AsyncReads) -> None:
        [[before]] = await asyncio.gather(reads.rows(BACKEND))
        connections.do(f"select pg_terminate_backend({before['number']})")
        assert await reads.rows(TWICE, [1]) == ONE
        [now] = await reads.rows(BACKEND)
        slow = asyncio.gather(*(reads.rows(b"select pg_sleep(0.2) is null as woke") for _ in range(2)))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(connections.do, f"select pg_terminate_backend({now['number']})")
        assert await slow == [[{"woke": False}]] * 2

    run(connections, work)
    assert connections.opened == 3


def test_all_statements_in_flight_fail_if_the_server_stops_responding(connections: Connections) -> None:
    async def work(reads: AsyncReads) -> None:
        asked = [reads.rows(b"select pg_sleep(30)"), reads.rows(TWICE, [1])]
        told = await asyncio.gather(*map(outcome, asked))
        assert all("the server sent nothing for 0.2 s" in one and "doctor" in one for one in told)
        assert await reads.rows(TWICE, [1]) == ONE

    run(connections, work, patience=0.2)


def test_a_statement_cancelled_by_statement_timeout_raises_a_database_error(
    connections: Connections,
) -> None:
    async def work(reads: AsyncReads) -> None:
        await reads.rows(b"select set_config('statement_timeout', '50ms', false)")
        assert "statement timeout" in await outcome(reads.rows(b"select pg_sleep(30)"))
        assert await reads.rows(TWICE, [1]) == ONE

    run(connections, work)


def test_statements_fail_during_an_outage_and_succeed_afterwards(connections: Connections) -> None:
    async def work(reads: AsyncReads) -> None:
        connections.away = True
        told = await asyncio.gather(*(outcome(reads.rows(TWICE, [1])) for _ in range(3)))
        assert told == ["the database is away"] * 3
        connections.away = False
        assert await reads.rows(TWICE, [1]) == ONE

    run(connections, work)
    assert connections.opened == 1


def test_a_cancelled_caller_does_not_affect_other_callers(connections: Connections) -> None:
    async def work(reads: AsyncReads) -> None:
        first = asyncio.create_task(reads.rows(TWICE, [1]))
        others = [asyncio.create_task(reads.rows(TWICE, [1])) for _ in range(2)]
        await asyncio.sleep(0)
        first.cancel()  # while the connection is being opened
        assert await asyncio.gather(*others) == [ONE] * 2
        gone = asyncio.create_task(reads.rows(b"select pg_sleep(0.05)"))
        await asyncio.sleep(0)
        gone.cancel()  # while the statement is in flight
        assert await reads.rows(TWICE, [1]) == ONE

    run(connections, work)


def test_an_altered_table_is_read_with_its_new_columns(connections: Connections, postgres_server: Database) -> None:
    owner = Connections(postgres_server.url("platform").set(database=connections.url.database).render_as_string(False))
    owner.do("create table public.growing as select 1 as a")

    async def work(reads: AsyncReads) -> None:
        query = b"select * from public.growing"
        assert await reads.rows(query) == [{"a": 1}]
        await asyncio.to_thread(owner.do, "alter table public.growing add column b int default 2")
        assert await reads.rows(query) == [{"a": 1, "b": 2}]

    run(owner, work)


@pytest.mark.requirement("SRV-1")
def test_registered_work_runs_while_a_statement_is_in_flight(connections: Connections) -> None:
    done: list[str] = []

    async def ask(reads: AsyncReads) -> None:
        await reads.rows(b"select 1 as number from pg_sleep(0.05)")
        done.append("answered")

    async def work(reads: AsyncReads) -> None:
        with reads.meanwhile(lambda: done.append("worked")):
            await ask(reads)
            await ask(reads)
        await ask(reads)

    run(connections, work)
    assert done == ["worked", "answered", "worked", "answered", "answered"]


def test_an_error_in_registered_work_does_not_fail_the_statement(connections: Connections) -> None:
    failed: list[object] = []

    def fail() -> None:
        raise ValueError("no time")

    async def work(reads: AsyncReads) -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context["exception"]))
        with reads.meanwhile(fail):
            return await reads.rows(TWICE, [1])

    assert run(connections, work) == ONE
    [error] = failed
    assert isinstance(error, ValueError)


def test_unregistering_work_does_not_unregister_the_work_of_another_application(connections: Connections) -> None:
    done: list[str] = []

    async def work(reads: AsyncReads) -> None:
        first, second = ExitStack(), ExitStack()
        first.enter_context(reads.meanwhile(lambda: done.append("first")))
        second.enter_context(reads.meanwhile(lambda: done.append("second")))
        first.close()
        await reads.rows(TWICE, [1])
        second.close()
        await reads.rows(TWICE, [1])

    run(connections, work)
    assert done == ["second"]


def test_registered_work_does_not_run_on_another_event_loop(connections: Connections) -> None:
    done: list[int] = []

    async def read(reads: AsyncReads) -> None:
        await reads.rows(TWICE, [1])

    async def work(reads: AsyncReads) -> None:
        with reads.meanwhile(lambda: done.append(1)):
            await asyncio.to_thread(asyncio.run, read(reads))

    run(connections, work)
    assert done == []


def test_each_event_loop_has_its_own_connection_until_it_ends(connections: Connections) -> None:
    with opened(connections) as reads:
        pids = [asyncio.run(reads.rows(BACKEND))[0]["number"] for _ in range(3)]
        assert len({*pids}) == 3
        # The server notices a closed connection with a delay.
        wait_until(lambda: not {*pids[:2]} & connections.alive(), "the connections of ended loops were closed")
    wait_until(lambda: not {*pids} & connections.alive(), "the last connection was closed")
