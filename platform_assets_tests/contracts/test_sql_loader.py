"""The SQL loader on PostgreSQL, MariaDB (also through ODBC) and SQLite, and on SQL Server if a server is configured."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from platform_assets.lake.sql_target import SqlTargetError, target_from_parts
from platform_assets_tests.sql_targets import KEY, KINDS, NAME, START, TABLE, Place, demand, demand_columns

if TYPE_CHECKING:
    from collections.abc import Callable

    from platform_assets.lake.sql_loader import Loaded

pytestmark = pytest.mark.requirement("ESI-3")


def counts(loaded: Loaded) -> tuple[int, int, int]:
    return loaded.inserted, loaded.updated, loaded.unchanged


def hour(number: int) -> datetime:
    return START.replace(tzinfo=None) + timedelta(hours=number)


def test_rows_are_loaded_exactly(place: Place) -> None:
    table = place.create()
    rows = demand(3)
    odd = 'O\'Neil "50 %" \\ ñ € :x ?'
    rows = rows.set_column(0, "name", pa.array([NAME, odd, ""]))
    rows = rows.set_column(3, "demand_forecast", pa.array([20_000.1, None, 0.1 + 0.2]))
    assert counts(place.loader().load(rows.to_reader())) == (3, 0, 0)
    assert place.rows(table) == [
        (NAME, 460, hour(0), 20_000.1, hour(0)),
        (odd, 460, hour(1), None, hour(0)),
        ("", 460, hour(2), 0.1 + 0.2, hour(0)),
    ]


def test_loading_the_same_rows_again_changes_nothing(place: Place) -> None:
    table = place.create()
    place.loader().load(demand(50).to_reader())
    before = place.rows(table)
    assert counts(place.loader().load(demand(50).to_reader())) == (0, 0, 50)
    assert place.rows(table) == before


def test_a_correction_changes_only_the_corrected_rows(place: Place) -> None:
    table = place.create()
    place.loader().load(demand(10, name=NAME).to_reader())
    before = place.rows(table)
    later = START + timedelta(days=1)
    loaded = place.loader().load(demand(4, first=8, mw=30_000.0, updated=later).to_reader())
    assert counts(loaded) == (2, 2, 0)
    new = [(NAME, 460, hour(n), 30_000.0, later.replace(tzinfo=None)) for n in range(8, 12)]
    assert place.rows(table) == [*before[:8], *new]


@pytest.mark.parametrize("other", [NAME.upper(), NAME.replace("ó", "o"), NAME + " "])
def test_a_text_is_updated_even_if_only_case_accents_or_blanks_changed(place: Place, other: str) -> None:
    table = place.create()
    place.loader().load(demand(1).to_reader())
    assert counts(place.loader().load(demand(1, name=other).to_reader())) == (0, 1, 0)
    assert place.rows(table)[0][0] == other


def test_a_value_can_become_null_and_a_null_can_become_a_value(place: Place) -> None:
    table = place.create()
    for value in (None, 5.0, None):
        assert sum(counts(place.loader().load(demand(1, mw=value).to_reader()))[:2]) == 1
        assert place.rows(table)[0][3] == value


def test_a_failure_leaves_the_table_unchanged(place: Place) -> None:
    table = place.create(*demand_columns(), sa.CheckConstraint("demand_forecast < 40000", "demand_is_plausible"))
    place.loader().load(demand(5).to_reader())
    before = place.rows(table)
    # The update of five rows succeeds. In the same transaction, the constraint then rejects the insert of two rows.
    rows = pa.concat_tables([demand(5, mw=1.0), demand(2, first=5, mw=50_000.0)])
    with pytest.raises(SqlTargetError, match="violate a constraint of the table"):
        place.loader().load(rows.to_reader())
    assert place.rows(table) == before


def test_chunks_are_staged_one_after_the_other_and_progress_is_reported(place: Place) -> None:
    table = place.create()
    lines: list[str] = []
    place.loader().load(demand(2_500).to_reader(max_chunksize=1_000), lines.append)
    assert [line.split(" in ")[0] for line in lines] == [
        "staged 1,000 rows",
        "staged 2,000 rows",
        "staged 2,500 rows",
        "loaded 2,500 rows",
    ]
    assert all("rows/s" in line for line in lines)
    assert len(place.rows(table)) == 2_500


def test_concurrent_loads_lose_no_rows(place: Place) -> None:
    table = place.create()
    failures: list[Exception] = []

    def load(first: int) -> None:
        try:
            place.loader().load(demand(600, first=first, mw=float(first)).to_reader())
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            failures.append(error)

    threads = [threading.Thread(target=load, args=[first]) for first in (0, 300, 450)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [row[2] for row in place.rows(table)] == [hour(n) for n in range(1_050)]


def test_rows_with_equal_keys_are_refused(place: Place) -> None:
    table = place.create()
    rows = pa.concat_tables([demand(3), demand(1, first=1)])
    with pytest.raises(SqlTargetError, match="same key, for example id=460, datetime=2017-01-01 01"):
        place.loader().load(rows.to_reader())
    assert place.rows(table) == []


def test_one_message_lists_all_faults_of_the_target_table(place: Place) -> None:
    place.create(
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("datetime", sa.Date, nullable=False),
        sa.Column("demand_forecast", sa.Unicode(20)),
        sa.Column("update_timestamp", sa.DateTime),
        sa.Column("region", sa.Unicode(20), nullable=False),
    )
    with pytest.raises(SqlTargetError) as raised:
        place.loader().load(demand(1).to_reader())
    told = str(raised.value)
    assert "it has no column 'name' (string)" in told
    assert "datetime is DATE, which cannot store times" in told
    assert "demand_forecast is" in told
    assert "which cannot store double values" in told
    assert "region is NOT NULL without a default" in told
    assert "no primary key or unique constraint has exactly the columns (id, datetime); existing keys: (id)" in told
    assert told.endswith("Change the table; the loader never changes it")


def test_the_key_may_be_a_unique_constraint_and_column_names_may_differ_in_case(place: Place) -> None:
    place.create(
        sa.Column("row_number", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("Name", sa.Unicode(200)),
        sa.Column("ID", sa.BigInteger, nullable=False),
        sa.Column("DateTime", sa.DateTime, nullable=False),
        sa.Column("Demand_Forecast", sa.Double),
        sa.Column("update_timestamp", sa.DateTime),
        sa.UniqueConstraint("DateTime", "ID", name="one_row_per_hour"),
    )
    for expected in ((2, 0, 0), (0, 0, 2)):
        assert counts(place.loader().load(demand(2).to_reader())) == expected


@pytest.mark.parametrize("place", [kind for kind in KINDS if "mariadb" not in kind], indirect=True)
def test_a_partial_unique_index_is_not_accepted_as_a_key(place: Place) -> None:
    columns = [column for column in demand_columns() if column.name not in KEY]
    keys: list[sa.Column[Any]] = [
        sa.Column("id", sa.BigInteger, nullable=False),
        sa.Column("datetime", sa.DateTime, nullable=False),
    ]
    some = sa.text("id > 5")
    options: dict[str, Any] = {f"{place.target.dialect}_where": some}
    place.create(*columns, *keys, sa.Index("some_rows", "id", "datetime", unique=True, **options))
    with pytest.raises(SqlTargetError, match="no primary key or unique constraint has exactly the columns"):
        place.loader().load(demand(1).to_reader())


def test_names_with_special_characters_are_quoted(place: Place) -> None:
    table = place.create(
        sa.Column("select", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("50 % of [it]'s", sa.Unicode(20)),
        sa.Column('a "b"; drop', sa.Double),
        table="from where; --",
    )
    rows = pa.table({"select": [1, 2], "50 % of [it]'s": ["x%s", "?"], 'a "b"; drop': [1.5, 2.5]})
    loader = place.loader("from where; --", ["select"])
    assert counts(loader.load(rows.to_reader())) == (2, 0, 0)
    assert counts(loader.load(rows.to_reader())) == (0, 0, 2)
    assert place.rows(table) == [(1, "x%s", 1.5), (2, "?", 2.5)]


def test_a_value_that_the_column_cannot_store_is_refused(place: Place) -> None:
    table = place.create(
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False), sa.Column("whole", sa.BigInteger)
    )
    rows = pa.table({"id": [1, 2], "whole": [5.0, 5.5]})
    with pytest.raises(SqlTargetError, match="column 'whole' cannot store the value '5.5' exactly .the row id=2;"):
        place.loader(key=["id"]).load(rows.to_reader())
    assert place.rows(table) == []
    assert counts(place.loader(key=["id"]).load(rows.slice(0, 1).to_reader())) == (1, 0, 0)


def test_a_null_in_a_not_null_column_is_refused(place: Place) -> None:
    place.create()
    with pytest.raises(SqlTargetError, match="the row id=460, .* has no value in the column 'name', but .*NOT NULL"):
        place.loader().load(demand(1, name=None).to_reader())
    with pytest.raises(SqlTargetError, match="has no value in the column 'id', but it belongs to the key"):
        place.loader().load(demand(1, id=None).to_reader())


def test_all_types_are_loaded_exactly(place: Place) -> None:
    is_sqlite = place.target.dialect == "sqlite"
    table = place.create(
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("amount", sa.Double if is_sqlite else sa.Numeric(20, 4)),
        sa.Column("is_final", sa.Boolean),
        sa.Column("day", sa.Date),
        sa.Column("time_as_text", sa.Unicode(19)),
        sa.Column("small", sa.Integer),
    )
    amount = pa.array([0.5, None]) if is_sqlite else pa.array([Decimal("1234567890123456.7891"), None])
    rows = pa.table(
        {
            "id": [1, 2],
            "amount": amount,
            "is_final": [True, None],
            "day": [datetime(2024, 2, 29).date(), None],
            "time_as_text": pa.array([datetime(2017, 3, 26, 1, tzinfo=UTC), None], pa.timestamp("ns", "Europe/Madrid")),
            "small": pa.array([-(2**31), None]),
        }
    )
    loader = place.loader(key=["id"])
    assert counts(loader.load(rows.to_reader())) == (2, 0, 0)
    assert counts(loader.load(rows.to_reader())) == (0, 0, 2)
    day = datetime(2024, 2, 29).date()
    assert place.rows(table)[0] == (1, amount[0].as_py(), True, day, "2017-03-26 01:00:00", -(2**31))


def test_the_target_table_is_neither_created_nor_altered(place: Place) -> None:
    def structure() -> list[object]:
        inspector = sa.inspect(place.engine)
        tables = sorted(inspector.get_table_names())
        return [tables, *(str(column) for table in tables if table == TABLE for column in inspector.get_columns(table))]

    before = structure()
    with pytest.raises(SqlTargetError, match=f"has no table {TABLE}"):
        place.loader().load(demand(1).to_reader())
    assert structure() == before
    place.create()
    with_table = structure()
    place.loader().load(demand(1).to_reader())
    with pytest.raises(SqlTargetError):
        place.loader().load(demand(1, name="x" * 201, id=None).to_reader())
    assert structure() == with_table


def test_a_similar_table_is_suggested(place: Place) -> None:
    place.create(table="demand_forecast_esio")
    with pytest.raises(SqlTargetError, match="Did you mean demand_forecast_esio?"):
        place.loader().load(demand(1).to_reader())


def test_loading_an_empty_reader_succeeds(place: Place) -> None:
    table = place.create()
    assert counts(place.loader().load(demand(0).to_reader())) == (0, 0, 0)
    assert place.rows(table) == []


PASSWORD = "p@ss:/wörd?#%41;{}'\"\\ =&+"


@pytest.fixture
def odd_user(place: Place) -> Callable[[str], None]:
    """Create the user `loader`, whose password contains special characters.

    Return a function that replaces `{user}` in a statement with the user's name, and runs the statement.
    """
    dialect = place.target.dialect
    literal = PASSWORD.replace("'", "''")
    literal = literal.replace("\\", "\\\\") if dialect == "mysql" else literal
    name = {"postgresql": "loader", "mysql": "loader@'127.0.0.1'", "mssql": "loader"}[dialect]
    if dialect == "mssql":
        place.run(f"CREATE LOGIN loader WITH PASSWORD = N'{literal}'", "CREATE USER loader FOR LOGIN loader")
    else:
        clause = "PASSWORD" if dialect == "postgresql" else "IDENTIFIED BY"
        # Write % as %%, because psycopg and pymysql treat % as the start of a placeholder.
        place.run(f"CREATE USER {name} {clause} '{literal}'".replace("%", "%%"))
    return lambda statement: place.run(statement.format(user=name))


@pytest.mark.parametrize("place", [kind for kind in KINDS if kind != "sqlite"], indirect=True)
def test_a_password_may_contain_any_characters(place: Place, odd_user: Callable[[str], None]) -> None:
    place.create()
    try:
        odd_user(f"GRANT SELECT, INSERT, UPDATE ON {TABLE} TO {{user}}")
        if place.target.dialect == "mysql":
            odd_user("GRANT CREATE TEMPORARY TABLES ON energy.* TO {user}")
        url = place.target.url
        server = f"{url.host},{url.port}" if url.port else str(url.host)
        target = target_from_parts(url.drivername, server, str(url.database), "loader", PASSWORD)
        loaded = type(place.loader())(target, TABLE, KEY).load(demand(3).to_reader())
        assert counts(loaded) == (3, 0, 0)
    finally:
        odd_user("DROP OWNED BY {user}") if place.target.dialect == "postgresql" else None
        odd_user("DROP USER {user}")
