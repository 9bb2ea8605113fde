"""Fixtures of real PostgreSQL: one embedded server for the whole session, and databases of its own for each test.

Loaded by `conftest.py` as a plugin.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest
from psycopg import sql
from sqlalchemy import make_url

from platform_assets.core.database import Database, Purpose, open_database, open_owner
from platform_assets.core.migrate import grant
from platform_assets.core.postgres_server import APP, ServerFolder, release, try_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Cloning locks its template; two workers at once would be refused.
CLONING = 7_403_611
OPEN_ONCE = """
import sys
from pathlib import Path
from platform_assets.core.database import open_database

open_database("", Path(sys.argv[1]))
"""


def wait_until(condition: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Poll until the condition holds; fails, saying what did not come, after a time no machine needs."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} s in vain until {what}")
        time.sleep(0.02)


def processes_of(home: Path) -> list[str]:
    """Command lines of the embedded server and its watcher, children of the server apart."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            # A process that has ended and waits for its parent shows no command line.
            command = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if f"{home}/postgres" in command:
            found.append(f"{process.parent.name}: {command}")
    return found


def is_watched(home: Path) -> bool:
    """Whether a watcher holds its lock. A killed one does for a moment after its command line has gone."""
    lock = try_lock(ServerFolder(home / "postgres").watcher_lock, fcntl.LOCK_EX)
    if lock is not None:
        release(lock)
    return lock is None


def wait_until_stopped(home: Path) -> None:
    """Wait until an embedded server that nobody uses any more has left nothing behind."""
    wait_until(lambda: not processes_of(home) and not is_watched(home), f"server and watcher of {home} were gone")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this session share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def migrated_home(shared_folder: Path) -> Path:
    """A home whose embedded server was migrated and stopped. Only to be copied, which is faster than migrating."""
    home = shared_folder / "migrated_home"
    with (shared_folder / "migrated_home.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "done").exists():
            subprocess.run([sys.executable, "-c", OPEN_ONCE, home], check=True)
            wait_until_stopped(home)
            (home / "done").touch()
    return home


@pytest.fixture
def embedded_home(migrated_home: Path, tmp_path: Path) -> Iterator[Path]:
    """A home of this test's own with an embedded server that is migrated and not running."""
    home = tmp_path / "home"
    copy_home(migrated_home, home)
    yield home
    if processes_of(home):
        # A test that failed may have left the server without a watcher; the next use brings one.
        open_database("", home).close()
    wait_until_stopped(home)


@pytest.fixture(scope="session")
def postgres_server(shared_folder: Path, migrated_home: Path) -> Iterator[Database]:
    """One embedded server, as its owner, shared by all workers. Its databases are templates: connect to none."""
    home = shared_folder / "shared_home"
    with (shared_folder / "shared_home.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            copy_home(migrated_home, home)
    database = open_owner("", home)
    with database.maintenance() as connection:
        # Test data need not survive a crash of the machine.
        connection.execute("alter system set fsync = off")
        connection.execute("select pg_reload_conf()")
    yield database
    database.close()


@pytest.fixture
def database_url(postgres_server: Database) -> Iterator[str]:
    """A URL, as for PLATFORM_DATABASE_URL, of migrated and empty databases that only this test uses.

    Its role has the limited rights with which the platform works.
    """
    with empty_databases(postgres_server) as url:
        yield url


@pytest.fixture
def owner_url(postgres_server: Database, database_url: str) -> str:
    """The same databases as the role that owns their tables, as for PLATFORM_MIGRATION_DATABASE_URL."""
    url = postgres_server.url("platform").set(drivername="postgresql", database=make_url(database_url).database)
    return url.render_as_string(hide_password=False)


def as_owner(owner_url: str, statements: str) -> None:
    """Run statements as the tables' owner, and give the platform's role its rights, as a migration would."""
    with Database(make_url(owner_url)).connect("platform") as connection:
        connection.execute(statements.encode())
        grant(connection, APP)


@contextmanager
def empty_databases(postgres_server: Database) -> Iterator[str]:
    """The same for as long as the context lasts, for fixtures that several tests share."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    # Roles are the whole server's; a test that changed this one would be seen by the others.
    assert postgres_server.server is not None
    password = postgres_server.server.folder.password(APP)
    url = postgres_server.url("platform").set(drivername="postgresql", database=name, username=APP, password=password)
    clones: dict[Purpose, str] = {purpose: Database(url).name(purpose) for purpose in get_args(Purpose)}
    with postgres_server.maintenance() as connection:
        connection.execute("select pg_advisory_lock(%s)", [CLONING])
        for purpose, clone in clones.items():
            template = sql.Identifier(postgres_server.name(purpose))
            whose = sql.Identifier(postgres_server.role if purpose == "platform" else APP)
            connection.execute(
                sql.SQL("create database {} template {} owner {}").format(sql.Identifier(clone), template, whose)
            )
    yield url.render_as_string(hide_password=False)
    with postgres_server.maintenance() as connection:
        for clone in clones.values():
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(clone)))


def copy_home(source: Path, target: Path) -> None:
    """Copy a home whose server does not run; `data` keeps its owner, which PostgreSQL insists on."""
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
    shutil.copytree(source, partial)
    owner = (source / "postgres" / "data").stat()
    for path in [partial / "postgres" / "data", *(partial / "postgres" / "data").rglob("*")]:
        os.chown(path, owner.st_uid, owner.st_gid)
    partial.rename(target)
