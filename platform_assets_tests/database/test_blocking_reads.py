"""`Reads` on a real PostgreSQL server, including network failures."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import make_url

from platform_assets.base.errors import DatabaseError
from platform_assets.database.blocking_reads import CONNECTIONS, Reads
from platform_assets.database.connections import Database
from platform_assets_tests.gate import Gate
from platform_assets_tests.postgres import empty_databases

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE = b"select 1"


@pytest.fixture(scope="module")
def url(postgres_server: Database) -> Iterator[str]:
    with empty_databases(postgres_server) as url:
        yield url


@pytest.fixture
def gate(url: str) -> Iterator[Gate]:
    at = make_url(url)
    with Gate((str(at.host), int(at.port or 0))) as gate:
        yield gate


@pytest.fixture
def database(url: str, gate: Gate) -> Iterator[Database]:
    database = Database(make_url(url).set(port=gate.port))
    yield database
    database.close()


def hasty(database: Database, statement_milliseconds: int = 0) -> Reads:
    """Return `Reads` with short timeouts, so that the tests are fast."""

    def connect() -> psycopg.Connection[Any]:
        connection = database.connect("platform", 0.3)
        connection.execute(f"set statement_timeout = {statement_milliseconds}".encode())
        return connection

    return Reads(connect)


def test_rows_are_tuples_in_the_order_of_the_columns(database: Database) -> None:
    query = b"select g as number, %s::text as text from generate_series(1, 2) g"
    assert database.reads.rows(query, ["a"]) == [(1, "a"), (2, "a")]
    assert database.reads.rows(query, [None]) == [(1, None), (2, None)]
    assert database.reads.rows(b"select 1 where false") == []


def test_a_pooled_connection_is_idle_after_a_statement(database: Database, url: str) -> None:
    query = b"select pg_backend_pid(), current_setting('statement_timeout')"
    [(pid, limit)] = database.reads.rows(query)
    assert database.reads.rows(query) == [(pid, "2s")]
    assert limit == "2s"
    with psycopg.connect(url) as connection:
        row = connection.execute("select state from pg_stat_activity where pid = %s", [pid]).fetchone()
    assert row == ("idle",)


def test_refused_statements_return_their_connections_to_the_pool(database: Database) -> None:
    for _ in range(2 * CONNECTIONS):
        with pytest.raises(psycopg.errors.UndefinedTable):
            database.reads.rows(b"select from nowhere")
    assert database.reads.rows(ONE) == [(1,)]


def test_many_threads_share_few_connections(database: Database, url: str) -> None:
    def ask(number: int) -> bool:
        return database.reads.rows(b"select %s::int", [number]) == [(number,)]

    with ThreadPoolExecutor(2 * CONNECTIONS) as threads:
        assert all(threads.map(ask, range(400)))
    with psycopg.connect(url) as connection:
        query = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        [count] = connection.execute(query).fetchone() or [0]
    assert 1 <= count <= CONNECTIONS


@pytest.mark.requirement("SRV-1")
def test_connections_that_broke_while_idle_are_replaced_without_an_error(database: Database, gate: Gate) -> None:
    def ask(_: int) -> Any:
        return database.reads.rows(b"select 1 from pg_sleep(0.02)")

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        list(threads.map(ask, range(CONNECTIONS)))
        gate.cut()
        assert list(threads.map(ask, range(2 * CONNECTIONS))) == [[(1,)]] * (2 * CONNECTIONS)


def test_a_connection_whose_backend_was_terminated_is_replaced_without_an_error(
    database: Database, postgres_server: Database
) -> None:
    [(pid,)] = database.reads.rows(b"select pg_backend_pid()")
    with postgres_server.maintenance() as connection:
        connection.execute("select pg_terminate_backend(%s, 5000)", [pid])
    [(other,)] = database.reads.rows(b"select pg_backend_pid()")
    assert other != pid


@pytest.mark.requirement("SRV-1")
def test_statements_fail_at_once_during_an_outage_and_succeed_afterwards(database: Database, gate: Gate) -> None:
    assert database.reads.rows(ONE) == [(1,)]
    gate.shut()
    for _ in range(2 * CONNECTIONS):
        began = time.monotonic()
        with pytest.raises(DatabaseError, match=r"cannot open the database .*connection"):
            database.reads.rows(ONE)
        assert time.monotonic() - began < 2
    gate.open()
    assert database.reads.rows(ONE) == [(1,)]


@pytest.mark.requirement("SRV-1")
def test_a_statement_fails_if_the_server_stops_responding(database: Database, gate: Gate) -> None:
    reads = hasty(database)
    assert reads.rows(ONE) == [(1,)]
    gate.hang()
    with pytest.raises(DatabaseError, match=r"sent nothing for 0.3 s.*platform-assets doctor"):
        reads.rows(ONE)
    gate.open()
    # The late result of `select 1` must not be returned for this statement.
    assert reads.rows(b"select 2") == [(2,)]
    reads.close()


@pytest.mark.requirement("SRV-1")
def test_a_statement_that_exceeds_the_statement_timeout_fails(database: Database) -> None:
    reads = hasty(database, statement_milliseconds=50)
    with pytest.raises(DatabaseError, match=r"statement timeout.*platform-assets doctor"):
        reads.rows(b"select pg_sleep(0.25)")
    assert reads.rows(ONE) == [(1,)]
    reads.close()


def test_a_statement_that_waits_too_long_for_a_connection_fails(database: Database) -> None:
    reads = Reads(lambda: database.connect("platform", 5), seconds=0.1)
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        busy = [threads.submit(reads.rows, b"select 1 from pg_sleep(0.6)") for _ in range(CONNECTIONS)]
        time.sleep(0.3)
        with pytest.raises(DatabaseError, match=r"8 statements are already waiting for a response"):
            reads.rows(ONE)
        assert [one.result() for one in busy] == [[(1,)]] * CONNECTIONS
    reads.close()
