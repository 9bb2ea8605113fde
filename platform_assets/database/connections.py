"""Connections to the platform's PostgreSQL: three databases on one server (platform, Dagster, MLflow).

`opening.py` creates the `Database`, which gives out engines, connections and URLs. `embedded/` starts and stops the
embedded server. `migrate.py` creates the tables: the platform's from `migrations/`, and those of Dagster and MLflow
with the libraries' own migrations.
"""

from __future__ import annotations

import hashlib
from contextlib import closing, contextmanager
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from platform_assets.base.errors import DatabaseError, first_line
from platform_assets.database.blocking_reads import SILENCE_SECONDS, STATEMENT_SECONDS, ImpatientConnection, Reads
from platform_assets.database.session import with_session_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from sqlalchemy import URL, Engine

Purpose = Literal["platform", "dagster", "mlflow"]

EMBEDDED_NAME = "platform"
CONNECT_SECONDS = 10
LOCK_SECONDS = 600
"""Longest wait for a lock. It is generous, because a lock is normally held for seconds only."""


class Closeable(Protocol):
    """Anything with `close`, such as the `ServerUse` of an embedded server."""

    def close(self) -> None:
        """Release the resource."""


class Database:
    """Three databases on one server: the platform's own, Dagster's and MLflow's.

    Parameters
    ----------
    url
        URL of the platform's database. The names of the other two are this name with `_dagster` and `_mlflow`.
    server
        Use of the embedded server, which `close` ends; None for an external server.

    Attributes
    ----------
    server
        Use of the embedded server; None for an external server, and after `close`.
    embedded
        Whether the server is the embedded one.
    reads
        Runs single read-only statements on the platform's database, with short time-outs.

    """

    def __init__(self, url: URL, server: Closeable | None = None) -> None:
        self._url = with_session_settings(url.set(drivername="postgresql+psycopg"))
        self.server = server
        self.embedded = server is not None
        self.reads = Reads(self.connect_to_read)

    def name(self, purpose: Purpose) -> str:
        """Return a database's name on the server."""
        return f"{self._url.database}" if purpose == "platform" else f"{self._url.database}_{purpose}"

    @property
    def role(self) -> str:
        """Role that connects; empty if the URL names none, so that libpq chooses it."""
        return self._url.username or ""

    def url(self, purpose: Purpose) -> URL:
        """Return a database's URL for SQLAlchemy with psycopg 3."""
        return self._url.set(database=self.name(purpose))

    def psycopg2_url(self, purpose: Purpose) -> str:
        """Return a database's URL with the password, for Dagster and MLflow, which need psycopg2."""
        url = self.url(purpose).set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
        address, _, query = url.partition("?")
        # Encode spaces as %20, because libpq does not decode + as a space.
        return f"{address}?{query.replace('+', '%20')}"

    @cached_property
    def engine(self) -> Engine:
        """SQLAlchemy engine for the platform's database, with a connection pool."""
        from sqlalchemy import create_engine

        return create_engine(self.url("platform"), pool_size=2, max_overflow=8, pool_pre_ping=True)

    @contextmanager
    def pooled(self) -> Iterator[psycopg.Connection[Any]]:
        """Borrow a pooled connection to the platform's database; uncommitted changes are rolled back at the end.

        Raises
        ------
        DatabaseError
            The database does not respond, or all connections of the pool are in use.

        """
        import psycopg
        from sqlalchemy.exc import OperationalError
        from sqlalchemy.exc import TimeoutError as AllInUseError

        try:
            borrowed = self.engine.connect()
        except (OperationalError, AllInUseError) as error:
            raise DatabaseError(
                f"the database {self.name('platform')} does not respond ({first_line(error)}); "
                "run `platform-assets doctor` to see what is reachable"
            ) from None
        with borrowed:
            driver = borrowed.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)  # noqa: S101 - narrows the type
            yield driver

    def connect(self, purpose: Purpose, patience: float | None = None) -> psycopg.Connection[Any]:
        """Open a new connection in autocommit mode, outside the pool.

        Parameters
        ----------
        purpose
            Which of the three databases.
        patience
            Longest wait for a response from the server, in seconds; None for no limit.

        Raises
        ------
        DatabaseError
            The database does not exist, or does not respond.

        """
        return self._connect(self.name(purpose), patience)

    def maintenance(self) -> psycopg.Connection[Any]:
        """Open a connection for statements such as `create database`; the platform's database need not exist."""
        try:
            return self._connect("postgres")
        except DatabaseError:
            # The role may lack access to the database `postgres`.
            return self._connect(self.name("platform"))

    @contextmanager
    def lock(self, name: str, seconds: float = LOCK_SECONDS) -> Iterator[None]:
        """Hold an exclusive lock (a PostgreSQL advisory lock); PostgreSQL releases it if this process dies.

        The lock is not reentrant: a thread that already holds it waits until the time-out.

        Parameters
        ----------
        name
            Name of the lock, which all processes on this database share.
        seconds
            Longest wait for the lock.

        Raises
        ------
        DatabaseError
            The database does not respond, or the lock was not free in time.

        """
        from psycopg import errors

        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        with closing(self.connect("platform")) as connection:
            connection.execute(f"set lock_timeout = {round(seconds * 1000)}".encode())
            try:
                connection.execute("select pg_advisory_lock(%s)", [key])
            except errors.LockNotAvailable:
                raise DatabaseError(
                    f"another process has held the lock {name!r} for more than {seconds:g} s; wait until that process "
                    "has finished, or stop it, and try again"
                ) from None
            # The end of the connection releases the lock, even if the connection is lost.
            yield

    def close(self) -> None:
        """Close all pooled connections, and end this process's use of the embedded server."""
        if "engine" in vars(self):
            self.engine.dispose()
        self.reads.close()
        if self.server:
            self.server.close()
            # Forget the use, because a second `close` could release another lock with the same file descriptor.
            self.server = None

    def connect_to_read(self) -> psycopg.Connection[Any]:
        """Open a connection with the short time-outs of `blocking_reads.py`, for read-only statements.

        Raises
        ------
        DatabaseError
            The database does not exist, or does not respond.

        """
        connection = self.connect("platform", SILENCE_SECONDS)
        connection.execute(f"set statement_timeout = {STATEMENT_SECONDS * 1000:.0f}".encode())
        return connection

    def _connect(self, name: str, patience: float | None = None) -> psycopg.Connection[Any]:
        import psycopg

        arguments = self._url.set(database=name).translate_connect_args(database="dbname", username="user")
        options: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, **arguments, **self._url.query}
        if patience is not None:
            options["connect_timeout"] = ceil(patience)
        try:
            connection = ImpatientConnection.connect(autocommit=True, **options)
        except psycopg.OperationalError as error:
            where = f"{name} on {self._url.host or 'the local server'}"
            if f'database "{name}" does not exist' in str(error):
                raise DatabaseError(
                    f"there is no database {where}; run `platform-assets migrate` to create it"
                ) from None
            mend = (
                "\nThe server may have been started by an older version of the platform; stop all processes that use it"
                if self.embedded
                else "\nStart the server, or correct PLATFORM_DATABASE_URL; leave it empty to use an embedded server"
            )
            raise DatabaseError(f"cannot open the database {where}: {error}{mend}") from None
        connection.patience = patience
        return connection


def embedded_database(port: int, role: str, password: str, server: Closeable | None = None) -> Database:
    """Return the databases of a running embedded server."""
    from sqlalchemy import URL

    # Set both explicitly, because PGSSLMODE and PGGSSENCMODE in the shell are meant for other servers.
    query = {"sslmode": "disable", "gssencmode": "disable"}
    return Database(URL.create("postgresql", role, password, "127.0.0.1", port, EMBEDDED_NAME, query), server)


def missing(database: Database, connection: psycopg.Connection[Any]) -> list[Purpose]:
    """Return which of the three databases do not exist."""
    there = {row[0] for row in connection.execute("select datname from pg_database")}
    return [purpose for purpose in get_args(Purpose) if database.name(purpose) not in there]
