"""Locks that allow only one `platform-assets up` per home and per database.

Two Dagster daemons on one database would run everything twice, even if they have different homes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from platform_assets.base.errors import DatabaseError, PlatformError, first_line
from platform_assets.base.home_folder import make_home
from platform_assets.database.embedded.shared_use import release, try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import psycopg

    from platform_assets.database.connections import Database
    from platform_assets.operations.supervisor import Server

LOCK = "up.lock"
"""Name of the lock file in the home. The file contains the process id and the server addresses of the lock's holder."""


PATIENCE_SECONDS = 5.0
"""Longest wait for the database."""
_KEY = int.from_bytes(hashlib.sha256(b"platform-assets up").digest()[:8], "big", signed=True)
_LONGEST_NAME = 63
"""Maximum length of a connection's name in PostgreSQL."""
_HOLDER = b"""
select a.application_name from pg_locks l join pg_stat_activity a using (pid)
where l.locktype = 'advisory' and l.granted and l.objsubid = 1
and l.database = (select oid from pg_database where datname = current_database())
and (l.classid::bigint << 32) | l.objid::bigint = %s
"""


class DatabaseClaim:
    """Advisory lock in the platform's database, which PostgreSQL releases when the connection or this process ends.

    Parameters
    ----------
    database
        The platform's databases.
    home
        PLATFORM_HOME, which is shown if another process tries to take the lock.
    """

    def __init__(self, database: Database, home: Path) -> None:
        self._database = database
        holder, place = f"process {os.getpid()} on {socket.gethostname()[:20]}, home ", str(home)
        left = _LONGEST_NAME - len(holder)
        self._name = holder + (place if len(place) <= left else f"..{place[2 - left :]}")
        self._connection: psycopg.Connection[Any] | None = None

    def __enter__(self) -> Self:
        self.keep()
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection:
            self._connection.close()

    def keep(self) -> None:
        """Take the lock; take it again if the connection was lost.

        Raises
        ------
        PlatformError
            Another process has the lock.
        DatabaseError
            The database does not respond.
        """
        import psycopg

        if self._connection and _answers(self._connection):
            return
        self._connection = None
        connection = self._database.connect("platform", PATIENCE_SECONDS)
        try:
            is_taken, holder = _try_lock(connection, self._name)
        except psycopg.OperationalError as error:
            connection.close()
            raise DatabaseError(f"the database ended a connection: {first_line(error)}") from None
        if is_taken:
            self._connection = connection
            return
        connection.close()
        raise PlatformError(
            f"`platform-assets up` is already running on the database {self._database.name('platform')}, as "
            f"{holder}; stop it first, or use another database for this home"
        )


def _try_lock(connection: psycopg.Connection[Any], name: str) -> tuple[bool, str]:
    """Try to take the lock.

    Returns
    -------
    A pair: whether the lock was taken, and, if it was not, the name of the connection that holds it (else empty).
    """
    connection.execute("select set_config('application_name', %s, false)", [name])
    if connection.execute("select pg_try_advisory_lock(%s)", [_KEY]).fetchone() == (True,):
        return True, ""
    holder = connection.execute(_HOLDER, [_KEY]).fetchone()
    return False, holder[0] if holder else "another process"


def _answers(connection: psycopg.Connection[Any]) -> bool:
    import psycopg

    try:
        connection.execute("select 1")
    except psycopg.Error:
        connection.close()
        return False
    return True


@contextmanager
def only_one_up(home: Path, servers: Sequence[Server]) -> Iterator[None]:
    """Hold the lock of a home while its servers run. The lock is released even if this process is killed.

    Parameters
    ----------
    home
        PLATFORM_HOME.
    servers
        The servers to start. Their addresses are written to the lock file.

    Raises
    ------
    PlatformError
        Another process holds the lock. The message contains its id and server addresses.
    """
    path = make_home(home) / LOCK
    lock = try_lock(path, fcntl.LOCK_EX)
    if lock is None:
        holder = path.read_text(encoding="utf-8") or "another process"
        raise PlatformError(
            f"`platform-assets up` is already running on {home}, as {holder}; use its servers, or stop it first"
        )
    try:
        addresses = ", ".join(f"{server.name} {server.address}" for server in servers if server.port)
        path.write_text(f"process {os.getpid()}: {addresses}", encoding="utf-8")
        yield
    finally:
        release(lock)
