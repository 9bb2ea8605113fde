"""Connections to the three databases, embedded and external, and their recovery when the embedded server ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, make_url, text

from platform_assets.base.errors import DatabaseError
from platform_assets.database.opening import open_database
from platform_assets_tests.postgres import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from platform_assets.database.connections import Database


@pytest.fixture(params=["embedded", "external"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "embedded":
        url, home = "", request.getfixturevalue("running_home")
    else:
        url, home = request.getfixturevalue("database_url"), tmp_path
    with contextlib.closing(open_database(url, home)) as database:
        yield database


@pytest.mark.requirement("PRO-9")
def test_maintenance_connections_cannot_run_operators_of_other_roles(database: Database) -> None:
    """The search path must exclude `public`, because every role may define operators there on PostgreSQL 14."""
    with contextlib.closing(database.maintenance()) as connection:
        assert connection.execute("show search_path").fetchone() == ("pg_catalog, pg_temp",)


@pytest.mark.requirement("CRE-2")
def test_the_same_sql_works_on_embedded_and_external_databases(database: Database) -> None:
    insert = text(
        "insert into credit_risk.client_features (client_id, as_of, loan_id, nb_previous_loans, age, flag_own_car)"
        " values (:client_id, '2021-02-28', 9007199254740993, 0, 41, 1)"
    )
    with database.engine.begin() as connection:
        connection.execute(insert, {"client_id": 2**53 + 1})
        connection.execute(text("insert into platform.online_tables (name, digest, rows) values ('é', 'd', 1)"))
    with database.engine.connect() as connection:
        features = connection.execute(text("select * from credit_risk.client_features")).mappings().all()
        online = connection.execute(text("select upper(name), run_id, updated_at <= now() from platform.online_tables"))
        assert [tuple(map(str, row.values())) for row in features] == [
            ("9007199254740993", "2021-02-28", "9007199254740993", "0", "None", "41", "None", "1")
        ]
        assert [tuple(row) for row in online] == [("É", None, True)]


@pytest.mark.requirement("PLT-1")
def test_every_column_of_a_feature_table_is_described(database: Database) -> None:
    with database.connect("platform") as connection:
        columns = connection.execute(
            "select attname, col_description(attrelid, attnum) from pg_attribute"
            " where attrelid = 'credit_risk.client_features'::regclass and attnum > 0 order by attnum"
        ).fetchall()
    assert [name for name, _ in columns] == [
        *("client_id", "as_of", "loan_id", "nb_previous_loans"),
        *("avg_amount_loans_previous", "age", "years_on_the_job", "flag_own_car"),
    ]
    assert [name for name, description in columns if not description] == []


def test_each_of_the_three_databases_contains_only_its_own_tables(database: Database) -> None:
    tables = {"platform": "credit_risk.client_features", "dagster": "event_logs", "mlflow": "registered_models"}
    for purpose in ("platform", "dagster", "mlflow"):
        for url in (database.url(purpose), make_url(database.psycopg2_url(purpose))):
            engine = create_engine(url)
            with engine.connect() as connection:
                found = {
                    owner
                    for owner, table in tables.items()
                    if connection.execute(text("select to_regclass(:table)"), {"table": table}).scalar()
                }
            engine.dispose()
            assert found == {purpose}
    assert database.url("dagster").drivername == "postgresql+psycopg"
    assert database.psycopg2_url("dagster").startswith("postgresql+psycopg2://")


def test_synchronous_commits_are_off_only_for_dagster_on_the_embedded_server(database: Database) -> None:
    settings = {}
    for purpose in ("platform", "dagster"):
        with database.connect(purpose) as connection:
            settings[purpose] = connection.execute("show synchronous_commit").fetchone()
    assert settings == {"platform": ("on",), "dagster": ("off" if database.embedded else "on",)}


def kill_server(home: Path) -> int:
    """Kill the embedded server with SIGKILL, as Linux does when memory runs out. Return the port of the server."""
    address = json.loads((home / "postgres" / "server.json").read_text())
    os.kill(address["server"], signal.SIGKILL)
    wait_until(lambda: not (home / "postgres" / "server.json").exists(), "the watcher noticed the crash")
    return int(address["port"])


def responds(database: Database) -> bool:
    """Return whether a pooled connection, a new connection and a connection of `reads` work."""
    try:
        with database.pooled() as pooled, database.connect("mlflow") as new:
            return {
                *pooled.execute("select 1").fetchall(),
                *new.execute("select 1").fetchall(),
                *database.reads.rows(b"select 1"),
            } == {(1,)}
    except DatabaseError:
        return False


@pytest.mark.requirement("SRV-3")
@pytest.mark.parametrize("is_taken", [False, True], ids=["the same port", "another port"])
def test_a_killed_embedded_server_is_restarted_and_reached_on_the_same_or_another_port(
    embedded_home: Path, is_taken: bool
) -> None:
    with contextlib.closing(open_database("", embedded_home)) as database, contextlib.ExitStack() as kept:
        assert responds(database)
        port = kill_server(embedded_home)
        if is_taken:
            kept.enter_context(socket.create_server(("127.0.0.1", port)))
        wait_until(lambda: responds(database), "the database responded again")
        assert (database.url("platform").port == port) is not is_taken


def test_connections_use_the_new_port_after_another_process_restarted_the_server(embedded_home: Path) -> None:
    with contextlib.closing(open_database("", embedded_home)) as database, contextlib.ExitStack() as kept:
        kept.enter_context(socket.create_server(("127.0.0.1", kill_server(embedded_home))))
        with contextlib.closing(open_database("", embedded_home)) as other:
            database.connect("platform").close()
            assert database.url("platform") == other.url("platform")


def test_connecting_to_a_killed_server_fails_without_waiting_for_its_restart(embedded_home: Path) -> None:
    with contextlib.closing(open_database("", embedded_home)) as database:
        kill_server(embedded_home)
        with pytest.raises(DatabaseError, match="cannot open the database"):
            database.connect("platform")
        wait_until(lambda: responds(database), "the database responded again")
