from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import uuid
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import make_url

from platform_assets.base.errors import DatabaseError
from platform_assets.database.connections import Database
from platform_assets.database.ledger_rights import LEDGER_ROLE
from platform_assets.database.migrate import alembic_config, migrate
from platform_assets.database.opening import open_database, open_owner, require_heads
from platform_assets.database.revisions import DOMAINS, current_heads, find_branches, wanted_heads
from platform_assets_tests.database.test_revisions import NEWEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from alembic.config import Config

    from platform_assets.database.connections import Purpose
    from platform_assets_tests.warm import WarmParent

MIGRATE = """
import sys
from pathlib import Path
from platform_assets.database.opening import open_database
from platform_assets.database.ledger_rights import LEDGER_ROLE
from platform_assets.database.migrate import migrate

print("\\n".join(migrate(open_database(sys.argv[1], Path("unused"), migrated=False))))
"""


def test_second_migration_does_nothing_and_imports_no_library(external: Database) -> None:
    code = f"{MIGRATE}\nassert not {{'mlflow', 'dagster', 'alembic'}} & set(sys.modules), sorted(sys.modules)"
    url = external.url("platform").render_as_string(hide_password=False)
    answer = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout.strip()) == (0, ""), answer.stderr


def print_migrations(url: str) -> None:
    """Migrate like `MIGRATE`, but in a process that has imported all modules."""
    sys.stdout.write("\n".join(migrate(open_database(url, Path("unused"), migrated=False))) + "\n")


@pytest.mark.slow
def test_concurrent_migrations_create_missing_databases_once(external: Database, warm: WarmParent) -> None:
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
        + [f"migrated {names[0]} from no revision", f"migrated {names[1]}", f"migrated {names[2]}"]
    )
    open_database(url, Path("unused")).close()


@pytest.mark.requirement("PRO-9", "PLT-12")
@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_is_not_encoded_in_utf_8_is_refused_without_a_traceback(
    external: Database, encoding: str
) -> None:
    name = external.name("mlflow")
    with contextlib.closing(external.maintenance()) as connection:
        change = "update pg_database set encoding = pg_char_to_encoding(%s) where datname = %s"
        connection.execute(change, [encoding, name])
    told = f"the database {name} has the encoding {encoding}, but the platform needs UTF8; .*"
    with pytest.raises(
        DatabaseError, match=f"^{told}create database .* encoding 'UTF8' locale 'C' template template0$"
    ):
        migrate(external)
    with pytest.raises(DatabaseError, match=told):
        require_heads(external)
    with contextlib.closing(external.maintenance()) as connection:
        connection.execute(sql.SQL("drop database {}").format(sql.Identifier(name)))


@pytest.mark.requirement("PRO-5")
def test_the_service_role_becomes_the_owner_of_the_library_databases(external: Database, database_url: str) -> None:
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
        f"made {limited.role} the owner of {external.name(purpose)}"  # type: ignore[arg-type]
        for purpose in names
    ]
    for purpose, table in names.items():
        with limited.connect(purpose) as connection:  # type: ignore[arg-type]
            connection.execute(f"alter table {table} add column new_column int".encode())
            connection.execute(b"create table another (id int)")
    assert migrate(limited, external) == []


@pytest.mark.requirement("PRO-5", "PRO-9")
@pytest.mark.parametrize("purpose", ["dagster", "mlflow"])
def test_migrate_does_not_run_code_of_the_platform_role_as_the_owner(
    external: Database, database_url: str, purpose: Purpose
) -> None:
    """In its own databases, the platform's role may create operators that take precedence over PostgreSQL's own."""
    limited = Database(make_url(database_url))
    with closing(limited.connect(purpose)) as connection:
        connection.execute("create table public.ran_as (role name)")
        connection.execute(
            "create function public.trap(oid, regrole) returns boolean language plpgsql as"
            " 'begin insert into public.ran_as values (current_user); return false; end'"
        )
        connection.execute("create operator public.<> (function = public.trap, leftarg = oid, rightarg = regrole)")
        migrate(limited, external)
        assert connection.execute("select role from public.ran_as").fetchall() == []


@pytest.mark.requirement("PRO-5")
def test_migrate_revokes_rights_that_the_service_role_had_before(external: Database, database_url: str) -> None:
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
        "platform.api_key_revocations": ["SELECT"],
        "platform.api_keys": ["SELECT"],
        "platform.approval_events": ["SELECT"],
        "platform.approval_journal": ["SELECT"],
        "platform.approval_plots": ["SELECT"],
        "platform.approval_projections": ["SELECT"],
        "platform.approval_requests": ["SELECT"],
        "platform.case_folding": ["SELECT"],
        "platform.drift": everything,
        "platform.drift_batches": everything,
        "platform.drift_evidence": everything,
        "platform.estimated_performance": everything,
        "platform.backups": ["INSERT", "SELECT"],
        "platform.erasures": ["SELECT"],
        "platform.incident_messages": everything,
        "platform.incidents": everything,
        "platform.labels": ["INSERT", "SELECT"],
        "platform.lake": everything,
        "platform.landing_files": everything,
        "platform.landing_names": everything,
        "platform.library_schemas": ["SELECT"],
        "platform.online_tables": everything,
        "platform.online_versions": everything,
        "platform.predictions": everything,
        "platform.refused_labels": ["INSERT", "SELECT"],
        "platform.request_statistics": everything,
        "platform.sessions": ["SELECT"],
        "platform.shadow_losses": everything,
        "platform.shadow_predictions": everything,
        "platform.supported_revisions": ["SELECT"],
        "platform.watch_heartbeats": everything,
    }
    assert row == (False,)


@pytest.fixture
def two_roles(postgres_server: Database) -> Iterator[tuple[str, str]]:
    """URLs for the service role and for an owner with CREATEDB (not superuser). The databases do not exist yet."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    roles = [f"{name}_app", f"{name}_owner"]
    app, owner = map(sql.Identifier, roles)
    url = postgres_server.url("platform").set(drivername="postgresql", database=name, password="p")
    with contextlib.closing(postgres_server.maintenance()) as connection:
        connection.execute(sql.SQL("create role {} login password 'p'").format(app))
        create = "create role {} login createdb password 'p' in role {}, {}"
        connection.execute(sql.SQL(create).format(owner, app, sql.Identifier(LEDGER_ROLE)))
        yield tuple(url.set(username=role).render_as_string(hide_password=False) for role in roles)  # type: ignore[misc]
        for purpose in ("platform", "dagster", "mlflow"):
            clone = sql.Identifier(Database(url).name(purpose))
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(clone))
        connection.execute(sql.SQL("drop role {}, {}").format(owner, app))


@pytest.mark.slow
@pytest.mark.requirement("PRO-5", "PLT-4")
def test_the_service_role_of_an_external_server_cannot_change_the_ledger(
    two_roles: tuple[str, str], tmp_path: Path
) -> None:
    limited, owner = open_database(two_roles[0], tmp_path, migrated=False), open_owner(two_roles[1], tmp_path)
    with contextlib.closing(owner):
        assert [line.split(" ")[0] for line in migrate(limited, owner)] == ["created"] * 3 + ["migrated"] * 3
        assert migrate(limited, owner) == []
    with open_database(two_roles[0], tmp_path).connect("platform") as connection:
        connection.execute("insert into platform.online_tables (name, digest, rows) values ('x', 'd', 1)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("delete from platform.approval_events")


@pytest.mark.parametrize(("take", "said"), [("revoke {app} from {owner}", 'owner "{app}"'), ("", "")])
def test_missing_right_to_change_the_owner_of_databases_is_reported_with_the_fix(
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
    assert "ask an administrator to run: create database" in str(error.value)
    assert said.format(app=limited.role) in str(error.value)


def test_missing_right_to_create_databases_is_reported_with_the_fix(external: Database) -> None:
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


def alembic(database: Database, step: Callable[[Config, str], None], revision: str, domains: Path = DOMAINS) -> None:
    """Run an Alembic command with the configuration of `migrate`."""
    config = alembic_config(find_branches(domains))
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        step(config, revision)


def heads_of(database: Database) -> set[str]:
    with database.connect("platform") as connection:
        return set(current_heads(connection))


def test_heads_from_file_names_equal_those_of_alembic() -> None:
    heads = ScriptDirectory.from_config(alembic_config(find_branches())).get_heads()
    assert sorted(heads) == sorted(wanted_heads())


def test_migrations_can_be_downgraded_and_upgraded(external: Database) -> None:
    alembic(external, command.downgrade, "base")
    assert heads_of(external) == set()
    # `migrate` upgrades the shared branch first, because migrations of domains may use its tables and functions.
    alembic(external, command.upgrade, "platform@head")
    alembic(external, command.upgrade, "heads")
    assert heads_of(external) == wanted_heads()


def comments(database: Database) -> dict[str, str | None]:
    """Return the comment of each table and column of the platform's database, by `<schema>.<table>[.<column>]`."""
    query = """
    select concat_ws('.', nspname, relname, attname), col_description(c.oid, coalesce(attnum, 0))
    from pg_class c join pg_namespace n on n.oid = relnamespace
    cross join lateral (
        select null as attname, null as attnum union all
        select attname, attnum from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped
    ) described
    where relkind in ('r', 'p', 'v', 'm') and nspname !~ '^pg_' and nspname <> 'information_schema'
    """
    with database.connect("platform") as connection:
        return dict(connection.execute(query).fetchall())


def test_every_table_and_column_has_a_comment(external: Database) -> None:
    found = comments(external)
    assert "platform.predictions.score" in found
    assert [name for name, comment in found.items() if not comment] == []


def test_an_existing_database_gets_the_new_comments(external: Database) -> None:
    """The earlier migrations must still write the old comments, because their SQL must not be edited."""
    alembic(external, command.downgrade, "base")
    for revision in ("0017", "arxiv_harvest_0001", "esios_demand_0003", "sensor_maintenance_0001"):
        alembic(external, command.upgrade, revision)
    before = comments(external)
    migrate(external)
    after = comments(external)
    changed = {
        "platform.approval_events": (
            "What happened to requests, chained by hashes over all of them.",
            "Events of all approval requests, in one hash chain.",
        ),
        "platform.approval_requests.expires_at": (
            "From when on it cannot be decided any more.",
            "Time at which the request expires.",
        ),
        "platform.library_schemas.migrated_at": (None, "Time of the migration."),
        "arxiv_harvest.results.query_id": ("The query.", "`id` of the search in the table queries."),
        "esios_demand.forecasts.demand_mw": ("Forecast of the demand.", "Forecast demand, in MW."),
        "sensor_maintenance.devices.file_digest": (
            "File of the reading.",
            "SHA-256 of the content of the file that contained the reading.",
        ),
    }
    assert {name: (before[name], after[name]) for name in changed} == changed


def write_migration(domains: Path, name: str, upgrade: str = "", downgrade: str = "", **changed: Any) -> Path:
    """Write the migration `<domain>_<number>_<what>`, whose `down_revision` is the previous number."""
    domain, number, _ = name.split("_")
    first = int(number) == 1
    values = {
        "revision": f"{domain}_{number}",
        "down_revision": None if first else f"{domain}_{int(number) - 1:04}",
        "branch_labels": (domain,) if first else None,
        "depends_on": None,
    } | changed
    lines = ["from alembic import op", *(f"{key} = {value!r}" for key, value in values.items())]
    lines += ["def upgrade():", f"    op.execute({upgrade!r})", "def downgrade():", f"    op.execute({downgrade!r})"]
    path = domains / domain / "migrations" / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def domains(tmp_path: Path, external: Database) -> Path:
    """A folder with two domains that own tables. A table of `bakery` refers to a table of the platform.

    The tables of the real domains are removed from the database.
    """
    for branch in find_branches()[1:]:
        alembic(external, command.downgrade, f"{branch.label}@base")
    domains = tmp_path / "100%" / "domains"
    write_migration(
        domains,
        "bakery_0001_loaves",
        "create schema bakery; create table bakery.loaves (batch uuid, place int,"
        " foreign key (batch, place) references platform.predictions)",
        "drop schema bakery cascade",
    )
    write_migration(
        domains,
        "shop_0001_orders",
        "create schema if not exists shop;"
        "create table shop.orders (id bigint generated always as identity primary key, item text)",
        "drop schema shop cascade",
    )
    write_migration(
        domains,
        "shop_0002_receipts",
        "create table shop.receipts (id bigint);"
        "create trigger append_only before update or delete or truncate on shop.receipts"
        " for each statement execute function platform.refuse_change()",
        "drop table shop.receipts",
    )
    return domains


@pytest.fixture
def limited(database_url: str) -> Iterator[Database]:
    """The same databases as `external`, connected as the service role."""
    with contextlib.closing(Database(make_url(database_url))) as database:
        yield database


def test_domain_branch_is_upgraded_once_after_the_platform_branch(
    external: Database, limited: Database, domains: Path
) -> None:
    alembic(external, command.downgrade, "0002")
    assert heads_of(external) == {"0002"}
    heads = f"{NEWEST}, bakery_0001, shop_0002"
    assert migrate(limited, external, domains) == [
        f"migrated {external.name('platform')} from 0002 to {heads}",
    ]
    assert heads_of(external) == set(heads.split(", "))
    require_heads(limited, domains)
    assert migrate(limited, external, domains) == []


def test_service_role_gets_rights_on_domain_tables(external: Database, limited: Database, domains: Path) -> None:
    migrate(limited, external, domains)
    with limited.connect("platform") as connection:
        connection.execute("insert into shop.orders (item) values ('bread'), ('cake')")
        connection.execute("delete from shop.orders where item = 'cake'")
        assert connection.execute("update shop.orders set item = 'roll' returning id, item").fetchall() == [(1, "roll")]
        connection.execute("insert into shop.receipts values (1)")
        for forbidden in (b"delete from shop.receipts", b"drop table shop.orders", b"create table shop.more (id int)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(forbidden)


def test_migrations_of_a_new_domain_make_the_database_outdated(
    external: Database, limited: Database, domains: Path
) -> None:
    with external.connect("platform") as connection:
        assert connection.execute("select version_num from platform.alembic_version").fetchall() == [(NEWEST,)]
    assert migrate(limited, external, domains.parent) == []
    require_heads(limited, domains.parent)
    with pytest.raises(
        DatabaseError, match=f"is at revision {NEWEST}, but this code needs {NEWEST}, bakery_0001, shop_0002; run"
    ):
        require_heads(limited, domains)


def test_tables_of_a_deleted_domain_are_reported_with_the_fix(
    external: Database, limited: Database, domains: Path
) -> None:
    migrate(limited, external, domains)
    shutil.rmtree(domains / "shop")
    # The tables of a domain without code are accepted as long as there is nothing to migrate.
    require_heads(limited, domains)
    write_migration(domains, "bakery_0002_rolls", "select 1")
    for use in (lambda: migrate(limited, external, domains), lambda: require_heads(limited, domains)):
        with pytest.raises(DatabaseError) as error:
            use()
        assert str(error.value) == (
            f"the database {external.name('platform')} has tables of the domain shop at revision shop_0002, but this "
            f"code has no folder {domains}/shop/migrations; restore that folder, or remove the domain permanently: "
            "drop its tables as their owner, and delete the row shop_0002 of platform.alembic_version"
        )
    with external.connect("platform") as connection:
        connection.execute("drop schema shop cascade")
        connection.execute("delete from platform.alembic_version where version_num = 'shop_0002'")
    migrate(limited, external, domains)
    assert heads_of(external) == {NEWEST, "bakery_0002"}


def test_a_domain_branch_can_be_downgraded_alone(external: Database, limited: Database, domains: Path) -> None:
    migrate(limited, external, domains)
    alembic(external, command.downgrade, "shop@base", domains)
    assert heads_of(external) == {NEWEST, "bakery_0001"}


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("shop_0001_orders", {"revision": "0001"}, "revision = '0001'; it must be 'shop_0001'"),
        ("shop_0001_orders", {"down_revision": "0003"}, "down_revision = '0003'; it must be None"),
        ("shop_0001_orders", {"depends_on": "0003"}, "depends_on = '0003'; it must be None"),
        ("shop_0001_orders", {"branch_labels": None}, "branch_labels = None; it must be ('shop',)"),
        ("shop_0001_orders", {"branch_labels": ("platform",)}, "= ('platform',); it must be ('shop',)"),
        ("shop_0002_receipts", {"down_revision": None}, "down_revision = None; it must be 'shop_0001'"),
    ],
)
def test_migration_whose_identifiers_contradict_its_file_name_is_refused(
    external: Database, domains: Path, name: str, changed: dict[str, Any], said: str
) -> None:
    path = write_migration(domains, name, **changed)
    with pytest.raises(DatabaseError) as error:
        migrate(external, domains=domains)
    assert str(error.value).startswith(f"the migration {path} has ")
    assert str(error.value).endswith(said)
    assert heads_of(external) == {NEWEST}
