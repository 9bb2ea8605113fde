"""Connections to SQL targets, with a time-out for each wait."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform_assets.lake.sql_drivers import with_driver
from platform_assets.lake.sql_problems import explain, unreachable
from platform_assets.lake.sql_statements import LOCK_SECONDS
from platform_assets.lake.sql_target import SqlTarget, SqlTargetError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

CONNECT_SECONDS = 10
"""Longest wait for a connection."""
STATEMENT_SECONDS = 600
"""Longest time of a statement."""
_PORTS = {"mssql": 1433, "postgresql": 5432, "mysql": 3306}
# TCP keepalive: detect a server that vanished without closing the connection.
_KEEPALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 6, "tcp_user_timeout": 90_000}


@contextmanager
def connected(target: SqlTarget) -> Iterator[Connection]:
    """Connect to a target, and turn the driver's errors into messages with cause and fix.

    Parameters
    ----------
    target
        The target. Its database must exist.

    Raises
    ------
    SqlTargetError
        The driver is not installed, the server cannot be reached or refuses the login, or a statement fails.
    """
    from sqlalchemy.exc import DBAPIError

    target = with_driver(target)
    probe(target)
    engine = _engine(target)
    # Some statements go to the driver without SQLAlchemy, so the driver's own errors can occur as well.
    driver_errors = (DBAPIError, engine.dialect.loaded_dbapi.Error)
    try:
        with engine.connect() as connection:
            try:
                _set_limits(connection)
                yield connection
            except driver_errors:
                # Close the connection, because a broken one cannot be rolled back. The server then undoes the
                # transaction.
                connection.invalidate()
                raise
    except driver_errors as error:
        raise explain(getattr(error, "orig", None) or error, target) from None


def probe(target: SqlTarget) -> None:
    """Check that the server accepts connections, because some drivers wait for minutes if it does not.

    Parameters
    ----------
    target
        The SQL target.

    Raises
    ------
    SqlTargetError
        There is no such host, nothing listens on the port, or nothing answers.
    """
    if target.dialect == "sqlite":
        _require_file(target)
        return
    address = _address(target)
    if address is None:
        return
    try:
        with socket.create_connection(address, timeout=CONNECT_SECONDS) as connection:
            if target.dialect == "mysql":
                # Wait for the first message of the MariaDB server, because MariaDB's drivers have no time limit for it.
                connection.recv(1)
    except OSError as error:
        raise unreachable(error, target, address, CONNECT_SECONDS) from None


def _address(target: SqlTarget) -> tuple[str, int] | None:
    """Return host and port; None for a socket, a named instance or a data source, which only the driver can resolve."""
    url = target.url
    query = {name.lower(): value for name, value in url.query.items()}
    host = url.host or ""
    is_known_to_driver = query.keys() & {"dsn", "odbc_connect", "host"}
    if not host or host.startswith("/") or "\\" in host or "," in host or is_known_to_driver:
        return None
    if url.get_driver_name() == "pyodbc" and not url.database:
        # If a pyodbc URL has no database, SQLAlchemy takes the host to be the name of a data source.
        return None
    return host, url.port or int(str(query.get("port", _PORTS[target.dialect])))


def _require_file(target: SqlTarget) -> None:
    path = target.url.database or ""
    # SQLite would create a missing file.
    if not path.startswith("file:") and not Path(path).is_file():
        raise SqlTargetError(f"there is no SQLite file {path or '(no path given)'}; correct {target.named_by}")


def _engine(target: SqlTarget) -> Engine:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError
    from sqlalchemy.pool import NullPool

    driver = target.url.get_driver_name()
    options: dict[str, dict[str, Any]] = {
        "psycopg": {"connect_timeout": CONNECT_SECONDS, **_KEEPALIVE},
        "pymysql": {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": STATEMENT_SECONDS,
            "write_timeout": STATEMENT_SECONDS,
        },
        "pyodbc": {"timeout": CONNECT_SECONDS},
        "mssqlpython": {"timeout": CONNECT_SECONDS},
        "pysqlite": {"timeout": LOCK_SECONDS},
    }
    if driver == "pymysql" and target.url.password:
        # Pass the password as bytes, because PyMySQL encodes text as Latin 1. MariaDB and its other drivers use UTF-8.
        options[driver]["password"] = str(target.url.password).encode()
    try:
        return create_engine(target.url, poolclass=NullPool, connect_args=options[driver])
    except (ArgumentError, ImportError, ValueError) as error:
        raise explain(error, target) from None


def _set_limits(connection: Connection) -> None:
    """Set time limits, UTC and strict conversion for this session."""
    dialect = connection.dialect
    statements = {
        "postgresql": [
            f"SET statement_timeout = '{STATEMENT_SECONDS}s'",
            f"SET lock_timeout = '{LOCK_SECONDS}s'",
            "SET TimeZone = 'UTC'",
        ],
        "mysql": [
            # Without strict mode, MariaDB shortens values that do not fit.
            "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')",
            "SET SESSION time_zone = '+00:00'",
            f"SET SESSION innodb_lock_wait_timeout = {LOCK_SECONDS}",
        ],
        # With XACT_ABORT, any error, including a time-out, rolls back the whole transaction.
        "mssql": [f"SET LOCK_TIMEOUT {LOCK_SECONDS * 1000}", "SET XACT_ABORT ON"],
    }.get(dialect.name, [])
    if getattr(dialect, "is_mariadb", False):
        statements.append(f"SET SESSION max_statement_time = {STATEMENT_SECONDS}")
    for statement in statements:
        connection.exec_driver_sql(statement)
    if dialect.name == "mssql":
        driver: Any = connection.connection.driver_connection
        driver.timeout = STATEMENT_SECONDS
    connection.commit()
