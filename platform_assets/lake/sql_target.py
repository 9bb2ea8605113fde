"""Location of an SQL database that tables are loaded into: a URL, or a server, a database, a user and a password.

`sql_connection.py` connects to it, and `sql_loader.py` loads rows into one of its tables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import PlatformError
from platform_assets.settings import SQL_TARGET_PARTS, variable

if TYPE_CHECKING:
    from sqlalchemy import URL

    from platform_assets.settings import Settings

URL_VARIABLE = variable("sql_target_url")
DIALECTS = {
    "mssql": "mssql",
    "sqlserver": "mssql",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mariadb": "mysql",
    "mysql": "mysql",
    "sqlite": "sqlite",
}
"""SQLAlchemy's name of the dialect, for each accepted name."""
DRIVERS = {
    "mssql": ("pyodbc", "mssqlpython"),
    "postgresql": ("psycopg",),
    "mysql": ("pymysql", "pyodbc"),
    "sqlite": ("pysqlite",),
}
"""The drivers of each dialect, the default first. `sql_drivers.py` chooses the driver for SQL Server."""
PRODUCTS = {"mssql": "SQL Server", "postgresql": "PostgreSQL", "mysql": "MariaDB", "sqlite": "SQLite"}
_PORT = re.compile(r"(?P<host>\[[^\]]+\]|[^,:\\]+)(?:[,:]\s*(?P<port>\d{1,5}))?")


class SqlTargetError(PlatformError):
    """A target cannot be reached, does not fit the rows, or refuses them. The message names the cause and the fix.

    Attributes
    ----------
    is_passing
        Whether the same load may succeed if it is repeated immediately.
    """

    def __init__(self, message: str, *, is_passing: bool = False) -> None:
        super().__init__(message)
        self.is_passing = is_passing


@dataclass(frozen=True)
class SqlTarget:
    """A database that contains tables to load into.

    Attributes
    ----------
    url
        SQLAlchemy URL, with the password.
    named_by
        The settings that contain the URL, for messages.
    is_own
        Whether it is the platform's own database.
    takes_demo
        Whether sample data may be loaded. The platform's own database always accepts them.
    """

    url: URL = field(repr=False)
    named_by: str = URL_VARIABLE
    is_own: bool = False
    takes_demo: bool = False

    @property
    def dialect(self) -> str:
        """SQLAlchemy's name of the dialect: mssql, postgresql, mysql or sqlite."""
        return self.url.get_backend_name()

    @property
    def product(self) -> str:
        """Name of the database product."""
        return PRODUCTS[self.dialect]

    @property
    def place(self) -> str:
        """Server and database for messages, without user and password."""
        if self.dialect == "sqlite":
            return f"the SQLite file {self.url.database}"
        address = self.url.host or "the local server"
        port = f":{self.url.port}" if self.url.port else ""
        return f"the {self.product} database {self.url.database or '(default)'} on {address}{port}"


def target_of(settings: Settings) -> SqlTarget | None:
    """Return the target from the settings; None if it is not set.

    Raises
    ------
    SqlTargetError
        The URL is malformed, or names a dialect or a driver that the loader does not support.
    """
    if url := settings.sql_target_url.get_secret_value():
        target = parse_target(url)
    elif settings.sql_target_server or settings.sql_target_database:
        target = target_from_parts(
            settings.sql_target_dialect or "mssql",
            settings.sql_target_server,
            settings.sql_target_database,
            settings.sql_target_user,
            settings.sql_target_password.get_secret_value(),
        )
    else:
        return None
    return replace(target, takes_demo=settings.sql_target_demo == "on")


def parse_target(url: str, named_by: str = URL_VARIABLE) -> SqlTarget:
    """Return the target of a SQLAlchemy URL.

    Parameters
    ----------
    url
        `dialect://user:password@server/database?option=value`. In the user and the password, characters with a special
        meaning in URLs must be percent-encoded: `%40` for `@`.
    named_by
        The setting that contains the URL, for messages.

    Raises
    ------
    SqlTargetError
        The URL is malformed, or names a dialect or a driver that the loader does not support.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise SqlTargetError(
            f"{named_by} is not a URL; write dialect://user:password@server/database, with %40 for an @ and %2F for a "
            f"/ in the password, or set {', '.join(map(variable, SQL_TARGET_PARTS))}, which need no encoding"
        ) from None
    if not parsed.database and not (parsed.query or parsed.host):
        raise SqlTargetError(f"{named_by} does not name a database; write dialect://user:password@server/database")
    return SqlTarget(parsed.set(drivername=_driver_name(parsed.drivername, named_by)), named_by)


def target_from_parts(dialect: str, server: str, database: str, user: str, password: str) -> SqlTarget:
    r"""Return the target on a server.

    Parameters
    ----------
    dialect
        `mssql`, `postgresql`, `mariadb` or `sqlite`, optionally with a driver: `mssql+mssqlpython`.
    server
        Name or address, optionally with a port (`host:1433`, `host,1433`, `tcp:host,1433`) or a named instance
        (`host\instance`). Ignored for SQLite.
    database
        Name of the database, or the path of a SQLite file.
    user
        User; empty for the driver's default, such as Windows authentication.
    password
        Password, with any characters.

    Raises
    ------
    SqlTargetError
        The loader does not support the dialect, or the server's name is malformed.
    """
    from sqlalchemy import URL

    drivername = _driver_name(dialect, variable("sql_target_dialect"))
    if drivername.startswith("sqlite"):
        return SqlTarget(URL.create(drivername, database=database), variable("sql_target_database"))
    host, port = _address(server)
    url = URL.create(drivername, user or None, password or None, host, port, database)
    return SqlTarget(url, "the PLATFORM_SQL_TARGET_ settings")


def _driver_name(name: str, named_by: str) -> str:
    dialect, _, driver = name.partition("+")
    known = DIALECTS.get(dialect.lower())
    if known is None:
        raise SqlTargetError(
            f"{named_by} names the dialect {dialect!r}; the loader supports mssql, postgresql, mariadb and sqlite"
        )
    if driver and driver not in DRIVERS[known]:
        raise SqlTargetError(
            f"{named_by} names the driver {driver!r}; for {PRODUCTS[known]}, the loader supports "
            f"{', '.join(DRIVERS[known])}"
        )
    return f"{known}+{driver}" if driver else known


def _address(server: str) -> tuple[str, int | None]:
    text = server.strip().removeprefix("tcp:")
    if text.startswith("/") or "\\" in text:
        # This is the folder of a Unix socket, or a named instance of SQL Server, which has no fixed port.
        return text, None
    if text.count(":") > 1 and not text.startswith("["):
        return text, None
    found = _PORT.fullmatch(text)
    if found is None:
        raise SqlTargetError(
            f"{variable('sql_target_server')}: {server!r} is not a server; write host, host:port, or host\\instance"
        )
    host: Any = found["host"]
    return host.strip("[]"), int(found["port"]) if found["port"] else None
