"""Connections to the platform's PostgreSQL: three databases on one server (platform, Dagster, MLflow).

Whoever stores something asks a `Database` for an engine or a URL, and gets the `Database` from `opening.py`.
How the embedded server starts and stops is up to `embedded/`; our tables are made in `migrations/`, those of
Dagster and MLflow by the libraries, both through `migrate.py`.
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
"""Longest wait for a lock of the platform; whoever holds one is done in seconds."""


class Closeable(Protocol):
    """What a database closes when it is closed; for the embedded server a `ServerUse`."""

    def close(self) -> None:
        """Close it."""


class Database:
    """Three databases on one server: the platform's own, Dagster's and MLflow's.

    Parameters
    ----------
    url
        Of the platform's database; the other two are named after it.
    server
        The use of an embedded server, given back by `close`.

    Attributes
    ----------
    server
        The use of the embedded server; None without one, and once it is given back.
    embedded
        Whether the server is the platform's own.
    reads
        Single statements that read from the platform's database, as fast as they can be, or not at all.

    """

    def __init__(self, url: URL, server: Closeable | None = None) -> None:
        self._url = with_session_settings(url.set(drivername="postgresql+psycopg"))
        self.server = server
        self.embedded = server is not None
        self.reads = Reads(self.connect_to_read)

    def name(self, purpose: Purpose) -> str:
        """The database's name on its server."""
        return f"{self._url.database}" if purpose == "platform" else f"{self._url.database}_{purpose}"

    @property
    def role(self) -> str:
        """Who connects; empty where the URL names nobody, so that the driver decides."""
        return self._url.username or ""

    def url(self, purpose: Purpose) -> URL:
        """Where the database is, for SQLAlchemy with psycopg 3."""
        return self._url.set(database=self.name(purpose))

    def psycopg2_url(self, purpose: Purpose) -> str:
        """Where the database is, with its password, for Dagster and MLflow, which need psycopg2."""
        url = self.url(purpose).set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
        address, _, query = url.partition("?")
        # libpq, unlike SQLAlchemy, does not read + in a query as a space.
        return f"{address}?{query.replace('+', '%20')}"

    @cached_property
    def engine(self) -> Engine:
        """The platform's database."""
        from sqlalchemy import create_engine

        return create_engine(self.url("platform"), pool_size=2, max_overflow=8, pool_pre_ping=True)

    @contextmanager
    def pooled(self) -> Iterator[psycopg.Connection[Any]]:
        """One of the engine's connections to the platform's database; what is not committed is rolled back.

        Raises
        ------
        DatabaseError
            The database does not answer.

        """
        import psycopg
        from sqlalchemy.exc import OperationalError
        from sqlalchemy.exc import TimeoutError as AllInUseError

        try:
            borrowed = self.engine.connect()
        except (OperationalError, AllInUseError) as error:
            raise DatabaseError(
                f"the database {self.name('platform')} does not answer ({first_line(error)}); "
                "`platform-assets doctor` says what is reachable"
            ) from None
        with borrowed:
            driver = borrowed.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)  # noqa: S101 - narrows the type
            yield driver

    def connect(self, purpose: Purpose, patience: float | None = None) -> psycopg.Connection[Any]:
        """A plain connection of its own, in autocommit.

        Parameters
        ----------
        purpose
            Of the database.
        patience
            Seconds without a word from the server after which a statement fails; None for ever.

        Raises
        ------
        DatabaseError
            The database does not answer.

        """
        return self._connect(self.name(purpose), patience)

    def maintenance(self) -> psycopg.Connection[Any]:
        """A connection for statements about whole databases, which works before ours is there."""
        try:
            return self._connect("postgres")
        except DatabaseError:
            # A role may be kept out of the server's own database.
            return self._connect(self.name("platform"))

    @contextmanager
    def lock(self, name: str, seconds: float = LOCK_SECONDS) -> Iterator[None]:
        """Hold a lock that one process has at a time, and loses when it ends, however it ends.

        Not for a thread that holds it already: it would wait for itself.

        Parameters
        ----------
        name
            The same lock for all who work with this database.
        seconds
            Longest wait for whoever holds it.

        Raises
        ------
        DatabaseError
            The database does not answer, or somebody held the lock for too long.

        """
        from psycopg import errors

        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        with closing(self.connect("platform")) as connection:
            connection.execute(f"set lock_timeout = {round(seconds * 1000)}".encode())
            try:
                connection.execute("select pg_advisory_lock(%s)", [key])
            except errors.LockNotAvailable:
                raise DatabaseError(
                    f"another process has been at {name!r} for more than {seconds:g} s; wait until it is done, or end "
                    f"it, and run this again"
                ) from None
            # Closing the connection gives it back, also when the connection is lost.
            yield

    def close(self) -> None:
        """Close the engine's connections and let go of the embedded server."""
        if "engine" in vars(self):
            self.engine.dispose()
        self.reads.close()
        if self.server:
            self.server.close()
            # Another lock may get the same number; a second `close` must not let go of that one.
            self.server = None

    def connect_to_read(self) -> psycopg.Connection[Any]:
        """A connection of its own for statements that only read and that somebody waits for; see `blocking_reads.py`.

        Raises
        ------
        DatabaseError
            The database does not answer.

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
                    f"there is no database {where}; run `platform-assets migrate`, which makes it"
                ) from None
            mend = (
                "\nA server that an older version of the platform started lacks what this one needs: end what uses it"
                if self.embedded
                else "\nStart that server, or mend PLATFORM_DATABASE_URL; empty, it stands for an embedded one"
            )
            raise DatabaseError(f"cannot open the database {where}: {error}{mend}") from None
        connection.patience = patience
        return connection


def embedded_database(port: int, role: str, password: str, server: Closeable | None = None) -> Database:
    """The databases of an embedded server that is known to run."""
    from sqlalchemy import URL

    # Said here, because PGSSLMODE and PGGSSENCMODE of a person's shell are meant for another server.
    query = {"sslmode": "disable", "gssencmode": "disable"}
    return Database(URL.create("postgresql", role, password, "127.0.0.1", port, EMBEDDED_NAME, query), server)


def missing(database: Database, connection: psycopg.Connection[Any]) -> list[Purpose]:
    """Which of the three databases are not there."""
    there = {row[0] for row in connection.execute("select datname from pg_database")}
    return [purpose for purpose in get_args(Purpose) if database.name(purpose) not in there]
