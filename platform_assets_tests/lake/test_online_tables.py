"""Online tables in a real PostgreSQL: reads, atomic replacement, concurrent writers, and errors."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from platform_assets.base.errors import DatabaseError
from platform_assets.database.async_reads import AsyncReads
from platform_assets.database.connections import Database
from platform_assets.database.opening import open_database
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.online_tables import OnlineRow, OnlineTables, OnlineVersion
from platform_assets_tests.ports import reserve_port
from platform_assets_tests.postgres import as_owner, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

PRICES = "shop/prices"
MAKE_PRICES = """
create schema shop;
create table shop.prices (id bigint primary key, price double precision, note text, day date);
"""
DAY = dt.date(2020, 1, 1)


class Shop:
    """An `OnlineTables` with its own engine and connections."""

    def __init__(self, url: str, folder: Path, owner_url: str = "") -> None:
        self.owner_url = owner_url
        self.database = open_database(url, folder)
        self.engine = Engine(folder / "scratch", "200MB", 1)
        self.reads = AsyncReads(self.database.connect_to_read)
        self.online = OnlineTables(lambda: self.database, self.engine, self.reads)

    def publish(self, rows: pa.Table, name: str = PRICES, key: tuple[str, ...] = ("id",), **more: Any) -> OnlineVersion:
        with self.engine.stage(rows) as staged:
            version = self.online.publish(name, staged, key, **more)
            assert (version.name, version.digest, version.rows) == (name, staged.digest, staged.rows)
            return version

    def get(self, name: str, **key: Any) -> dict[str, Any] | None:
        return asyncio.run(self.online.get(name, **key))

    def get_many(self, name: str, column: str, keys: list[Any]) -> dict[Any, OnlineRow]:
        return asyncio.run(self.online.get_many(name, column, keys))

    def rows(self, name: str = PRICES) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.online.read(name).to_pylist()
        return sorted(rows, key=str)

    def written_by(self) -> dict[int, str]:
        """Return the transaction that last wrote each row."""
        return dict(self.sql("select id, xmin::text from shop.prices"))

    def sql(self, query: str, *values: Any) -> list[Any]:
        with self.database.connect("platform") as connection:
            cursor = connection.execute(query.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def make(self, statements: str) -> None:
        as_owner(self.owner_url, statements)

    def close(self) -> None:
        self.engine.close()
        self.reads.close()
        self.database.close()


@pytest.fixture
def shop(database_url: str, owner_url: str, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(database_url, tmp_path / "first", owner_url)
    shop.make(MAKE_PRICES)
    yield shop
    shop.close()


@pytest.fixture
def other(database_url: str, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(database_url, tmp_path / "second")
    yield shop
    shop.close()


def prices(**by_id: float | None) -> pa.Table:
    """Return rows with the given ids and prices: `prices(_1=2.5)` is one row with id 1 and price 2.5."""
    ids = [int(name.removeprefix("_")) for name in by_id]
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "price": pa.array(by_id.values(), pa.float64()),
            "note": pa.array(["x"] * len(ids), pa.string()),
            "day": pa.array([DAY] * len(ids), pa.date32()),
        }
    )


def row(number: int, price: float | None, note: str | None = "x", day: dt.date | None = DAY) -> dict[str, Any]:
    return {"id": number, "price": price, "note": note, "day": day}


# One writer


@pytest.mark.requirement("CRE-4")
def test_get_and_get_many_return_rows_by_key(shop: Shop) -> None:
    shop.publish(prices(_1=1.0, _2=None, _3=3.0))
    assert shop.get(PRICES, id=2) == row(2, None)
    assert shop.get(PRICES, id=2, note="x") == row(2, None)
    assert shop.get(PRICES, id=2, note="y") is None
    assert shop.get(PRICES, id=4) is None
    assert shop.get_many(PRICES, "id", [3, 1, 4, 3]) == {3: row(3, 3.0), 1: row(1, 1.0)}
    assert shop.get_many(PRICES, "note", ["x"]).keys() == {"x"}
    assert shop.get_many(PRICES, "id", []) == {}
    assert shop.get_many(PRICES, "id", list(range(1_000))).keys() == {1, 2, 3}


@pytest.mark.parametrize(
    ("use", "told"),
    [
        (lambda online: online.get("shop/nothing", id=1), "no table for shop/nothing .*migration"),
        (lambda online: online.get(PRICES, colour=1), "no table for shop/prices with these columns"),
        (lambda online: online.get_many("nowhere/prices", "id", [1]), "no table for nowhere/prices"),
        (lambda online: online.get_many(PRICES, "id", ["x"]), "PostgreSQL refused a statement about shop/prices"),
    ],
)
def test_lookup_errors_name_the_table(
    shop: Shop, use: Callable[[OnlineTables], Coroutine[Any, Any, object]], told: str
) -> None:
    with pytest.raises(DatabaseError, match=told):
        asyncio.run(use(shop.online))


@pytest.mark.requirement("CRE-2")
def test_publishing_adds_changes_and_removes_rows(shop: Shop) -> None:
    shop.publish(prices(_1=1.0, _2=2.0, _3=3.0))
    assert shop.rows() == [row(1, 1.0), row(2, 2.0), row(3, 3.0)]
    shop.publish(prices(_2=2.0, _3=3.5, _4=None))
    assert shop.rows() == [row(2, 2.0), row(3, 3.5), row(4, None)]
    assert shop.publish(prices()).rows == 0
    assert shop.rows() == []


@pytest.mark.requirement("CRE-2")
def test_only_rows_that_differ_are_written(shop: Shop) -> None:
    first = shop.publish(prices(_1=1.0, _2=None, _3=3.0), run_id="a")
    before = shop.written_by()
    again = shop.publish(prices(_3=3.0, _1=1.0, _2=None), run_id="b")
    assert shop.written_by() == before
    assert again == first
    third = shop.publish(prices(_1=1.0, _2=2.0, _3=3.0))
    after = shop.written_by()
    assert {number for number in after if after[number] != before[number]} == {2}
    assert third.updated_at > first.updated_at


@pytest.mark.requirement("CRE-2")
def test_the_current_version_describes_the_published_rows(shop: Shop) -> None:
    assert shop.online.current(PRICES) is None
    version = shop.publish(prices(_1=1.0, _2=2.0), run_id="run-1")
    assert shop.online.current(PRICES) == version
    assert version.updated_at.tzinfo is not None
    assert shop.sql("select run_id from platform.online_tables where name = %s", PRICES) == [("run-1",)]


@pytest.mark.requirement("CRE-2")
def test_values_are_kept_exactly(shop: Shop) -> None:
    numbers = [0.1, 1 / 3, 5e-324, -1.7976931348623157e308, math.nextafter(1, 2), math.inf, -math.inf, 1e22, -0.0, None]
    notes = ["", None, " ", "NULL", "\\N", "\\.", 'a,"b"\r\n\tc', "'; drop table shop.prices; --", "Łódź 数", "\\x41"]
    days = [DAY, None, dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(3021, 9, 18), *[dt.date(1970, 1, 1)] * 5]
    ids = [2**63 - 1, -(2**63), 2**53 + 1, *range(7)]
    sent = [
        {"id": number, "price": price, "note": note, "day": day}
        for number, price, note, day in zip(ids, numbers, notes, days, strict=True)
    ]
    shop.publish(pa.Table.from_pylist(sent, schema=prices().schema))
    for expected in sent:
        found = shop.get(PRICES, id=expected["id"])
        assert found == expected
        if expected["price"] is not None:
            assert struct.pack("d", found["price"]) == struct.pack("d", expected["price"])
    assert shop.rows() == sorted(sent, key=str)


def test_bytes_booleans_and_times_are_stored_exactly(shop: Shop) -> None:
    shop.make("create table shop.odd (id int, raw bytea, is_new boolean, at timestamptz, primary key (id))")
    at = dt.datetime(2020, 1, 1, 10, 0, 0, 123_456, dt.UTC)
    sent = [
        {"id": 1, "raw": b"\\x41\0\xff\xaa", "is_new": True, "at": at},
        {"id": 2, "raw": b"", "is_new": False, "at": None},
        {"id": 3, "raw": None, "is_new": None, "at": at},
    ]
    types = {"id": pa.int32(), "raw": pa.binary(), "is_new": pa.bool_(), "at": pa.timestamp("us", "UTC")}
    shop.publish(pa.Table.from_pylist(sent, schema=pa.schema(types.items())), "shop/odd")
    assert [shop.get("shop/odd", id=number) for number in (1, 2, 3)] == sent


def test_a_key_may_have_several_columns(shop: Shop) -> None:
    shop.make("create table shop.stock (place text, id bigint, pieces bigint, primary key (place, id))")
    rows = {"place": ["a", "a", "b"], "id": [1, 2, 1], "pieces": [10, 20, 30]}
    shop.publish(pa.table(rows), "shop/stock", ("place", "id"))
    shop.publish(pa.table(rows).slice(1), "shop/stock", ("place", "id"))
    assert shop.get("shop/stock", place="a", id=2) == {"place": "a", "id": 2, "pieces": 20}
    assert shop.get("shop/stock", place="a", id=1) is None
    assert len(shop.rows("shop/stock")) == 2


def test_names_and_keys_cannot_inject_sql(shop: Shop) -> None:
    table, column = 'x"; drop table shop.prices; --', 'it\'s; "here"'
    shop.make('create table shop."x""; drop table shop.prices; --" (id text primary key, "it\'s; ""here""" bigint)')
    key = "1' or '1'='1"
    shop.publish(pa.table({"id": [key, "2"], column: [1, 2]}), f"shop/{table}")
    assert shop.get(f"shop/{table}", id=key) == {"id": key, column: 1}
    assert shop.get(f"shop/{table}", id="1' or '2'='2") is None
    assert shop.get(f"shop/{table}", **{column: 2}) == {"id": "2", column: 2}
    assert shop.rows() == []


def test_getting_an_unknown_key_returns_none(shop: Shop) -> None:
    shop.publish(prices(_1=1.0))
    assert shop.get(PRICES, id=2) is None
    assert shop.get(PRICES, id=1) == row(1, 1.0)


def test_the_client_features_can_be_published(shop: Shop) -> None:
    rows = pa.table(
        {
            "client_id": [1],
            "as_of": [DAY],
            "loan_id": [9],
            "nb_previous_loans": [0],
            "avg_amount_loans_previous": pa.array([None], pa.float64()),
            "age": pa.array([40], pa.int32()),
            "years_on_the_job": pa.array([None], pa.int32()),
            "flag_own_car": pa.array([1], pa.int32()),
        }
    )
    shop.publish(rows, "credit_risk/client_features", ("client_id",))
    assert shop.online.read("credit_risk/client_features").to_pylist() == rows.to_pylist()


# Concurrent readers and writers


@pytest.mark.requirement("CRE-2")
def test_a_reader_sees_either_all_old_rows_or_all_new_rows(shop: Shop, other: Shop) -> None:
    def version(price: float) -> pa.Table:
        first = int(price) * 50
        return prices(**{f"_{number}": price for number in range(first, first + 200)})

    shop.publish(version(0.0))
    done, seen = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            table = other.online.read(PRICES)
            seen.append((len(table), set(table["price"].to_pylist())))

    def has_read_since(count: int) -> bool:
        return len(seen) > count + 1 or reading.done()

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        try:
            for price in range(1, 9):
                before = len(seen)
                shop.publish(version(float(price)))
                wait_until(partial(has_read_since, before), "the reader had read")
        finally:
            done.set()
        reading.result()
    assert all(count == 200 and len(versions) == 1 for count, versions in seen)
    assert len({min(versions) for _, versions in seen}) > 2


@pytest.mark.requirement("CRE-2")
def test_after_two_concurrent_writers_the_table_contains_the_rows_of_only_one_writer(shop: Shop, other: Shop) -> None:
    contents = {0: prices(**{f"_{n}": 0.0 for n in range(100)}), 1: prices(**{f"_{n}": 1.0 for n in range(50, 150)})}
    start = threading.Barrier(2)

    def write(writer: Shop, number: int) -> None:
        start.wait()
        for _ in range(5):
            writer.publish(contents[number])

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(write, shop, 0), pool.submit(write, other, 1)]:
            future.result()
    rows, version = shop.rows(), shop.online.current(PRICES)
    [winner] = [number for number, content in contents.items() if sorted(content.to_pylist(), key=str) == rows]
    with shop.engine.stage(contents[winner]) as staged:
        assert version is not None
        assert version.digest == staged.digest


WAITING = "select wait_event from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


@pytest.mark.requirement("CRE-2")
def test_a_writer_waits_for_the_previous_writer(shop: Shop, other: Shop) -> None:
    shop.publish(prices(_1=1.0, _2=1.0))
    with other.database.connect("platform") as blocker, ThreadPoolExecutor(2) as pool:
        blocker.execute("begin; lock table shop.prices in share mode")
        first = pool.submit(shop.publish, prices(_2=2.0, _3=2.0))
        wait_until(lambda: shop.sql(WAITING) == [("relation",)], "the first writer waited for the table")
        second = pool.submit(other.publish, prices(_3=3.0, _4=3.0))
        wait_until(
            lambda: sorted(shop.sql(WAITING)) == [("advisory",), ("relation",)], "the second waited for the first"
        )
        blocker.execute("rollback")
        first.result()
        second.result()
    assert shop.rows() == [row(3, 3.0), row(4, 3.0)]


@pytest.mark.requirement("CRE-2")
def test_a_writer_disconnected_before_its_commit_changes_nothing(shop: Shop, other: Shop) -> None:
    version = shop.publish(prices(_1=1.0, _2=2.0))
    waiting = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with other.database.connect("platform") as blocker, ThreadPoolExecutor(1) as pool:
        # The lock makes the writer wait after it has copied its rows, and before it changes the table.
        blocker.execute("begin; lock table shop.prices in share mode")
        writing = pool.submit(shop.publish, prices(_1=1.5))
        wait_until(lambda: shop.sql(waiting) or writing.done(), "the writer waited for the lock")
        assert not writing.done()
        shop.sql(f"select pg_terminate_backend(pid) from ({waiting}) blocked")
        with pytest.raises(DatabaseError, match=r"failed while shop/prices was in use .* table's rows are unchanged"):
            writing.result()
        blocker.execute("rollback")
    assert shop.rows() == [row(1, 1.0), row(2, 2.0)]
    assert shop.online.current(PRICES) == version
    shop.publish(prices(_1=1.5))
    assert shop.rows() == [row(1, 1.5)]


def test_connections_closed_while_idle_are_replaced(shop: Shop) -> None:
    shop.publish(prices(_1=1.0))
    shop.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid()"
    )
    assert shop.get(PRICES, id=1) == row(1, 1.0)


# Refusals


@pytest.mark.requirement("CRE-2")
def test_the_error_for_a_missing_table_or_column_suggests_a_migration(shop: Shop) -> None:
    for name in ("shop/none", "none/prices"):
        for use in (partial(shop.publish, prices(_1=1.0)), shop.online.read, partial(shop.get, id=1)):
            with pytest.raises(DatabaseError, match=f"no table for {name} .*; write a migration for it"):
                use(name)
    with pytest.raises(DatabaseError, match="run `platform-assets migrate`"):
        shop.publish(prices(_1=1.0).append_column("tax", [[1]]))
    assert shop.online.current("shop/none") is None


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        pytest.param(pa.concat_tables([prices(_2=1.0), prices(_2=2.0)]), "a second time", id="key twice"),
        pytest.param(
            prices(_2=1.0).set_column(0, "id", [[None]]).cast(prices().schema), "null value in column", id="no key"
        ),
        pytest.param(
            prices(_2=1.0).set_column(1, "price", [["dear"]]), "invalid input syntax for type double", id="type"
        ),
        pytest.param(prices(_2=1.0).set_column(2, "note", [["a\0b"]]), "invalid byte sequence", id="zero byte"),
    ],
)
def test_the_old_rows_stay_if_postgresql_refuses_the_new_rows(shop: Shop, rows: pa.Table, reason: str) -> None:
    version = shop.publish(prices(_1=1.0))
    with pytest.raises(DatabaseError, match=f"refused a statement about shop/prices .*{reason}.*rows are unchanged"):
        shop.publish(rows)
    assert shop.rows() == [row(1, 1.0)]
    assert shop.online.current(PRICES) == version


@pytest.mark.requirement("PLT-8")
def test_the_error_for_an_unreachable_server_contains_no_password(tmp_path: Path) -> None:
    from sqlalchemy import make_url

    engine = Engine(tmp_path / "scratch", "200MB", 1)
    database = Database(make_url(f"postgresql://anna:sesame@127.0.0.1:{reserve_port()}/shop"))
    online = OnlineTables(lambda: database, engine, AsyncReads(database.connect_to_read))
    with engine.stage(prices(_1=1.0)) as staged:
        for use in (
            lambda: online.publish(PRICES, staged, ("id",)),
            lambda: online.current(PRICES),
            lambda: asyncio.run(online.get(PRICES, id=1)),
            lambda: online.read(PRICES),
        ):
            with pytest.raises(DatabaseError, match=r"(failed while|cannot open) .*connection.* failed") as caught:
                use()
            assert "sesame" not in str(caught.value)
    database.close()
    engine.close()
