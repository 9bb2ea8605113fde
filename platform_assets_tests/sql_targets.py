"""Databases for the tests of the loader: PostgreSQL, MariaDB, SQLite, and SQL Server if a server is configured."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from platform_assets.lake.sql_loader import SqlLoader
from platform_assets.lake.sql_target import SqlTarget, parse_target
from platform_assets_tests.postgres import owner_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

TABLE = "demand_forecast_esios"
KEY = ("id", "datetime")
NAME = "Previsión diaria de la demanda eléctrica peninsular"
START = datetime(2017, 1, 1, tzinfo=UTC)
SQL_SERVER = "SQL_SERVER_URL"
"""Environment variable with the URL of an empty database of SQL Server, in which tests may create tables."""
KINDS = (
    "postgresql",
    "mariadb",
    "mariadb through ODBC",
    "sqlite",
    *(["sql server"] if os.environ.get(SQL_SERVER) else []),
)


@dataclass(frozen=True)
class Place:
    """A database in which tests create tables, and into which the loader loads.

    Attributes
    ----------
    engine
        Connects as an administrator.
    target
        The target that the loader connects to.
    """

    engine: sa.Engine
    target: SqlTarget

    def create(
        self, *columns: sa.Column[Any] | sa.Constraint | sa.Index, table: str = TABLE, **options: Any
    ) -> sa.Table:
        """Create a table, by default with the five columns of `demand_forecast_esios` and its key."""
        made = sa.Table(table, sa.MetaData(), *(columns or demand_columns()), **options)
        made.create(self.engine)
        return made

    def rows(self, table: sa.Table) -> list[tuple[Any, ...]]:
        """Return all rows, sorted by their primary key."""
        with self.engine.connect() as connection:
            found = connection.execute(sa.select(table).order_by(*table.primary_key.columns)).all()
        return [tuple(row) for row in found]

    def run(self, *statements: str) -> None:
        """Run statements as the administrator."""
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def loader(self, table: str = TABLE, key: Sequence[str] = KEY) -> SqlLoader:
        return SqlLoader(self.target, table, key)


def demand_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("name", sa.Unicode(200), nullable=False),
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("datetime", sa.DateTime, primary_key=True),
        sa.Column("demand_forecast", sa.Double),
        sa.Column("update_timestamp", sa.DateTime),
    ]


def demand(hours: int, first: int = 0, **columns: Any) -> pa.Table:
    """Return rows like those of `esios_demand/demand_forecast`.

    Parameters
    ----------
    hours, first
        Number of hourly rows, and hours from `START` to the first row.
    columns
        Values for all rows: `name`, `id`, `mw` (the demand) and `updated` (the update time).
    """
    times = [START + timedelta(hours=hour) for hour in range(first, first + hours)]
    return pa.table(
        {
            "name": pa.array([columns.get("name", NAME)] * hours, pa.string()),
            "id": pa.array([columns.get("id", 460)] * hours, pa.int64()),
            "datetime": pa.array(times, pa.timestamp("us", "UTC")),
            "demand_forecast": pa.array([columns.get("mw", 20_000.5 + hour) for hour in range(hours)], pa.float64()),
            "update_timestamp": pa.array([columns.get("updated", START)] * hours, pa.timestamp("us", "UTC")),
        }
    )


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """One of the databases, without tables."""
    yield from opened(request.param, request, tmp_path)


def opened(kind: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Place]:
    """Yield a database of this kind, and drop its tables afterwards."""
    admin, target = _urls(kind, request, folder)
    engine = sa.create_engine(admin, poolclass=NullPool)
    with closing_tables(engine):
        yield Place(engine, parse_target(target.render_as_string(hide_password=False)))


@contextmanager
def closing_tables(engine: sa.Engine) -> Iterator[None]:
    before = {*sa.inspect(engine).get_table_names()}
    yield
    made = sa.MetaData()
    made.reflect(engine, only=lambda name, _: name not in before)
    made.drop_all(engine)
    engine.dispose()


def _urls(kind: str, request: pytest.FixtureRequest, folder: Path) -> tuple[sa.URL, sa.URL]:
    """Return the URLs of the administrator and of the loader."""
    if kind == "postgresql":
        admin = sa.make_url(owner_of(request.getfixturevalue("database_url"))).set(drivername="postgresql+psycopg")
        return admin, admin
    if kind == "sqlite":
        url = sa.URL.create("sqlite", database=str(folder / "target.db"))
        with closing(sa.create_engine(url, poolclass=NullPool).connect()) as connection:
            connection.exec_driver_sql("PRAGMA user_version = 1")
        return url, url
    if kind == "sql server":
        url = sa.make_url(os.environ[SQL_SERVER])
        return url, url
    url = request.getfixturevalue("mariadb")
    return url, url if kind == "mariadb" else through_odbc(url)


def through_odbc(url: sa.URL) -> sa.URL:
    """Return a URL that connects to the database of `url` through Debian's ODBC driver."""
    pyodbc = pytest.importorskip("pyodbc", reason="needs pyodbc: pip install pyodbc")
    if not any("MariaDB" in driver for driver in pyodbc.drivers()):
        pytest.skip("needs MariaDB's ODBC driver: apt-get install odbc-mariadb")
    return url.set(drivername="mysql+pyodbc")
