"""The binding of a database to a lake.

A process whose lake belongs to another database fails before it writes to the lake or the database.
The lake has a file with its identity, and the database contains the identity of its lake. The first process that opens
a new database and a new lake binds them.
"""

from __future__ import annotations

import socket
import uuid
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import ArtefactError, DatabaseError, OtherLake
from platform_assets.base.logs import shown
from platform_assets.base.printable_text import escaped
from platform_assets.database.connections import missing
from platform_assets.models.artefact_store import FOLDER, ArtefactStore

if TYPE_CHECKING:
    import psycopg

    from platform_assets.database.connections import Database

    Connection = psycopg.Connection[Any]

IDENTITY_FILE = "lake_id.txt"
"""Name of the file in the folder `models/` of the lake."""
_LOCK = "lake identity"
# Use short timeouts, because commands that do not use the lake must start even if it is unreachable.
_PATIENCE = {"retry_timeout": "3s", "connect_timeout": "3s"}


@dataclass(frozen=True)
class BoundLake:
    """The lake that a database belongs to, as recorded in the database.

    Attributes
    ----------
    identity
        Content of the lake's identity file.
    place
        Last known location of the lake.
    is_marked
        Whether the identity was written into the lake. False if the process ended before it wrote the identity, or had
        no write access.
    """

    identity: str
    place: str
    is_marked: bool


def demand_own_lake(database: Database, lake: str) -> None:
    """Refuse a lake that does not belong to a database. Bind a lake and a database that are both unbound.

    A lake that cannot be read is not refused here, because the code that uses the lake reports the error.

    Parameters
    ----------
    database
        The platform's databases, migrated to this code's revisions.
    lake
        Location of the lake.

    Raises
    ------
    OtherLake
        The lake belongs to another database, or the database to another lake.
    DatabaseError
        The database does not respond.
    """
    try:
        found = lake_identity(lake)
        with closing(database.connect("platform")) as connection:
            bound = bound_lake(connection)
        if bound == BoundLake(found, place_of(lake), is_marked=True) or (bound is None and _is_memory(lake)):
            return
        with database.lock(_LOCK), closing(database.connect("platform")) as connection:
            _compare_or_bind(connection, database, lake)
    except ArtefactError:
        return


def refuse_other_lake(database: Database, lake: str) -> None:
    """Refuse a lake whose identity belongs to another database, without binding anything.

    `migrate` calls this function, possibly on a machine without the lake, and before the database has the table for the
    identity.

    Raises
    ------
    OtherLake
        The lake belongs to another database.
    DatabaseError
        The database does not respond.
    """
    try:
        found = lake_identity(lake)
    except ArtefactError:
        return
    with closing(database.maintenance()) as connection:
        if "platform" in missing(database, connection):
            return
    with closing(database.connect("platform")) as connection:
        bound = bound_lake(connection)
    if found and bound and bound.identity != found:
        raise _other_lake(database, bound, lake, found)


def bind_lake(database: Database, lake: str, place: str = "") -> str:
    """Bind a lake and a database with a new identity, even if they are already bound. Return the identity.

    The former lake of this database, and the former database of this lake, are then refused.

    Parameters
    ----------
    database
        The platform's databases, migrated to this code's revisions.
    lake
        Location of the lake.
    place
        Location to record instead of `lake`, if the lake will be moved there.

    Raises
    ------
    ArtefactError
        The lake cannot be written.
    DatabaseError
        The lake is in memory, or the database does not respond.
    """
    if _is_memory(lake):
        raise DatabaseError("a lake in memory is lost when its process ends, so no database can belong to it")
    identity = uuid.uuid4().hex
    with database.lock(_LOCK), closing(database.connect("platform")) as connection:
        # Write the file first. If the process ends before it updates the database, lake and database do not match, and
        # are refused until the command is repeated.
        _mark(lake, identity)
        _remember(connection, BoundLake(identity, place_of(place or lake), is_marked=True))
    return identity


def bound_lake(connection: Connection) -> BoundLake | None:
    """Return the lake that a database belongs to; None if it belongs to none."""
    if connection.execute("select to_regclass('platform.lake')").fetchone() == (None,):
        return None
    row = connection.execute("select identity, place, is_marked from platform.lake").fetchone()
    return BoundLake(*row) if row else None


def lake_identity(lake: str) -> str:
    """Return the identity of a lake; empty if it has none.

    Raises
    ------
    ArtefactError
        The lake cannot be read.
    """
    if _is_memory(lake):
        return ""
    content = ArtefactStore(lake, _PATIENCE if "://" in lake else None).read_note(IDENTITY_FILE)
    return (content or b"").decode(errors="replace").strip()


def place_of(lake: str) -> str:
    """Return the location of a lake for display, without secrets; for a folder, with the name of the machine."""
    path = lake.removeprefix("file://")
    return shown(path) if "://" in path else f"{Path(path).absolute()} on {socket.gethostname()}"


def _compare_or_bind(connection: Connection, database: Database, lake: str) -> None:
    """Check that the lake and the database belong together, or bind them if both are new.

    The caller must hold the lock. Otherwise, two processes with different new lakes could bind both to the database.
    """
    # Read both identities again, because another process may have bound them while this process waited.
    found, bound = lake_identity(lake), bound_lake(connection)
    place = place_of(lake)
    if bound is None and not found:
        bound = BoundLake(uuid.uuid4().hex, place, is_marked=False)
        _remember(connection, bound)
    if bound is not None and not bound.is_marked and not found and not _is_memory(lake):
        # A process without write access to the lake leaves it unmarked. The next process with write access marks it.
        _mark(lake, bound.identity)
        found = bound.identity
    if bound is None or bound.identity != found:
        raise _other_lake(database, bound, lake, found)
    if bound != (seen := BoundLake(found, place, is_marked=True)):
        _remember(connection, seen)


def _mark(lake: str, identity: str) -> None:
    ArtefactStore(lake).write_note(IDENTITY_FILE, identity.encode())


def _remember(connection: Connection, bound: BoundLake) -> None:
    connection.execute(
        "insert into platform.lake (id, identity, place, is_marked) values (1, %s, %s, %s) on conflict (id) do update"
        " set identity = excluded.identity, place = excluded.place, is_marked = excluded.is_marked, bound_at ="
        " case when platform.lake.identity = excluded.identity then platform.lake.bound_at else now() end",
        [bound.identity, bound.place, bound.is_marked],
    )


def _is_memory(lake: str) -> bool:
    return lake.startswith("memory:")


def _other_lake(database: Database, bound: BoundLake | None, lake: str, found: str) -> OtherLake:
    name, mine = database.name("platform"), place_of(lake)
    named = f"which has the identity {escaped(found[:40])}" if found else "which has no identity"
    if bound is None:
        told = f"the database {name} is new, but the lake is not: the lake {mine}, {named}, belongs to another database"
    else:
        told = (
            f"the database {name} belongs to the lake {escaped(bound.place[:300])}, identity {bound.identity[:40]}, "
            f"but this process uses the lake {mine}, {named}"
        )
    return OtherLake(
        f"{told}. Two platforms must not share a database or a lake: correct PLATFORM_DATABASE_URL, PLATFORM_LAKE_URI "
        f"or PLATFORM_HOME. After moving the lake, copy its file {FOLDER}/{IDENTITY_FILE} too. If you replaced the "
        "database or the lake, run `platform-assets migrate --adopt-lake` with these settings"
    )
