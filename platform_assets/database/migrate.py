"""Migrate the platform's tables with Alembic, and Dagster's and MLflow's tables with their libraries; grant rights.

The platform's tables come from several branches of migrations. The branch `platform`, in
`database/migrations/versions`, contains all tables except those of domains. A domain that owns tables puts its
migrations into its own flat folder:

    domains/shop/migrations/shop_0001_orders.py     revision = "shop_0001", branch_labels = ("shop",)
    domains/shop/migrations/shop_0002_customers.py  revision = "shop_0002", down_revision = "shop_0001"

- A file name begins with the revision, and a revision begins with the domain's name, so that a database shows which
  domains own tables in it, even after a domain was deleted.
- The first migration has `down_revision = None`. No migration has `depends_on`. The branch `platform` is upgraded
  first, then the domains' branches by name.
- The folders are found on disk; no domain is imported and there is no list of them.
- A migration only adds objects or changes comments, so that the previous release still works after the migration and
  a rollback is possible. To remove something that no release uses any more, set `oldest_code = "shop_0002"` in the
  migration: code at an older revision then refuses the database.
- The first migration creates the schema, named after the domain (`create schema if not exists shop`), and its tables.
  Each table and column has a comment. A migration contains no GRANT, because `grant` later gives the service role
  rights on the rows of every table. In a table with a trigger named `append_only`, the role may only select and
  insert rows; the trigger can call `platform.refuse_change()`. Only functions write the ledger's tables
  (`ledger_rights.py`). To number rows, use an identity column, because the sequence of a serial column needs a right
  that the role does not get.

Dagster's and MLflow's databases are migrated here too, because the embedded server must not be reported as ready
before all three databases can be used. One lock covers all migrations, because concurrent migrations corrupted MLflow's
tables.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import DatabaseError, first_line
from platform_assets.database.connections import AS_UTF8, missing, require_utf8
from platform_assets.database.ledger_rights import RIGHTS, guard
from platform_assets.database.older_code import can_use, record_supported, supported_revisions
from platform_assets.database.policies import write_policies, write_rules
from platform_assets.database.revisions import (
    DOMAINS,
    MIGRATIONS,
    current_heads,
    find_branches,
    listed,
    refuse_unknown,
    wanted_heads,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import psycopg
    from alembic.config import Config

    from platform_assets.database.connections import Database, Purpose
    from platform_assets.database.revisions import Branch

MIGRATION_LOCK = int.from_bytes(b"platform", "big")
"""Number of the advisory lock that a migration holds."""
APPEND_ONLY = "append_only"
"""Name of the trigger of append-only tables, in which the service role may only select and insert rows."""
_READ_ONLY = {
    ("platform", table) for table in ("alembic_version", "supported_revisions", "library_schemas", "erasures", *RIGHTS)
}
"""Tables that the service role may only read."""
_LIBRARIES: tuple[Purpose, ...] = ("dagster", "mlflow")
# Search no other schema. The platform's role owns the libraries' databases, so it could define operators in them, and
# the owner's statements would then call those operators.
_TRUST_NO_SCHEMA = b"set search_path = pg_catalog, pg_temp"


@dataclass(frozen=True)
class Rules:
    """Rules for decisions, which the database enforces.

    Attributes
    ----------
    identity_required
        Whether a decision needs a key.
    policies
        The approval policy of each model, as JSON.
    """

    identity_required: bool
    policies: Mapping[str, Mapping[str, Any]]


def migrate(
    database: Database, owner: Database | None = None, domains: Path = DOMAINS, rules: Rules | None = None
) -> list[str]:
    """Create missing databases and upgrade all three to the revisions that this code needs.

    Parameters
    ----------
    database
        The databases with the service role. This role becomes the owner of Dagster's and MLflow's databases, because
        their libraries alter tables. In the platform's database it gets rights on rows only.
    owner
        The databases with the owner role, which owns the platform's tables; None if `database` has that role.
    domains
        Folder with one folder for each domain.
    rules
        The rules to record; None to keep the recorded rules.

    Returns
    -------
    A line for each change; empty if everything was up to date.

    Raises
    ------
    DatabaseError
        A database is missing and the role may not create it; a database is not in UTF-8; a right cannot be granted;
        newer code made changes that this code cannot use; or the identifiers of a migration contradict its file name.
    """
    if owner is None or owner.role == database.role:
        owner = database
    done = [f"created {database.name(purpose)}" for purpose in create_missing(owner, database.role)]
    with owner.connect("platform") as connection:
        connection.execute(_TRUST_NO_SCHEMA)
        connection.execute("select pg_advisory_lock(%s)", [MIGRATION_LOCK])
        found, wanted = current_heads(connection), wanted_heads(domains)
        newer = found - wanted if can_use(wanted, found, supported_revisions(connection)) else frozenset()
        if newer:
            name = database.name("platform")
            done.append(f"did not change {name}, because newer code already migrated it to {listed(newer)}")
        elif found != wanted:
            refuse_unknown(found, database.name("platform"), domains)
            _migrate_platform(owner, domains)
            done.append(
                f"migrated {database.name('platform')} from {listed(found) or 'no revision'} to {listed(wanted)}"
            )
        if owner is not database:
            # Keep the rights that newer code granted, because this code does not know which newer tables to protect.
            if not newer:
                grant(connection, database.role)
            done += [line for purpose in _LIBRARIES for line in _hand_over(owner, purpose, database.role)]
        if rules is not None:
            done += write_rules(connection, identity_required=rules.identity_required)
            done += write_policies(connection, rules.policies)
        return done + _migrate_libraries(database, connection)


def make_role(owner: Database, role: str, password: str) -> None:
    """Create a role that can log in, or set its password; only a SCRAM verifier is sent to the server."""
    from psycopg import sql

    with owner.maintenance() as connection:
        secret = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
        there = connection.execute("select from pg_roles where rolname = %s", [role]).fetchone()
        statement = "alter role {} login password {}" if there is not None else "create role {} login password {}"
        connection.execute(sql.SQL(statement).format(sql.Identifier(role), sql.Literal(secret)))


def create_missing(owner: Database, role: str) -> list[Purpose]:
    """Create those of the three databases that do not exist, and return them.

    Parameters
    ----------
    owner
        The databases with the owner role.
    role
        The service role, which becomes the owner of Dagster's and MLflow's databases.

    Raises
    ------
    DatabaseError
        The owner role may not create a database, or an existing database is not in UTF-8.
    """
    from psycopg import errors, sql

    with owner.maintenance() as connection:
        created = []
        options = _creation_options(connection)
        for purpose in missing(owner, connection):
            name = owner.name(purpose)
            its_owner = owner.role if purpose == "platform" else role
            whose = sql.SQL(" owner {}").format(sql.Identifier(its_owner)) if its_owner else sql.SQL("")
            try:
                connection.execute(sql.SQL("create database {}{}{}").format(sql.Identifier(name), whose, options))
                created.append(purpose)
            except (errors.InsufficientPrivilege, errors.UndefinedObject):
                user = connection.info.user
                raise DatabaseError(
                    f"the database {name} is missing, and the role {user} may not create databases for {its_owner}; "
                    f'ask an administrator to run: create database "{name}" owner "{its_owner or user}"'
                ) from None
            except (errors.DuplicateDatabase, errors.UniqueViolation):
                # Another process, which is migrating at the same time, has already created the database.
                continue
        require_utf8(owner, connection)
    return created


def _creation_options(connection: psycopg.Connection[Any]) -> psycopg.sql.SQL:
    """Return the options for new databases: none if the server's template is in UTF-8."""
    from psycopg import sql

    template = b"select pg_encoding_to_char(encoding) = 'UTF8' from pg_database where datname = 'template1'"
    return sql.SQL("" if connection.execute(template).fetchone() == (True,) else f" {AS_UTF8}")


def grant(connection: psycopg.Connection[Any], role: str) -> None:
    """Grant the service role the rights on rows that it needs in the platform's database, and revoke all others."""
    from psycopg import errors, sql

    tables = connection.execute(
        "select n.nspname, c.relname,"
        " exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgname = %s)"
        " from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where c.relkind in ('r', 'p') and n.nspname !~ '^pg_' and n.nspname not in ('public', 'information_schema')"
        " and pg_has_role(current_user, n.nspowner, 'usage')",
        [APPEND_ONLY],
    ).fetchall()
    try:
        with connection.transaction():
            database = sql.Identifier(connection.info.dbname)
            connection.execute(
                sql.SQL("grant connect, temporary on database {} to {}").format(database, sql.Identifier(role))
            )
            for schema in sorted({schema for schema, _, _ in tables}):
                _give(connection, sql.SQL("usage"), sql.SQL("schema {}").format(sql.Identifier(schema)), role)
            for schema, table, append_only in tables:
                rights = "select, insert" if append_only else "select, insert, update, delete"
                if (schema, table) in _READ_ONLY:
                    rights = "select"
                _give(connection, sql.SQL(rights), sql.SQL("table {}").format(sql.Identifier(schema, table)), role)
    except (errors.InsufficientPrivilege, errors.UndefinedObject) as error:
        raise DatabaseError(
            f"the role {connection.info.user} cannot grant rights to the role {role} ({first_line(error)}); "
            "PLATFORM_DATABASE_URL must name a role that exists, and PLATFORM_MIGRATION_DATABASE_URL must name the "
            "role that owns the tables"
        ) from None
    guard(connection, role)


def _give(connection: psycopg.Connection[Any], rights: Any, thing: Any, role: str) -> None:
    from psycopg import sql

    # First revoke rights that an earlier release granted. Both statements run in the caller's transaction.
    connection.execute(sql.SQL("revoke all on {} from {}").format(thing, sql.Identifier(role)))
    connection.execute(sql.SQL("grant {} on {} to {}").format(rights, thing, sql.Identifier(role)))


def _hand_over(owner: Database, purpose: Purpose, role: str) -> list[str]:
    """Make the service role the owner of a library's database and of everything in it."""
    from psycopg import errors, sql

    name = owner.name(purpose)
    with owner.connect(purpose) as connection:
        connection.execute(_TRUST_NO_SCHEMA)
        theirs = connection.execute(
            "select format('database %%I', datname) from pg_database"
            " where datname = current_database() and datdba <> to_regrole(%(role)s)"
            " union all select format('%%s %%I.%%I', case relkind when 'v' then 'view' when 'S' then 'sequence'"
            " else 'table' end, nspname, relname) from pg_class c join pg_namespace n on n.oid = relnamespace"
            " where nspname = 'public' and relkind in ('r', 'p', 'v', 'S') and relowner <> to_regrole(%(role)s)"
            # Leave out sequences of identity and serial columns, because they change owner together with their table.
            " and not exists (select from pg_depend d where d.objid = c.oid and d.deptype in ('a', 'i'))"
            " union all select format('type %%I.%%I', nspname, typname) from pg_type t"
            " join pg_namespace n on n.oid = typnamespace"
            " where nspname = 'public' and typtype = 'e' and typowner <> to_regrole(%(role)s)",
            {"role": f'"{role}"'},
        ).fetchall()
        try:
            with connection.transaction():
                for (thing,) in theirs:
                    connection.execute(sql.SQL("alter {} owner to {}").format(sql.SQL(thing), sql.Identifier(role)))
        except errors.InsufficientPrivilege as error:
            raise DatabaseError(
                f"the database {name} must be owned by the role {role}, but {connection.info.user} may not transfer it "
                f'({first_line(error)}); ask an administrator to run: grant "{role}" to "{connection.info.user}"'
            ) from None
    return [f"made {role} the owner of {name}"] if theirs else []


def _migrate_platform(database: Database, domains: Path) -> None:
    """Upgrade each branch to its head in its own transaction, the branch `platform` first."""
    from alembic import command

    branches = find_branches(domains)
    for branch in branches:
        _check_branch(branch)
    config = alembic_config(branches)
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        for branch in branches:
            command.upgrade(config, f"{branch.label}@head")
    record_supported(database, branches)


def alembic_config(branches: list[Branch]) -> Config:
    """Return Alembic's configuration for the given branches; the caller sets `attributes["connection"]`."""
    from alembic.config import Config

    folders = dict.fromkeys(str(path.parent) for branch in branches for path in branch.files.values())
    config = Config()
    for option, value in {
        "script_location": str(MIGRATIONS),
        "path_separator": "newline",
        "version_locations": "\n".join(folders),
    }.items():
        config.set_main_option(option, value.replace("%", "%%"))
    return config


def _check_branch(branch: Branch) -> None:
    """Raise an error if the identifiers of a migration contradict its file name."""
    from alembic.util import load_python_file

    before = None
    for revision, path in branch.files.items():
        module = load_python_file(str(path.parent), path.name)
        needed = {
            "revision": revision,
            "down_revision": before,
            "branch_labels": None if before else (branch.label,),
            "depends_on": None,
        }
        for name, value in needed.items():
            if (found := getattr(module, name, None)) != value:
                raise DatabaseError(f"the migration {path} has {name} = {found!r}; it must be {value!r}")
        before = revision


def _migrate_libraries(database: Database, connection: psycopg.Connection[Any]) -> list[str]:
    """Migrate Dagster's and MLflow's tables to the installed versions; return a line for each change.

    For each database, `platform.library_schemas` records the library version of the last migration and the revision
    that it reached. While both are current, the libraries are not imported, because that takes seconds.
    """
    done = []
    work: list[tuple[Purpose, str, Callable[[Database], None]]] = [
        ("dagster", f"dagster {version('dagster')}, dagster-postgres {version('dagster-postgres')}", _migrate_dagster),
        ("mlflow", f"mlflow {version('mlflow')}", _migrate_mlflow),
    ]
    for purpose, versions, migrate in work:
        known = connection.execute(
            "select versions, revision from platform.library_schemas where name = %s", [purpose]
        ).fetchone()
        with database.connect(purpose) as its_connection:
            if known == (versions, _library_revision(its_connection)):
                continue
            try:
                migrate(database)
            except Exception as error:  # noqa: BLE001 - a library can raise any error at an unknown revision
                revision = _library_revision(its_connection)
                raise DatabaseError(
                    f"{versions} cannot migrate the database {database.name(purpose)} from revision {revision} "
                    f"({first_line(error)}); if a newer version of the library migrated it, install that version"
                ) from None
            connection.execute(
                "insert into platform.library_schemas (name, versions, revision) values (%s, %s, %s)"
                " on conflict (name) do update"
                " set versions = excluded.versions, revision = excluded.revision, migrated_at = now()",
                [purpose, versions, _library_revision(its_connection)],
            )
            done.append(f"migrated {database.name(purpose)} to {versions}")
    return done


def _library_revision(connection: psycopg.Connection[Any]) -> str | None:
    return listed(current_heads(connection, "alembic_version")) or None


def _migrate_dagster(database: Database) -> None:
    from dagster_postgres import DagsterPostgresStorage

    # Opening the storage creates missing tables at the newest version.
    storage = DagsterPostgresStorage(database.psycopg2_url("dagster"), should_autocreate_tables=True)
    # Run the steps of `dagster instance migrate`. The command itself would open this instance's storage, which waits
    # for this migration.
    storage._run_storage.upgrade()  # noqa: SLF001 - no public API
    storage._run_storage.migrate()  # noqa: SLF001 - no public API
    storage._event_log_storage.upgrade()  # noqa: SLF001 - no public API
    storage._event_log_storage.reindex_assets()  # noqa: SLF001 - no public API
    storage._schedule_storage.upgrade()  # noqa: SLF001 - no public API
    storage._schedule_storage.migrate()  # noqa: SLF001 - no public API


def _migrate_mlflow(database: Database) -> None:
    # MLflow reads this variable when it is imported.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow.store.db import utils
    from sqlalchemy import create_engine

    engine = create_engine(database.psycopg2_url("mlflow"))
    try:
        utils._safe_initialize_tables(engine)  # noqa: SLF001 - no public API
        utils._upgrade_db(engine)  # type: ignore[no-untyped-call]  # noqa: SLF001 - no public API, no types
    finally:
        engine.dispose()
