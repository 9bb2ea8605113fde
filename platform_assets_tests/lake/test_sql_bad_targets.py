"""A load into a bad SQL target fails. The message names the cause and the fix, and never contains the password."""

from __future__ import annotations

import re
import socket
import socketserver
import sqlite3
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
import sqlalchemy as sa

from platform_assets.lake import sql_connection
from platform_assets.lake.sql_drivers import packaged_library
from platform_assets.lake.sql_loader import SqlLoader
from platform_assets.lake.sql_problems import PROBLEMS, explain, problem_of
from platform_assets.lake.sql_target import SqlTarget, SqlTargetError, parse_target
from platform_assets_tests.ports import reserve_port
from platform_assets_tests.sql_targets import KEY, TABLE, Place, demand, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.requirement("ESI-3", "PLT-8")
PASSWORD = "hunter2-is-secret"


def load(target: SqlTarget, rows: pa.Table | None = None) -> str:
    """Load into a bad target, check that the error contains no password, and return its message."""
    with pytest.raises(SqlTargetError) as raised:
        SqlLoader(target, TABLE, KEY).load((rows or demand(2)).to_reader())
    assert PASSWORD not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    return str(raised.value)


def on(port: int, dialect: str = "postgresql", host: str = "127.0.0.1") -> SqlTarget:
    return parse_target(f"{dialect}://me:{PASSWORD}@{host}:{port}/energy")


@contextmanager
def silent_server() -> Iterator[int]:
    """A server that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def postgres(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    yield from opened("postgresql", request, tmp_path)


@pytest.fixture
def maria(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    yield from opened("mariadb", request, tmp_path)


@pytest.mark.parametrize("dialect", ["mssql", "postgresql", "mariadb"])
def test_a_port_on_which_no_server_listens_is_reported(dialect: str) -> None:
    port, start = reserve_port(), time.monotonic()
    told = load(on(port, dialect))
    assert f"nothing listens on port {port} of 127.0.0.1. Start the server, or correct the port in PLATFORM_SQL" in told
    # The loader tests the port first, because Microsoft's driver would wait for its full time-out.
    assert time.monotonic() - start < sql_connection.CONNECT_SECONDS / 2


def test_an_unknown_host_is_reported() -> None:
    told = load(on(5432, host="no-such-host.invalid"))
    assert "the host 'no-such-host.invalid' cannot be found. Check the server's name in PLATFORM_SQL_TARGET_URL" in told


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb", "mssql+pyodbc", "mssql+mssqlpython"])
def test_a_server_that_does_not_respond_is_reported(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if dialect.startswith("mssql"):
        pytest.importorskip("mssql_python", reason="needs mssql-python: pip install mssql-python")
    monkeypatch.setattr(sql_connection, "CONNECT_SECONDS", 1)
    with silent_server() as port:
        assert "did not answer" in load(on(port, dialect))


class MailServer(socketserver.BaseRequestHandler):
    """Greets a client as a mail server does, and refuses whatever the client sends."""

    def handle(self) -> None:
        self.request.sendall(b"220 mail.example ready\r\n")
        while self.request.recv(4096):
            self.request.sendall(b"500 Syntax error, command unrecognised\r\n")


# The driver mssql-python reports a time-out here if an earlier connection of the process timed out.
@pytest.mark.parametrize("dialect", ["postgresql", "mariadb", "mssql+pyodbc"])
def test_a_server_of_another_kind_is_reported(dialect: str) -> None:
    if dialect.startswith("mssql"):
        pytest.importorskip("mssql_python", reason="needs mssql-python: pip install mssql-python")
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), MailServer) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            told = load(on(server.server_address[1], dialect))
        finally:
            server.shutdown()
    assert "a server of another kind answers at the address of the " in told
    assert told.endswith("Correct the host and the port in PLATFORM_SQL_TARGET_URL.")


def test_a_wrong_password_is_reported(postgres: Place, maria: Place) -> None:
    for place in (postgres, maria):
        told = load(SqlTarget(place.target.url.set(password=PASSWORD)))
        assert f"refused the login of the user {place.target.url.username!r}" in told
        assert "Check the user and the password in PLATFORM_SQL_TARGET_URL" in told


def test_a_missing_database_is_reported(postgres: Place, maria: Place) -> None:
    for place in (postgres, maria):
        told = load(SqlTarget(place.target.url.set(database="nowhere")))
        assert "has no such database, or the user" in told


def test_a_missing_file_is_reported_and_not_created(tmp_path: Path) -> None:
    file = tmp_path / "missing.db"
    assert f"there is no SQLite file {file}" in load(parse_target(f"sqlite:///{file}"))
    assert not file.exists()


def test_a_file_that_is_not_a_database_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "text.db"
    file.write_text("This is a text file, not a database." * 100)
    assert "is not a SQLite database" in load(parse_target(f"sqlite:///{file}"))


def test_a_missing_table_is_reported(postgres: Place) -> None:
    assert f"has no table {TABLE} that the user may see" in load(postgres.target)


@pytest.mark.parametrize("granted", ["SELECT, UPDATE", "SELECT, INSERT", "INSERT, UPDATE"])
def test_a_missing_permission_is_reported(postgres: Place, granted: str) -> None:
    postgres.create()
    user = f"weak_{time.monotonic_ns()}"
    postgres.run(f"CREATE USER {user} PASSWORD '{PASSWORD}'", f"GRANT {granted} ON {TABLE} TO {user}")
    try:
        told = load(SqlTarget(postgres.target.url.set(username=user, password=PASSWORD)))
    finally:
        postgres.run(f"DROP OWNED BY {user}", f"DROP USER {user}")
    assert f"the user {user!r} lacks a permission" in told
    assert "Grant SELECT, INSERT and UPDATE on the table" in told


def test_a_missing_permission_on_mariadb_is_reported(maria: Place) -> None:
    maria.create()
    user = "weak@'127.0.0.1'"
    maria.run(f"CREATE USER {user} IDENTIFIED BY '{PASSWORD}'", f"GRANT SELECT ON {TABLE} TO {user}")
    try:
        told = load(SqlTarget(maria.target.url.set(username="weak", password=PASSWORD)))
    finally:
        maria.run(f"DROP USER {user}")
    assert "lacks a permission" in told or "may not open it" in told


def test_a_locked_table_is_reported(postgres: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres.create()
    monkeypatch.setattr(sql_connection, "LOCK_SECONDS", 0.05)
    with postgres.engine.begin() as other:
        other.exec_driver_sql(f"LOCK TABLE {TABLE} IN ROW EXCLUSIVE MODE")
        assert "another process holds a lock on the table" in load(postgres.target)


def test_a_table_without_transactions_is_refused(maria: Place) -> None:
    maria.create(mysql_engine="MyISAM")
    assert "its engine MyISAM cannot roll back a failed load; use InnoDB" in load(maria.target)


def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "small.db"
    with sqlite3.connect(file) as connection:
        connection.execute(
            f"CREATE TABLE {TABLE} (name TEXT, id INT, datetime TEXT, demand_forecast REAL, "
            "update_timestamp TEXT, PRIMARY KEY (id, datetime))"
        )
    full = parse_target(f"sqlite:///{file}")

    @sa.event.listens_for(sa.Engine, "connect")
    def _limit(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA max_page_count = 3")

    try:
        assert "has no space left" in load(full, demand(1_000))
    finally:
        sa.event.remove(sa.Engine, "connect", _limit)


def test_a_read_only_file_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "target.db"
    sqlite3.connect(file).execute(
        f"CREATE TABLE {TABLE} (name TEXT, id INT, datetime TEXT, demand_forecast REAL, "
        "update_timestamp TEXT, PRIMARY KEY (id, datetime))"
    )
    told = load(parse_target(f"sqlite:///file:{file}?mode=ro&uri=true"))
    assert "Load into the primary server, or make the database writable" in told


def test_a_broken_connection_is_reported_and_no_row_changes(postgres: Place) -> None:
    table = postgres.create()
    postgres.loader().load(demand(2).to_reader())
    before = postgres.rows(table)
    rows = demand(4, mw=1.0)

    def breaking() -> Iterator[pa.RecordBatch]:
        yield from rows.slice(0, 2).to_batches()
        with postgres.engine.connect() as admin:
            admin.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        yield from rows.slice(2).to_batches()

    with pytest.raises(SqlTargetError, match="cannot be reached, or it closed the connection"):
        postgres.loader().load(pa.RecordBatchReader.from_batches(rows.schema, breaking()))
    assert postgres.rows(table) == before


@pytest.mark.parametrize(
    ("module", "dialect", "product", "extra"),
    [
        ("pyodbc", "mssql+pyodbc", "SQL Server", "sqlserver"),
        ("mssql_python", "mssql+mssqlpython", "SQL Server", "sqlserver"),
        ("pymysql", "mariadb", "MariaDB", "mariadb"),
    ],
)
def test_a_driver_that_is_not_installed_is_reported(
    monkeypatch: pytest.MonkeyPatch, module: str, dialect: str, product: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    told = f"the driver {module} for {product} is not installed; run `pip install 'platform-assets[{extra}]'`"
    assert load(on(1, dialect)) == told


def test_an_odbc_driver_that_is_not_installed_is_reported() -> None:
    pytest.importorskip("pyodbc", reason="needs pyodbc: pip install pyodbc")
    with silent_server() as port:
        target = parse_target(
            f"mssql+pyodbc://me:{PASSWORD}@127.0.0.1:{port}/energy?driver=ODBC+Driver+13+for+SQL+Server"
        )
        told = load(target)
    assert "the ODBC driver for the SQL Server database energy" in told
    assert "Install the driver, or correct driver= in PLATFORM_SQL_TARGET_URL; `odbcinst -q -d` lists" in told


CODE = re.compile(r" \(-?\d+\).*", re.DOTALL)
MICROSOFT = "[Microsoft][ODBC Driver 18 for SQL Server][SQL Server]"
SQL_SERVER_ERRORS = [
    ("login", "28000", "Login failed for user 'me'. (18456) (SQLDriverConnect)"),
    (
        "database",
        "42000",
        (
            'Cannot open database "energy" requested by the login. The login failed. (4060); [28000] '
            f"{MICROSOFT}Login failed for user 'me'. (18456)"
        ),
    ),
    (
        "certificate",
        "08001",
        (
            "SSL Provider: [error:0A000086:SSL routines::certificate verify failed:self-signed certificate] (-1) "
            "(SQLDriverConnect)"
        ),
    ),
    (
        "driver",
        "01000",
        "[unixODBC][Driver Manager]Can't open lib 'ODBC Driver 18 for SQL Server' : file not found (0)",
    ),
    ("time-out", "HYT00", "Login timeout expired (0) (SQLDriverConnect)"),
    ("time-out", "HYT00", "Query timeout expired (0) (SQLExecDirectW)"),
    ("unreachable", "08S01", "Communication link failure (0) (SQLExecDirectW)"),
    ("protocol", "HY000", "Protocol error in TDS stream (0) (SQLDriverConnect)"),
    ("unreachable", "08001", "TCP Provider: Error code 0x2749 (10057) (SQLDriverConnect)"),
    ("table", "42S02", "Invalid object name 'demand_forecast_esios'. (208) (SQLExecDirectW)"),
    (
        "permission",
        "42000",
        "The INSERT permission was denied on the object 'demand', database 'energy', schema 'dbo'. (229)",
    ),
    ("log full", "42000", "The transaction log for database 'energy' is full due to 'LOG_BACKUP'. (9002)"),
    (
        "disk full",
        "42000",
        "Could not allocate space for object 't' in database 'energy' because the filegroup is full. (1105)",
    ),
    ("read-only", "42000", 'Failed to update database "energy" because the database is read-only. (3906)'),
    ("lock", "42000", "Lock request time out period exceeded. (1222) (SQLExecDirectW)"),
    (
        "deadlock",
        "40001",
        (
            "Transaction (Process ID 52) was deadlocked on lock resources with another process and has been chosen as "
            "the deadlock victim. Rerun the transaction. (1205)"
        ),
    ),
    ("value", "22001", "String or binary data would be truncated in table 'energy.dbo.t', column 'name'. (2628)"),
    ("constraint", "23000", "Violation of PRIMARY KEY constraint 'pk'. Cannot insert duplicate key in object. (2627)"),
]


@pytest.mark.parametrize(("kind", "state", "said"), SQL_SERVER_ERRORS)
def test_each_error_of_sql_server_is_reported_with_its_cause(kind: str, state: str, said: str) -> None:
    target = on(1433, "mssql")
    through_pyodbc = Exception(state, f"[{state}] {MICROSOFT}{said} {PASSWORD}")
    through_mssql_python = Exception(f"Driver Error: some error; DDBC Error: {MICROSOFT}{CODE.sub('', said)}")
    assert problem_of(through_pyodbc, "mssql") is PROBLEMS[kind]
    if "Error code" not in said:
        # The driver mssql-python does not report error codes.
        assert problem_of(through_mssql_python, "mssql") is PROBLEMS[kind]
    told = str(explain(through_pyodbc, target))
    assert PASSWORD not in told
    assert told.startswith(PROBLEMS[kind].cause.format(place=target.place, user="'me'", settings=target.named_by))
    assert (
        said.split("[28000]", maxsplit=1)[0].split(" (", maxsplit=1)[0].removeprefix("[unixODBC][Driver Manager]")
        in told
    )
    assert told.endswith(".")


def test_each_problem_has_its_own_message() -> None:
    assert len({problem.cause for problem in PROBLEMS.values()}) == len(PROBLEMS)
    assert len({problem.fix for problem in PROBLEMS.values()}) >= len(PROBLEMS) - 1


def test_the_odbc_driver_in_the_python_package_can_be_loaded() -> None:
    """Microsoft's ODBC driver loads, and reports a closed port.

    It is not tested further, because no SQL Server is available.
    """
    pyodbc = pytest.importorskip("pyodbc", reason="needs pyodbc: pip install pyodbc")
    library = packaged_library()
    if library is None:
        pytest.skip("needs mssql-python: pip install mssql-python")
    with pytest.raises(pyodbc.Error) as raised:
        pyodbc.connect(f"DRIVER={{{library}}};SERVER=127.0.0.1,{reserve_port()};UID=me;PWD={PASSWORD}", timeout=1)
    assert "[Microsoft][ODBC Driver 18 for SQL Server]" in str(raised.value)
    assert problem_of(raised.value, "mssql") in (PROBLEMS["time-out"], PROBLEMS["unreachable"])


def test_mssql_python_reports_a_closed_port() -> None:
    mssql_python = pytest.importorskip("mssql_python", reason="needs mssql-python: pip install mssql-python")
    with pytest.raises(mssql_python.OperationalError) as raised:
        mssql_python.connect(f"Server=127.0.0.1,{reserve_port()};UID=me;PWD={PASSWORD}", timeout=1)
    assert problem_of(raised.value, "mssql") is PROBLEMS["unreachable"]
