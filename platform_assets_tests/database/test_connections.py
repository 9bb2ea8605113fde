from __future__ import annotations

import contextlib
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import create_engine, make_url, text

from platform_assets.base.errors import DatabaseError
from platform_assets.database.connections import MIGRATIONS, Database, head, revision
from platform_assets.database.migrate import migrate
from platform_assets.database.opening import open_database, open_owner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from platform_assets_tests.warm import WarmParent

MIGRATE = """
import sys
from pathlib import Path
from platform_assets.database.opening import open_database
from platform_assets.database.migrate import migrate

print("\\n".join(migrate(open_database(sys.argv[1], Path("unused"), migrated=False))))
"""


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


def test_migrating_again_does_nothing_and_imports_no_library(external: Database) -> None:
    code = f"{MIGRATE}\nassert not {{'mlflow', 'dagster', 'alembic'}} & set(sys.modules), sorted(sys.modules)"
    url = external.url("platform").render_as_string(hide_password=False)
    answer = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout.strip()) == (0, ""), answer.stderr


def print_migrations(url: str) -> None:
    """What `MIGRATE` does, in a process that has imported all."""
    sys.stdout.write("\n".join(migrate(open_database(url, Path("unused"), migrated=False))) + "\n")


@pytest.mark.slow
def test_missing_databases_are_made_and_migrated_once_by_two_at_the_same_time(
    external: Database, warm: WarmParent
) -> None:
    names = [external.name(purpose) for purpose in ("platform", "dagster", "mlflow")]
    with contextlib.closing(external.maintenance()) as connection:
        for name in names:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
    url = external.url("platform").render_as_string(hide_password=False)
    with contextlib.ExitStack() as ended:
        both = [ended.enter_context(warm.start(print_migrations, url)) for _ in range(2)]
        answers = [process.stdout.read() for process in both]
        assert [process.wait() for process in both] == [0, 0], answers
    done = [line.split(" to ")[0] for out in answers for line in out.splitlines() if line]
    assert sorted(done) == sorted(
        [f"created {name}" for name in names]
        + [f"migrated {names[0]} from None", f"migrated {names[1]}", f"migrated {names[2]}"]
    )
    open_database(url, Path("unused")).close()


@pytest.mark.requirement("PRO-5")
def test_what_the_libraries_made_as_the_owner_is_handed_over_to_the_role_that_the_platform_connects_with(
    external: Database, database_url: str
) -> None:
    limited = Database(make_url(database_url))
    role = sql.Identifier(external.role)
    names = {"dagster": "event_logs", "mlflow": "registered_models"}
    for purpose, table in names.items():
        with external.connect(purpose) as connection:  # type: ignore[arg-type]
            for thing in ("database {}", "table {}"):
                name = external.name(purpose) if "database" in thing else table  # type: ignore[arg-type]
                statement = sql.SQL(f"alter {thing} owner to {{}}").format(sql.Identifier(name), role)
                connection.execute(statement)
    assert migrate(limited, external) == [
        f"handed {external.name(purpose)} over to {limited.role}"  # type: ignore[arg-type]
        for purpose in names
    ]
    for purpose, table in names.items():
        with limited.connect(purpose) as connection:  # type: ignore[arg-type]
            connection.execute(f"alter table {table} add column new_column int".encode())
            connection.execute(b"create table another (id int)")
    assert migrate(limited, external) == []


@pytest.mark.requirement("PRO-5")
def test_rights_that_an_earlier_version_gave_are_taken_back(external: Database, database_url: str) -> None:
    limited = Database(make_url(database_url))
    with external.connect("platform") as connection:
        connection.execute(f"grant all on all tables in schema platform to {limited.role}".encode())
        connection.execute(f"grant create on schema platform to {limited.role}".encode())
    migrate(limited, external)
    with limited.connect("platform") as connection:
        rows = connection.execute(
            "select n.nspname || '.' || relname, array_agg(privilege_type order by privilege_type)"
            " from pg_class c join pg_namespace n on n.oid = relnamespace, aclexplode(relacl) given"
            " where relkind = 'r' and grantee = current_user::regrole and n.nspname in ('platform', 'credit_risk')"
            " group by 1 order by 1"
        ).fetchall()
        row = connection.execute("select has_schema_privilege('platform', 'create')").fetchone()
    everything = ["DELETE", "INSERT", "SELECT", "UPDATE"]
    assert dict(rows) == {
        "credit_risk.client_features": everything,
        "platform.alembic_version": ["SELECT"],
        "platform.api_key_revocations": ["INSERT", "SELECT"],
        "platform.api_keys": ["INSERT", "SELECT"],
        "platform.approval_events": ["INSERT", "SELECT"],
        "platform.approval_plots": ["INSERT", "SELECT"],
        "platform.approval_projections": ["INSERT", "SELECT"],
        "platform.approval_requests": ["INSERT", "SELECT"],
        "platform.library_schemas": ["SELECT"],
        "platform.online_tables": everything,
        "platform.predictions": everything,
    }
    assert row == (False,)


@pytest.fixture
def two_roles(postgres_server: Database) -> Iterator[tuple[str, str]]:
    """URLs of databases that are not there, as the platform's role and as one that may make them, no superuser."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    roles = [f"{name}_app", f"{name}_owner"]
    app, owner = map(sql.Identifier, roles)
    url = postgres_server.url("platform").set(drivername="postgresql", database=name, password="p")
    with contextlib.closing(postgres_server.maintenance()) as connection:
        connection.execute(sql.SQL("create role {} login password 'p'").format(app))
        connection.execute(sql.SQL("create role {} login createdb password 'p' in role {}").format(owner, app))
        yield tuple(url.set(username=role).render_as_string(hide_password=False) for role in roles)  # type: ignore[misc]
        for purpose in ("platform", "dagster", "mlflow"):
            clone = sql.Identifier(Database(url).name(purpose))
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(clone))
        connection.execute(sql.SQL("drop role {}, {}").format(owner, app))


@pytest.mark.slow
@pytest.mark.requirement("PRO-5", "PLT-4")
def test_two_roles_of_a_server_that_is_not_ours_divide_the_rights(two_roles: tuple[str, str], tmp_path: Path) -> None:
    limited, owner = open_database(two_roles[0], tmp_path, migrated=False), open_owner(two_roles[1], tmp_path)
    with contextlib.closing(owner):
        assert [line.split(" ")[0] for line in migrate(limited, owner)] == ["created"] * 3 + ["migrated"] * 3
        assert migrate(limited, owner) == []
    with open_database(two_roles[0], tmp_path).connect("platform") as connection:
        connection.execute("insert into platform.online_tables (name, digest, rows) values ('x', 'd', 1)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("delete from platform.approval_events")


@pytest.mark.parametrize(("take", "said"), [("revoke {app} from {owner}", 'owner "{app}"'), ("", "")])
def test_an_owner_that_may_not_give_databases_away_is_told_what_to_ask_for(
    two_roles: tuple[str, str], postgres_server: Database, tmp_path: Path, take: str, said: str
) -> None:
    limited, owner = open_database(two_roles[0], tmp_path, migrated=False), open_owner(two_roles[1], tmp_path)
    if not take:
        missing = make_url(two_roles[0]).set(username="never_made")
        with pytest.raises(DatabaseError, match='owner "never_made"'):
            migrate(Database(missing), owner)
        return
    with contextlib.closing(postgres_server.maintenance()) as connection:
        connection.execute(take.format(app=limited.role, owner=owner.role).encode())
    with pytest.raises(DatabaseError) as error:
        migrate(limited, owner)
    assert "let an administrator run: create database" in str(error.value)
    assert said.format(app=limited.role) in str(error.value)


def test_a_role_that_may_not_create_databases_is_told_what_to_ask_for(external: Database) -> None:
    role = f"{external.name('platform')}_limited"
    with contextlib.closing(external.maintenance()) as connection:
        connection.execute(sql.SQL("create role {} login password 'p'").format(sql.Identifier(role)))
        try:
            url = external.url("platform").set(username=role, password="p", database=f"{role}_db")
            with pytest.raises(DatabaseError) as error:
                migrate(Database(url))
        finally:
            connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))
    assert f'create database "{role}_db" owner "{role}"' in str(error.value)


def test_the_file_names_tell_the_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [head()]


def test_the_migrations_can_be_taken_back_and_made_again(external: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    for step, expected in ((command.downgrade, None), (command.upgrade, head())):
        with external.engine.connect() as connection:
            config.attributes["connection"] = connection
            step(config, "head" if expected else "base")
        with external.connect("platform") as plain:
            assert revision(plain) == expected
