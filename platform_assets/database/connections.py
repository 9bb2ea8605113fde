"""Connections to the platform's PostgreSQL: three databases on one server (platform, Dagster, MLflow).

`opening.py` opens a `Database`, which provides engines, connections and URLs. `embedded/` starts and stops the embedded
server. `migrate.py` creates the tables: those of the platform from `migrations/`, those of Dagster and MLflow by the
libraries' own migrations.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from contextlib import closing, contextmanager
from functools import cached_property
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from platform_assets.base.errors import DatabaseError, first_line
from platform_assets.database.blocking_reads import SILENCE_SECONDS, STATEMENT_SECONDS, ImpatientConnection, Reads
from platform_assets.database.session import with_session_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from sqlalchemy import URL, Engine

Purpose = Literal["platform", "dagster", "mlflow"]

LOG = logging.getLogger(__name__)
EMBEDDED_NAME = "platform"
AS_UTF8 = "encoding 'UTF8' locale 'C' template template0"
"""Options that create a database in UTF-8 on a server whose template has another encoding."""
CONNECT_SECONDS = 10
"""Longest wait for a new connection."""
LOCK_SECONDS = 600
"""Longest wait for a lock; a process normally holds one for a few seconds."""
RESTART_SECONDS = (0.5, 60.0)
"""Shortest and longest pause between two attempts to start the embedded server again."""


class ServerInUse(Protocol):
    """An embedded server that this process uses; implemented by `ServerUse`."""

    def known_port(self) -> int | None:
        """Return the port of the running server; None while it does not run."""
        ...

    def start_again(self) -> int:
        """Start the server if it has ended; return its port."""
        ...

    def close(self) -> None:
        """Stop using the server."""
        ...


class Database:
    """Three databases on one server: the platform's own, Dagster's and MLflow's.

    Parameters
    ----------
    url
        URL of the platform's database; the other two are named after it.
    server
        Embedded server, released by `close`. If it ends, it is started again in the background, and later connections
        use its new port.

    Attributes
    ----------
    server
        Embedded server; None if there is none, and after `close`.
    embedded
        Whether the server is an embedded one.
    reads
        Runs single read-only statements on the platform's database with low latency.

    """

    def __init__(self, url: URL, server: ServerInUse | None = None) -> None:
        self._url = with_session_settings(url.set(drivername="postgresql+psycopg"))
        self.server = server
        self.embedded = server is not None
        self.reads = Reads(self.connect_to_read)
        self._restarting = threading.Lock()
        self._restart: threading.Thread | None = None
        self._restart_at = 0.0
        self._restart_pause = RESTART_SECONDS[0]

    def name(self, purpose: Purpose) -> str:
        """Return the database's name on its server."""
        return f"{self._url.database}" if purpose == "platform" else f"{self._url.database}_{purpose}"

    @property
    def role(self) -> str:
        """Role to connect as; empty if the URL names none. The driver then chooses the role."""
        return self._url.username or ""

    def url(self, purpose: Purpose) -> URL:
        """Return the database's URL for SQLAlchemy with psycopg 3."""
        return self._url.set(database=self.name(purpose))

    def psycopg2_url(self, purpose: Purpose, service: str = "") -> str:
        """Return the database's URL, with its password, for Dagster and MLflow, which need psycopg2.

        Parameters
        ----------
        purpose
            The database to connect to.
        service
            Name of a service in libpq's service file. The URL then omits host and port, which the file contains.
        """
        url = self.url(purpose).set(drivername="postgresql+psycopg2")
        # Set a time-out, because another program may listen on the old port of an embedded server, and never answer.
        url = url.update_query_dict({"connect_timeout": str(CONNECT_SECONDS), **url.query})
        if service:
            url = url._replace(host=None, port=None).update_query_dict({"service": service})
        address, _, query = url.render_as_string(hide_password=False).partition("?")
        # Write spaces as %20, because libpq, unlike SQLAlchemy, does not read + in a query as a space.
        return f"{address}?{query.replace('+', '%20')}"

    @cached_property
    def engine(self) -> Engine:
        """Engine of the platform's database."""
        from sqlalchemy import create_engine, event

        engine = create_engine(
            self.url("platform"),
            pool_size=2,
            max_overflow=8,
            pool_pre_ping=True,
            connect_args={"connect_timeout": CONNECT_SECONDS},
        )
        event.listen(engine, "do_connect", self.set_port)
        return engine

    def set_port(self, *arguments: Any) -> None:
        """Replace the port that an engine connects to, because the server's port may have changed in the meantime.

        Parameters
        ----------
        *arguments
            Arguments of SQLAlchemy's event `do_connect`. The last one contains the driver's options.

        Raises
        ------
        DatabaseError
            The embedded server has stopped. It is being restarted in the background.
        """
        self._follow_server()
        if self.server:
            arguments[-1]["port"] = self._url.port

    @contextmanager
    def pooled(self) -> Iterator[psycopg.Connection[Any]]:
        """Borrow one of the engine's connections to the platform's database; roll back uncommitted work.

        Raises
        ------
        DatabaseError
            The database does not respond.

        """
        import psycopg
        from sqlalchemy.exc import OperationalError
        from sqlalchemy.exc import TimeoutError as AllInUseError

        try:
            borrowed = self.engine.connect()
        except (OperationalError, AllInUseError) as error:
            self._restart_server()
            raise DatabaseError(
                f"the database {self.name('platform')} does not answer ({first_line(error)}); "
                "run `platform-assets doctor` to see what is reachable"
            ) from None
        with borrowed:
            driver = borrowed.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)  # noqa: S101 - narrows the type
            yield driver

    def connect(self, purpose: Purpose, patience: float | None = None) -> psycopg.Connection[Any]:
        """Open a connection in autocommit mode, outside the pool.

        Parameters
        ----------
        purpose
            The database to connect to.
        patience
            Seconds without data from the server after which a statement fails; None for no limit.

        Raises
        ------
        DatabaseError
            The database does not respond.

        """
        return self._connect(self.name(purpose), patience)

    def maintenance(self) -> psycopg.Connection[Any]:
        """Open a connection for statements such as `create database`, even before the platform's database exists."""
        try:
            connection = self._connect("postgres")
        except DatabaseError:
            # Try the platform's database instead, because the role may lack access to the database `postgres`.
            connection = self._connect(self.name("platform"))
        # Do not search `public`: on PostgreSQL 14, every role may define operators in this schema.
        connection.execute("set search_path = pg_catalog, pg_temp")
        return connection

    @contextmanager
    def lock(self, name: str, seconds: float = LOCK_SECONDS) -> Iterator[None]:
        """Hold an advisory lock, which PostgreSQL releases if the process ends.

        The lock is not reentrant: a thread that takes it twice waits for itself.

        Parameters
        ----------
        name
            Name of the lock in this database.
        seconds
            Longest wait for the lock.

        Raises
        ------
        DatabaseError
            The database does not respond, or another process held the lock for too long.

        """
        from psycopg import errors

        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        with closing(self.connect("platform")) as connection:
            connection.execute(f"set lock_timeout = {round(seconds * 1000)}".encode())
            try:
                connection.execute("select pg_advisory_lock(%s)", [key])
            except errors.LockNotAvailable:
                raise DatabaseError(
                    f"another process has held the lock {name!r} for more than {seconds:g} s; wait until "
                    f"that process ends, or stop it; then try again"
                ) from None
            # PostgreSQL releases the lock when the connection is closed or lost.
            yield

    def close(self) -> None:
        """Close the engine's connections and release the embedded server."""
        if "engine" in vars(self):
            self.engine.dispose()
        self.reads.close()
        if self.server:
            self.server.close()
            # Forget the server, because a second `close` could release another lock that got the same file descriptor.
            self.server = None

    def connect_to_read(self) -> psycopg.Connection[Any]:
        """Open a connection for short read-only statements, with the time limits of `blocking_reads.py`.

        Raises
        ------
        DatabaseError
            The database does not respond.

        """
        connection = self.connect("platform", SILENCE_SECONDS)
        connection.execute(f"set statement_timeout = {STATEMENT_SECONDS * 1000:.0f}".encode())
        return connection

    def _connect(self, name: str, patience: float | None = None) -> psycopg.Connection[Any]:
        import psycopg

        self._follow_server()
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
                    f"the database {where} does not exist; run `platform-assets migrate` to create it"
                ) from None
            self._restart_server()
            fix = (
                "\nIf the embedded server has stopped, it is being restarted; try again in a moment. If an older "
                "version of the platform started it, stop the processes that use it and try again"
                if self.embedded
                else "\nStart that server, or correct PLATFORM_DATABASE_URL (if it is empty, the platform starts "
                "a server itself)"
            )
            raise DatabaseError(f"cannot open the database {where}: {error}{fix}") from None
        connection.patience = patience
        return connection

    def _follow_server(self) -> None:
        """Switch to the embedded server's current port, because another program may listen on the old one.

        Raises
        ------
        DatabaseError
            The server has stopped. It is being restarted in the background.
        """
        if self.server is None:
            return
        port = self.server.known_port()
        if port is None:
            self._restart_server()
            raise DatabaseError(
                "cannot open the database: the embedded server has stopped and is being restarted; "
                "try again in a moment"
            )
        if port != self._url.port:
            self._url = self._url.set(port=port)

    def _restart_server(self) -> None:
        """Start the embedded server in the background if it has ended, so that no request waits for the start."""
        server = self.server
        if server is None:
            return
        with self._restarting:
            is_busy = self._restart is not None and self._restart.is_alive()
            if not is_busy and monotonic() >= self._restart_at:
                self._restart = threading.Thread(
                    target=self._start_again, args=[server], name="embedded-database", daemon=True
                )
                self._restart.start()

    def _start_again(self, server: ServerInUse) -> None:
        shortest, longest = RESTART_SECONDS
        try:
            server.start_again()
        except DatabaseError as error:
            LOG.error("the embedded database cannot be restarted: %s", error)  # noqa: TRY400 - a message for people
            self._restart_pause = min(2 * self._restart_pause, longest)
        else:
            self._restart_pause = shortest
        self._restart_at = monotonic() + self._restart_pause


def embedded_database(port: int, role: str, password: str, server: ServerInUse | None = None) -> Database:
    """Return the databases of a running embedded server."""
    from sqlalchemy import URL

    # Set these options, because PGSSLMODE and PGGSSENCMODE in a user's shell are meant for another server.
    query = {"sslmode": "disable", "gssencmode": "disable"}
    return Database(URL.create("postgresql", role, password, "127.0.0.1", port, EMBEDDED_NAME, query), server)


def require_utf8(database: Database, connection: psycopg.Connection[Any]) -> None:
    """Refuse databases whose encoding is not UTF-8.

    Raises
    ------
    DatabaseError
        At least one of the three databases has another encoding. The message contains the statement that creates a
        database in UTF-8.
    """
    names = [database.name(purpose) for purpose in get_args(Purpose)]
    found = connection.execute(
        "select datname, pg_encoding_to_char(encoding) from pg_database where datname = any(%s)"
        " and pg_encoding_to_char(encoding) <> 'UTF8' order by datname",
        [names],
    ).fetchall()
    for name, encoding in found:
        raise DatabaseError(
            f"the database {name} has the encoding {encoding}, but the platform needs UTF8; rename this database and "
            f'run `platform-assets migrate`, or ask an administrator to run: create database "{name}" {AS_UTF8}'
        )


def missing(database: Database, connection: psycopg.Connection[Any]) -> list[Purpose]:
    """Return those of the three databases that do not exist."""
    there = {row[0] for row in connection.execute("select datname from pg_database")}
    return [purpose for purpose in get_args(Purpose) if database.name(purpose) not in there]
