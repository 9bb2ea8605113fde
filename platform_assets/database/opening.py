"""Open the platform's databases: those at a URL, or those of the embedded server.

Two roles are used. `open_database` connects as the platform's own role, which reads and writes rows and calls the
ledger's functions. `open_owner` connects as the role that owns the tables. This role is used for migrations, the
rules for decisions, keys with the scope `approve`, backups, restores and erasures. `migrate.py` grants rights to both
roles.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from platform_assets.base.errors import DatabaseError, PlatformError
from platform_assets.base.home_folder import make_home
from platform_assets.database.connections import Database, embedded_database, missing, require_utf8
from platform_assets.database.embedded.server import APP, OWNER
from platform_assets.database.embedded.shared_use import use_server
from platform_assets.database.ledger_rights import require_separate_owner
from platform_assets.database.older_code import can_use, supported_revisions
from platform_assets.database.policies import settle_rules
from platform_assets.database.revisions import DOMAINS, current_heads, listed, refuse_unknown, wanted_heads
from platform_assets.database.session import ignore_shell_variables

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import URL

    from platform_assets.settings import Settings


def open_configured_database(settings: Settings) -> Database:
    """Open the databases that the settings specify.

    Raises
    ------
    PlatformError
        PLATFORM_BUNDLE is set, so there is no database.
    DatabaseError
        As for `open_database`.
    """
    if settings.bundle:
        raise PlatformError(
            "PLATFORM_BUNDLE is for `platform-assets serve`, which serves one exported model without a database; unset "
            "it for every other command"
        )
    database = open_database(settings.database_url.get_secret_value(), settings.home)
    try:
        if settings.env == "production":
            require_separate_owner(database)
        settle_rules(database, owner_for_rules(settings), identity_required=settings.identity_required)
    except DatabaseError:
        database.close()
        raise
    return database


def owner_for_rules(settings: Settings) -> Callable[[], Database] | None:
    """Return a function that opens the database as its owner, to record rules; None if only `migrate` may do so."""
    return owner_of(settings) if settings.env == "development" else None


def owner_of(settings: Settings) -> Callable[[], Database] | None:
    """Return a function that opens the database as its owner; None if the settings name no owner."""
    url = settings.migration_database_url.get_secret_value()
    if settings.database_url.get_secret_value() and not url:
        return None
    return partial(open_owner, url, settings.home)


def open_database(url: str, home: Path, *, migrated: bool = True) -> Database:
    """Open the databases at a URL, or those of the embedded server below `home`.

    Parameters
    ----------
    url
        `postgresql://user:password@host/name`; empty for the embedded server.
    home
        PLATFORM_HOME.
    migrated
        Whether to require that an external database is at this code's revisions. An embedded database always is.

    Raises
    ------
    DatabaseError
        The URL is malformed, the server does not respond, or the database is not at this code's revisions.
    PlatformError
        PLATFORM_HOME cannot be written.

    """
    if not url:
        server = use_server(make_home(home) / "postgres")
        return embedded_database(server.port, APP, server.folder.password(APP), server)
    ignore_shell_variables(embedded=False)
    database = Database(_parsed(url))
    if migrated:
        require_heads(database)
    return database


def open_owner(url: str, home: Path) -> Database:
    """Open the databases as the role that owns the platform's tables.

    Parameters
    ----------
    url
        As for `open_database`, with the name of that role; empty for the embedded server.
    home
        PLATFORM_HOME.

    Raises
    ------
    DatabaseError
        The URL is malformed, or the embedded server cannot be started.
    PlatformError
        PLATFORM_HOME cannot be written.

    """
    if url:
        ignore_shell_variables(embedded=False)
        return Database(_parsed(url, "PLATFORM_MIGRATION_DATABASE_URL"))
    server = use_server(make_home(home) / "postgres")
    return embedded_database(server.port, OWNER, server.folder.password(OWNER), server)


def _parsed(url: str, variable: str = "PLATFORM_DATABASE_URL") -> URL:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    wanted = f"{variable} must be postgresql://user:password@host/name, or empty for an embedded server"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise DatabaseError(f"{wanted}; its value is not a URL") from None
    if parsed.drivername.split("+")[0] not in {"postgresql", "postgres"}:
        raise DatabaseError(f"{wanted}; its value starts with {parsed.drivername}://")
    if not parsed.database:
        raise DatabaseError(f"{wanted}; its value does not name a database")
    return parsed


def require_heads(database: Database, domains: Path = DOMAINS) -> None:
    """Refuse databases that this code cannot use.

    A database that newer code migrated can be used if that code only added objects.

    Parameters
    ----------
    database
        The databases, opened as the platform's role.
    domains
        The folder that contains the domains' folders.

    Raises
    ------
    DatabaseError
        A revision is missing, or newer code made changes that this code cannot use, or one of the three databases does
        not exist or is not in UTF-8.

    """
    with database.connect("platform") as connection:
        require_utf8(database, connection)
        found, wanted = current_heads(connection), wanted_heads(domains)
        usable = can_use(wanted, found, supported_revisions(connection))
        lacking = missing(database, connection)
    if not usable:
        refuse_unknown(found, database.name("platform"), domains)
    if not usable or lacking:
        revision = f"is at revision {listed(found)}" if found else "has no revision"
        state = f"{revision}, but this code needs {listed(wanted)}"
        if lacking:
            names = " and ".join(database.name(purpose) for purpose in lacking)
            state = f"is on a server that lacks the database{'s' if len(lacking) > 1 else ''} {names}"
        raise DatabaseError(f"the database {database.name('platform')} {state}; run `platform-assets migrate`")
