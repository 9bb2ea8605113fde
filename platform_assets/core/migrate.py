"""Bringing the databases to the versions that this code needs: ours by Alembic, Dagster's and MLflow's by themselves.

Here, below the layers that know Dagster, because whoever starts the embedded server must report
it ready only when all three databases can be used. Six processes that each let MLflow create its
tables broke them for good: all migrating is done under one lock.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from platform_assets.core.database import MIGRATIONS, head, missing, revision
from platform_assets.core.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from platform_assets.core.database import Database, Purpose

# Any number that no other program takes in the same database; it spells "platform".
MIGRATION_LOCK = int.from_bytes(b"platform", "big")


def migrate(database: Database) -> list[str]:
    """Create the databases that are missing and bring all three to the versions that this code needs.

    Returns
    -------
    What was done, a line each; nothing when all was in place.

    Raises
    ------
    DatabaseError
        A database is missing and the role may not create it.

    """
    done = [f"created {database.name(purpose)}" for purpose in _create_missing(database)]
    with database.connect("platform") as connection:
        connection.execute("select pg_advisory_lock(%s)", [MIGRATION_LOCK])
        if (found := revision(connection)) != head():
            _migrate_platform(database)
            done.append(f"migrated {database.name('platform')} from {found} to {head()}")
        return done + _migrate_libraries(database, connection)


def _create_missing(database: Database) -> list[Purpose]:
    from psycopg import errors, sql

    with database.maintenance() as connection:
        created = []
        for purpose in missing(database, connection):
            name = database.name(purpose)
            try:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
                created.append(purpose)
            except errors.InsufficientPrivilege:
                user = connection.info.user
                raise DatabaseError(
                    f"the database {name} is missing, and the role {user} may not create databases; "
                    f'let an administrator run: create database "{name}" owner "{user}"'
                ) from None
            except (errors.DuplicateDatabase, errors.UniqueViolation):
                # Another process migrates as well; it waits with us for the lock.
                continue
    return created


def _migrate_platform(database: Database) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _migrate_libraries(database: Database, connection: psycopg.Connection[Any]) -> list[str]:
    """Migrate what is not at the installed libraries' versions; says what was done.

    Importing the libraries takes seconds. So `platform.library_schemas` keeps, for each database,
    which versions migrated it and where they left it; while both still hold, nothing is imported.
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
            if known == (versions, revision(its_connection, "alembic_version")):
                continue
            migrate(database)
            connection.execute(
                "insert into platform.library_schemas (name, versions, revision) values (%s, %s, %s)"
                " on conflict (name) do update"
                " set versions = excluded.versions, revision = excluded.revision, migrated_at = now()",
                [purpose, versions, revision(its_connection, "alembic_version")],
            )
            done.append(f"migrated {database.name(purpose)} to {versions}")
    return done


def _migrate_dagster(database: Database) -> None:
    from dagster_postgres import DagsterPostgresStorage

    # Creates the tables where there are none, at the newest version.
    storage = DagsterPostgresStorage(database.psycopg2_url("dagster"), should_autocreate_tables=True)
    # What `dagster instance migrate` does; that command would open our storage, which waits for us.
    storage._run_storage.upgrade()  # noqa: SLF001
    storage._run_storage.migrate()  # noqa: SLF001
    storage._event_log_storage.upgrade()  # noqa: SLF001
    storage._event_log_storage.reindex_assets()  # noqa: SLF001
    storage._schedule_storage.upgrade()  # noqa: SLF001
    storage._schedule_storage.migrate()  # noqa: SLF001


def _migrate_mlflow(database: Database) -> None:
    # MLflow reads it when it is imported.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow.store.db import utils
    from sqlalchemy import create_engine

    engine = create_engine(database.psycopg2_url("mlflow"))
    try:
        utils._safe_initialize_tables(engine)  # noqa: SLF001
        utils._upgrade_db(engine)  # type: ignore[no-untyped-call]  # noqa: SLF001
    finally:
        engine.dispose()
