"""The T-SQL statements that load rows, as SQL Server would receive them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mssql
from sqlalchemy.pool import NullPool

from platform_assets.domains.esios_demand.schemas import DEMAND_FORECAST_ESIOS
from platform_assets.lake.sql_columns import Storage, TargetColumn, convert
from platform_assets.lake.sql_connection import _set_limits
from platform_assets.lake.sql_loader import _Load
from platform_assets.lake.sql_statements import MOST_PARAMETERS, Statements
from platform_assets.lake.sql_table_check import Match, _of_key
from platform_assets.lake.sql_target import parse_target
from platform_assets_tests.sql_targets import KEY, NAME, demand

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.requirement("ESI-3")
# Responses to the queries that SQLAlchemy sends when it connects.
ANSWERS = {
    "SERVERPROPERTY": "16.0.4085.2",
    "@@version": "Microsoft SQL Server 2022 - 16.0.4085.2",
    "schema_name": "dbo",
}


class Recorder:
    """Replaces the driver: records the statements and responds like a server with an empty table."""

    paramstyle, apilevel, threadsafety, version, __version__ = "qmark", "2.0", 1, "5.3.0", "1.16.0"
    SQL_DRIVER_NAME, SQL_DBMS_VER, SQL_VARCHAR, SQL_WVARCHAR = 6, 18, 12, -9
    Error = DatabaseError = ProgrammingError = OperationalError = IntegrityError = InterfaceError = Exception

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []
        self.rows: list[tuple[Any, ...]] = []
        self.description: list[tuple[Any, ...]] | None = None
        self.rowcount = 3
        self.timeout = 0
        self.autocommit = False
        self.closed = False
        self.arraysize = 1
        self.lastrowid = None

    Cursor = object

    def connect(self, *_: object, **__: object) -> Recorder:
        return self

    def cursor(self) -> Recorder:
        return self

    def pooling(self, **_: object) -> None: ...

    def getinfo(self, _: int) -> str:
        return "libtdsodbc.so"

    def setinputsizes(self, _: object) -> None: ...

    def add_output_converter(self, *_: object) -> None: ...

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> None:
        self.sent.append((statement, tuple(parameters)))
        self.rows = [(answer,) for part, answer in ANSWERS.items() if part in statement]
        if statement.startswith("SELECT COUNT(*)"):
            self.rows = [(3,)]
        self.description = (
            [("a", str, None, None, None, None, True)] if statement.upper().startswith("SELECT") else None
        )

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self.rows

    def fetchone(self) -> tuple[Any, ...] | None:
        return self.rows[0] if self.rows else None

    def commit(self) -> None:
        self.sent.append(("COMMIT", ()))

    def rollback(self) -> None:
        self.sent.append(("ROLLBACK", ()))

    def close(self) -> None: ...


STAGED = "[#staging_1]"
SECONDS = Storage("time", pa.timestamp("s"))
COLUMNS = "[name], [id], [datetime], [demand_forecast], [update_timestamp]"
TARGET = "[dbo].[demand_forecast_esios]"


@pytest.mark.parametrize("driver", ["pyodbc", "mssqlpython"])
def test_a_load_sends_the_expected_statements(driver: str) -> None:
    recorder = Recorder()
    engine = sa.create_engine(f"mssql+{driver}://me:pw@server/energy?driver=x", module=recorder, poolclass=NullPool)
    columns = (
        TargetColumn("name", "name", Storage("text"), is_nullable=True),
        TargetColumn("id", "id", Storage("number"), is_nullable=True),
        TargetColumn("datetime", "datetime", SECONDS, is_nullable=True),
        TargetColumn("demand_forecast", "demand_forecast", Storage("number"), is_nullable=True),
        TargetColumn("update_timestamp", "update_timestamp", SECONDS, is_nullable=True),
    )
    names = [column.name for column in columns]
    with engine.connect() as connection:
        recorder.sent.clear()
        _set_limits(connection)
        statements = Statements(
            connection.dialect, "demand_forecast_esios", "dbo", names, KEY, frozenset({"name"}), "staging_1"
        )
        load = _Load(connection, statements, Match(columns, KEY))
        count = load.stage(demand(3).to_reader(), KEY, lambda _: None)
        load.check(count)
        load.merge(parse_target("mssql://me:pw@server/energy"), lambda _: None)
        load.end()
    assert [statement for statement, _ in recorder.sent if statement != "ROLLBACK"] == [
        "SET LOCK_TIMEOUT 60000",
        "SET XACT_ABORT ON",
        "COMMIT",
        # Create a temporary table with the types and the collations of the target, but without its keys.
        f"SELECT TOP (0) {COLUMNS} INTO {STAGED} FROM {TARGET}",
        "COMMIT",
        f"INSERT INTO {STAGED} ({COLUMNS}) VALUES (?, ?, ?, ?, ?), (?, ?, ?, ?, ?), (?, ?, ?, ?, ?)",
        "COMMIT",
        f"SELECT COUNT(*) FROM {STAGED}",
        (
            f"SELECT TOP (5) [id], [datetime] FROM {STAGED} GROUP BY [id], [datetime] HAVING COUNT(*) > 1 "
            "ORDER BY [id], [datetime]"
        ),
        # Update and insert in one transaction, without MERGE.
        (
            "UPDATE t SET [name] = s.[name], [demand_forecast] = s.[demand_forecast], "
            "[update_timestamp] = s.[update_timestamp] "
            f"FROM {TARGET} AS t WITH (UPDLOCK, HOLDLOCK) INNER JOIN {STAGED} AS s "
            "ON t.[id] = s.[id] AND t.[datetime] = s.[datetime] "
            "WHERE EXISTS (SELECT CAST(s.[name] AS varbinary(max)), s.[demand_forecast], s.[update_timestamp] "
            "EXCEPT SELECT CAST(t.[name] AS varbinary(max)), t.[demand_forecast], t.[update_timestamp])"
        ),
        (
            f"INSERT INTO {TARGET} ({COLUMNS}) "
            "SELECT s.[name], s.[id], s.[datetime], s.[demand_forecast], s.[update_timestamp] "
            f"FROM {STAGED} AS s WHERE NOT EXISTS (SELECT 1 FROM {TARGET} AS t WITH (UPDLOCK, HOLDLOCK) "
            "WHERE t.[id] = s.[id] AND t.[datetime] = s.[datetime])"
        ),
        "COMMIT",
        f"DROP TABLE {STAGED}",
        "COMMIT",
    ]
    [values] = [values for statement, values in recorder.sent if statement.startswith("INSERT INTO [#")]
    expected = convert(demand(3).to_batches()[0], columns, KEY).to_pylist()
    assert values == tuple(value for row in expected for value in row.values())
    assert values[:2] == (NAME, 460)
    assert recorder.timeout == 600


@pytest.mark.parametrize("columns", [1, 5, 700])
def test_a_statement_stays_below_the_limits_of_sql_server(columns: int) -> None:
    names = [f"c{number}" for number in range(columns)]
    statements = Statements(
        mssql.dialect(paramstyle="qmark"),  # type: ignore[no-untyped-call]
        "t",
        None,
        names,
        names[:1],
        (),
        "s",
    )
    rows = statements.rows_per_insert
    assert 1 <= rows <= 1_000
    assert rows * columns <= MOST_PARAMETERS
    assert statements.insert_staged(rows).count("?") == rows * columns


class SqlServerInspector:
    """Returns the answers of SQLAlchemy's inspector for SQL Server."""

    dialect: Any = mssql.dialect()  # type: ignore[no-untyped-call]

    def get_pk_constraint(self, *_: object) -> dict[str, Any]:
        return {"constrained_columns": ["number"], "name": "key"}

    def get_indexes(self, *_: object) -> list[dict[str, Any]]:
        return [{"column_names": ["datetime", "id"], "unique": True}, {"column_names": ["name"], "unique": False}]

    def get_unique_constraints(self, *arguments: Any) -> Any:
        return self.dialect.get_unique_constraints(None, *arguments)


def test_a_unique_constraint_of_sql_server_is_found_as_an_index() -> None:
    inspector: Any = SqlServerInspector()
    assert [*_of_key(inspector, ("dbo", "t"), KEY)] == []
    [difference] = _of_key(inspector, ("dbo", "t"), ("name",))
    assert difference.endswith("existing keys: (datetime, id) and (number)")


def test_names_are_quoted() -> None:
    statements = Statements(
        mssql.dialect(),  # type: ignore[no-untyped-call]
        "a]b; DROP TABLE x",
        "my.schema",
        ["x]y"],
        ["x]y"],
        (),
        "s",
    )
    assert statements.target == "[my.schema].[a]]b; DROP TABLE x]"
    assert statements.create_staging() == "SELECT TOP (0) [x]]y] INTO [#s] FROM [my.schema].[a]]b; DROP TABLE x]"
    assert statements.update() is None


def test_the_ddl_in_docker_has_the_columns_and_the_key_of_the_rows() -> None:
    """docker/demand_forecast_esios.sql defines every column of the rows, and the primary key that the asset uses."""
    text = (Path(__file__).parents[2] / "docker" / "demand_forecast_esios.sql").read_text()
    body = text[text.index("CREATE TABLE") : text.index("GO")]
    found = dict(re.findall(r"^    (\w+) +(\w+)", body, re.MULTILINE))
    types = {"string": "nvarchar", "int64": "bigint", "timestamp": "datetime2", "float64": "float"}
    assert {column.name: types[column.type] for column in DEMAND_FORECAST_ESIOS.columns}.items() <= found.items()
    assert f"PRIMARY KEY ({', '.join(DEMAND_FORECAST_ESIOS.key)})" in body
