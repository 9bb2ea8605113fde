"""The Python and ODBC drivers of SQL targets: the choice of a driver, and how to install a missing driver."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from platform_assets.lake.sql_target import PRODUCTS, SqlTarget, SqlTargetError

if TYPE_CHECKING:
    from sqlalchemy import URL

_MODULES = {
    "pyodbc": "pyodbc",
    "mssqlpython": "mssql_python",
    "pymysql": "pymysql",
    "psycopg": "psycopg",
    "pysqlite": "sqlite3",
}
_EXTRAS = {"mssql": "sqlserver", "mysql": "mariadb"}
_MICROSOFT = re.compile(r"ODBC Driver (\d+) for SQL Server")
_ODBC_HELP = (
    "Install Microsoft's ODBC driver (https://learn.microsoft.com/sql/connect/odbc), or "
    "`pip install 'platform-assets[sqlserver]'`, which contains it"
)


def with_driver(target: SqlTarget) -> SqlTarget:
    """Return the target with the driver that connects to it.

    If a URL for SQL Server names no driver, pyodbc is used with Microsoft's ODBC driver: the installed driver, or the
    library in the package `mssql-python`.

    Raises
    ------
    SqlTargetError
        The driver is not installed.
    """
    dialect, _, driver = target.url.drivername.partition("+")
    if not driver:
        driver = {"mssql": _sql_server_driver(), "mysql": "pymysql", "postgresql": "psycopg"}.get(dialect, "pysqlite")
    if find_spec(_MODULES[driver]) is None:
        extra = _EXTRAS.get(dialect)
        fix = f"run `pip install 'platform-assets[{extra}]'`" if extra else f"run `pip install {_MODULES[driver]}`"
        raise SqlTargetError(f"the driver {_MODULES[driver]} for {PRODUCTS[dialect]} is not installed; {fix}")
    url = target.url.set(drivername=f"{dialect}+{driver}")
    if driver == "pyodbc":
        url = _with_odbc_driver(url, dialect)
    return SqlTarget(url, target.named_by, target.is_own)


def odbc_drivers() -> list[str]:
    """Return the names of the ODBC drivers that unixODBC, iODBC or Windows knows."""
    import pyodbc

    return [str(name) for name in pyodbc.drivers()]


def packaged_library() -> Path | None:
    """Return Microsoft's ODBC driver in the package `mssql-python-odbc`; None if it is not installed."""
    spec = find_spec("mssql_python_odbc")
    if spec is None or not spec.origin:
        return None
    folder = Path(spec.origin).parent / "libs"
    found = [*folder.glob("linux/*/*/lib/libmsodbcsql-*.so*"), *folder.glob("macos/*/lib/libmsodbcsql*.dylib")]
    return next((path for path in sorted(found) if _fits(path)), None)


def _fits(library: Path) -> bool:
    """Return whether a library of the package is built for this system."""
    import platform

    machine = {"aarch64": "arm64", "amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    if machine not in library.parts:
        return False
    if "linux" not in library.parts:
        return True
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    family = f"{release.get('ID', '')} {release.get('ID_LIKE', '')}".split()
    name = "suse" if "suse" in family else "rhel" if {"rhel", "fedora"} & {*family} else "debian_ubuntu"
    return name in library.parts


def _sql_server_driver() -> str:
    if find_spec("pyodbc") is None and find_spec("mssql_python") is not None:
        return "mssqlpython"
    return "pyodbc"


def _with_odbc_driver(url: URL, dialect: str) -> URL:
    """Add the ODBC driver to the URL, and move MariaDB's port to the option that the driver reads."""
    query = {name.lower() for name in url.query}
    if not query & {"driver", "dsn", "odbc_connect"} and url.database:
        url = url.update_query_dict({"driver": _default_odbc_driver(dialect)})
    if dialect == "mysql" and url.port:
        # Pass the port separately, because SQLAlchemy writes `Server=host,port`, which only drivers for SQL Server
        # read.
        url = url.set(port=None).update_query_dict({"port": str(url.port)})
    return url


def _default_odbc_driver(dialect: str) -> str:
    known = odbc_drivers()
    if dialect == "mysql":
        named = [name for name in known if "mariadb" in name.lower() or "mysql" in name.lower()]
        if not named:
            raise SqlTargetError(
                "no ODBC driver for MariaDB is installed (Debian: apt-get install odbc-mariadb); install it, or write "
                "mysql+pymysql:// in the URL"
            )
        return named[0]
    microsoft = sorted((name for name in known if _MICROSOFT.fullmatch(name)), key=lambda name: int(name.split()[2]))
    if microsoft:
        return microsoft[-1]
    library = packaged_library()
    if library is None:
        others = f" (installed: {', '.join(known)})" if known else ""
        raise SqlTargetError(f"no ODBC driver for SQL Server is installed{others}. {_ODBC_HELP}")
    return str(library)
