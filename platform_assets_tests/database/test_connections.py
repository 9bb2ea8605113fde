from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, make_url, text

from platform_assets.base.errors import DatabaseError
from platform_assets.database.embedded.watcher import free_port
from platform_assets.database.opening import open_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from platform_assets.database.connections import Database


@pytest.fixture(params=["embedded", "external"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "embedded":
        url, home = "", request.getfixturevalue("running_home")
    else:
        url, home = request.getfixturevalue("database_url"), tmp_path
    with contextlib.closing(open_database(url, home)) as database:
        yield database


@pytest.mark.requirement("CRE-2")
def test_the_same_sql_works_embedded_and_external(database: Database) -> None:
    insert = text(
        "insert into credit_risk.client_features (client_id, as_of, loan_id, nb_previous_loans, age, flag_own_car)"
        " values (:client_id, '2021-02-28', 9007199254740993, 0, 41, 1)"
    )
    with database.engine.begin() as connection:
        connection.execute(insert, {"client_id": 2**53 + 1})
        connection.execute(text("insert into platform.online_tables (name, digest, rows) values ('é', 'd', 1)"))
    with database.engine.connect() as connection:
        features = connection.execute(text("select * from credit_risk.client_features")).mappings().all()
        online = connection.execute(text("select upper(name), run_id, updated_at <= now() from platform.online_tables"))
        assert [tuple(map(str, row.values())) for row in features] == [
            ("9007199254740993", "2021-02-28", "9007199254740993", "0", "None", "41", "None", "1")
        ]
        assert [tuple(row) for row in online] == [("É", None, True)]


@pytest.mark.requirement("PLT-1")
def test_every_column_of_a_feature_table_is_described(database: Database) -> None:
    with database.connect("platform") as connection:
        columns = connection.execute(
            "select attname, col_description(attrelid, attnum) from pg_attribute"
            " where attrelid = 'credit_risk.client_features'::regclass and attnum > 0 order by attnum"
        ).fetchall()
    assert [name for name, _ in columns] == [
        *("client_id", "as_of", "loan_id", "nb_previous_loans"),
        *("avg_amount_loans_previous", "age", "years_on_the_job", "flag_own_car"),
    ]
    assert [name for name, description in columns if not description] == []


def test_the_three_databases_are_separate_and_each_library_finds_its_own(database: Database) -> None:
    tables = {"platform": "credit_risk.client_features", "dagster": "event_logs", "mlflow": "registered_models"}
    for purpose in ("platform", "dagster", "mlflow"):
        for url in (database.url(purpose), make_url(database.psycopg2_url(purpose))):
            engine = create_engine(url)
            with engine.connect() as connection:
                found = {
                    owner
                    for owner, table in tables.items()
                    if connection.execute(text("select to_regclass(:table)"), {"table": table}).scalar()
                }
            engine.dispose()
            assert found == {purpose}
    assert database.url("dagster").drivername == "postgresql+psycopg"
    assert database.psycopg2_url("dagster").startswith("postgresql+psycopg2://")


def test_only_the_embedded_history_trades_its_last_lines_for_speed(database: Database) -> None:
    settings = {}
    for purpose in ("platform", "dagster"):
        with database.connect(purpose) as connection:
            settings[purpose] = connection.execute("show synchronous_commit").fetchone()
    assert settings == {"platform": ("on",), "dagster": ("off" if database.embedded else "on",)}


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("update platform.alembic_version set version_num = '0002'", "is at version 0002, this code needs"),
        ("drop schema platform cascade", "is at version none, this code needs"),
        ("drop database {mlflow}", "has no {mlflow} beside it"),
    ],
)
def test_an_external_database_that_is_not_migrated_is_refused(external: Database, statement: str, message: str) -> None:
    names = {"mlflow": external.name("mlflow")}
    with external.connect("platform") as connection:
        connection.execute(statement.format(**names).encode())
    url = external.url("platform").render_as_string(hide_password=False)
    with pytest.raises(DatabaseError) as error:
        open_database(url, Path("unused"))
    assert message.format(**names) in str(error.value)
    assert str(error.value).endswith("run `platform-assets migrate`")


@pytest.mark.requirement("PLT-8")
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("hunter2", "what it holds is no URL"),
        ("postgresql://user:hunter2@host:port/name", "what it holds is no URL"),
        ("mysql://user:hunter2@host/name", "it is one of mysql"),
        ("postgresql://user:hunter2@host", "it names no database"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_showing_it(url: str, message: str) -> None:
    with pytest.raises(DatabaseError) as error:
        open_database(url, Path("unused"))
    assert message in str(error.value)
    assert "hunter2" not in str(error.value)


@pytest.mark.requirement("PLT-8")
def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(DatabaseError, match=r"cannot open the database name on 127\.0\.0\.1") as error:
        open_database(f"postgresql://user:hunter2@127.0.0.1:{free_port()}/name", Path("unused"))
    assert "hunter2" not in str(error.value)
    assert "Start that server, or mend PLATFORM_DATABASE_URL" in str(error.value)


def test_a_database_that_is_not_there_is_made_by_migrate(external: Database) -> None:
    url = external.url("platform").set(database="never_made").render_as_string(hide_password=False)
    with pytest.raises(DatabaseError) as error:
        open_database(url, Path("unused"))
    made = "run `platform-assets migrate`, which makes it"
    assert str(error.value) == f"there is no database never_made on 127.0.0.1; {made}"
