"""The SQL loader's statements, sent through pyodbc to PostgreSQL and SQLite.

They are sent without SQLAlchemy, which has no ODBC dialect for these databases.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.dialects import postgresql, sqlite

from platform_assets.lake.sql_columns import TargetColumn, convert, storage_of
from platform_assets.lake.sql_loader import _tuples, send_arrays
from platform_assets.lake.sql_problems import PROBLEMS, UNKNOWN, problem_of
from platform_assets.lake.sql_statements import Statements
from platform_assets_tests.postgres import owner_of
from platform_assets_tests.sql_targets import KEY, NAME, demand, demand_columns

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

pytestmark = pytest.mark.requirement("ESI-3")
pyodbc = pytest.importorskip("pyodbc", reason="needs pyodbc: pip install pyodbc")
TABLE = (
    "CREATE TABLE demand (name varchar(200), id bigint, datetime timestamp, demand_forecast double precision, "
    "update_timestamp timestamp, PRIMARY KEY (id, datetime))"
)


def connect(text: str, driver: str, package: str) -> Any:
    if driver not in pyodbc.drivers():
        pytest.skip(f"needs the ODBC driver: apt-get install {package}")
    return closing(pyodbc.connect(f"DRIVER={{{driver}}};{text}", timeout=5))


def on_postgres(database_url: str) -> Any:
    url = make_url(owner_of(database_url))
    place = f"Server={url.host};Port={url.port};Database={url.database}"
    text = f"{place};UID={url.username};PWD={{{url.password}}}"
    return connect(text, "PostgreSQL Unicode", "odbc-postgresql")


def statements(dialect: str, rows: int) -> tuple[Statements, pa.Table]:
    kinds = {"postgresql": postgresql, "sqlite": sqlite}
    columns = [
        TargetColumn(column.name, column.name, storage, is_nullable=True, as_text=dialect == "sqlite")
        for column in demand_columns()
        if (storage := storage_of(column.type, dialect))
    ]
    names = [column.name for column in columns]
    made = Statements(kinds[dialect].dialect(paramstyle="qmark"), "demand", None, names, KEY, {"name"}, "staged_rows")
    return made, convert(demand(rows).to_batches()[0], columns, KEY)


def load(connection: Any, made: Statements, rows: pa.Table, *, arrays: bool) -> tuple[int, int]:
    """Run the statements that load rows; return the numbers of updated and inserted rows."""
    connection.execute(made.create_staging())
    if arrays:
        send_arrays(connection, made.insert_staged(1), rows)
    else:
        values = [value for row in _tuples(rows) for value in row]
        connection.execute(made.insert_staged(rows.num_rows), values)
    connection.commit()
    assert connection.execute(made.count_staged()).fetchval() == rows.num_rows
    assert connection.execute(made.duplicates()).fetchall() == []
    connection.commit()
    updated = connection.execute(made.update() or "").rowcount
    inserted = connection.execute(made.insert()).rowcount
    connection.commit()
    connection.execute(made.drop_staging())
    connection.commit()
    return updated, inserted


@pytest.mark.parametrize("arrays", [True, False])
def test_a_second_load_into_postgresql_through_odbc_changes_nothing(database_url: str, arrays: bool) -> None:
    made, rows = statements("postgresql", 300)
    with on_postgres(database_url) as connection:
        connection.execute(TABLE)
        try:
            assert load(connection, made, rows, arrays=arrays) == (0, 300)
            assert load(connection, made, rows, arrays=arrays) == (0, 0)
            found = connection.execute("SELECT name, id, demand_forecast FROM demand ORDER BY datetime").fetchall()
        finally:
            connection.rollback()
            connection.execute("DROP TABLE demand")
            connection.commit()
    assert [tuple(row) for row in found] == [(NAME, 460, 20_000.5 + hour) for hour in range(300)]


def test_a_second_load_into_sqlite_through_odbc_changes_nothing(tmp_path: Path) -> None:
    # Do not use parameter arrays, because they crash the interpreter with this driver. The loader uses parameter arrays
    # with Microsoft's driver only.
    made, rows = statements("sqlite", 300)
    with connect(f"Database={tmp_path / 'x.db'}", "SQLite3", "libsqliteodbc") as connection:
        connection.execute(TABLE)
        connection.commit()
        assert load(connection, made, rows, arrays=False) == (0, 300)
        assert load(connection, made, rows, arrays=False) == (0, 0)


@pytest.mark.parametrize(
    ("statement", "kind"),
    [("SELECT * FROM nowhere", "table"), ("SELECT CAST('abc' AS integer)", "value"), ("SELECT 1 / 0", "")],
)
def test_errors_through_odbc_are_recognised(database_url: str, statement: str, kind: str) -> None:
    with on_postgres(database_url) as connection, pytest.raises(pyodbc.Error) as raised:
        connection.execute(statement)
    assert problem_of(raised.value, "postgresql") is PROBLEMS.get(kind, UNKNOWN)
