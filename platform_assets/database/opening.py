"""Open the platform's databases: those behind a URL, or without one those of the embedded server.

Two roles connect. The platform's own, by `open_database`, reads and writes rows, and of what is there
for ever (`ledger.py`, `api_keys.py`) it can only read and add. The one that owns those tables, by
`open_owner`, serves migrations alone; what each role may do, `migrate.py` grants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.base.errors import DatabaseError, PlatformError
from platform_assets.database.connections import Database, embedded_database, missing
from platform_assets.database.embedded.server import APP, OWNER
from platform_assets.database.embedded.shared_use import use_server
from platform_assets.database.revisions import DOMAINS, current_heads, listed, refuse_unknown, wanted_heads

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import URL

    from platform_assets.settings import Settings


def open_configured_database(settings: Settings) -> Database:
    """Open the databases that the settings ask for.

    Raises
    ------
    PlatformError
        The settings are those of a service without a database.
    DatabaseError
        As for `open_database`.
    """
    if settings.bundle:
        raise PlatformError(
            "PLATFORM_BUNDLE is for `platform-assets serve`, with one exported model and no database; unset it for "
            "everything else"
        )
    return open_database(settings.database_url.get_secret_value(), settings.home)


def open_database(url: str, home: Path, *, migrated: bool = True) -> Database:
    """Open the databases behind a URL; without one, those of the embedded server below `home`.

    Parameters
    ----------
    url
        `postgresql://user:password@host/name`, or empty.
    home
        The platform's folder.
    migrated
        Whether an external database must be at this code's version. The embedded one always is.

    Raises
    ------
    DatabaseError
        The URL is none, the server is not there, or its database is not at this code's version.

    """
    if not url:
        server = use_server(home / "postgres")
        return embedded_database(server.port, APP, server.folder.password(APP), server)
    database = Database(_parsed(url))
    if migrated:
        require_heads(database)
    return database


def open_owner(url: str, home: Path) -> Database:
    """Open the same databases as the role that owns the platform's tables, which only migrations do.

    Parameters
    ----------
    url
        As for `open_database`, with the name of that role; empty for the embedded server.
    home
        The platform's folder.

    Raises
    ------
    DatabaseError
        The URL is none, or the embedded server cannot be started.

    """
    if url:
        return Database(_parsed(url, "PLATFORM_MIGRATION_DATABASE_URL"))
    server = use_server(home / "postgres")
    return embedded_database(server.port, OWNER, server.folder.password(OWNER), server)


def _parsed(url: str, variable: str = "PLATFORM_DATABASE_URL") -> URL:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    wanted = f"{variable} must be postgresql://user:password@host/name, or empty for an embedded server"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise DatabaseError(f"{wanted}; what it holds is no URL") from None
    if parsed.drivername.split("+")[0] not in {"postgresql", "postgres"}:
        raise DatabaseError(f"{wanted}; it is one of {parsed.drivername}")
    if not parsed.database:
        raise DatabaseError(f"{wanted}; it names no database")
    return parsed


def require_heads(database: Database, domains: Path = DOMAINS) -> None:
    """Refuse databases that are not at this code's version.

    Parameters
    ----------
    database
        As the platform connects.
    domains
        The folder that holds a folder for each domain.

    Raises
    ------
    DatabaseError
        A revision is missing, or not one of this code's, or one of the three databases is not there.

    """
    with database.connect("platform") as connection:
        found, wanted = current_heads(connection), wanted_heads(domains)
        lacking = missing(database, connection)
    refuse_unknown(found, database.name("platform"), domains)
    if found != wanted or lacking:
        state = f"is at version {listed(found) or 'none'}, this code needs {listed(wanted)}"
        if lacking:
            state = f"has no {' and no '.join(database.name(purpose) for purpose in lacking)} beside it"
        raise DatabaseError(f"the database {database.name('platform')} {state}; run `platform-assets migrate`")
