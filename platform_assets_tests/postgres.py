"""Fixtures of real PostgreSQL: one embedded server for the whole session, and databases of its own for each test.

A test's databases are clones of migrated ones. What it left as it was, or what can be emptied, serves the next test of
this process, for a clone costs more than most tests. Loaded by `conftest.py` as a plugin.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
import uuid
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest
from psycopg import sql
from sqlalchemy import make_url

from platform_assets.database.connections import Database, Purpose, missing
from platform_assets.database.embedded.binaries import find_binaries, unprivileged_user
from platform_assets.database.embedded.server import APP, ServerFolder
from platform_assets.database.embedded.shared_use import ServerUse, release, try_lock
from platform_assets.database.migrate import grant
from platform_assets.database.opening import open_database, open_owner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import psycopg
    from sqlalchemy import URL

# Cloning locks its template; two workers at once would be refused.
CLONING = 7_403_611
COPIES_BY_LOG = 150_000
"""The version from which on PostgreSQL clones a database through its log, unless it is told otherwise."""
LARGE_BYTES = 1_000_000
"""A table above it is sooner truncated than its rows are deleted."""
_EMPTY: list[str] = []
"""Names of databases of this process, as new."""
LONGEST_PAUSE_SECONDS = 0.5
OPEN_ONCE = """
import sys
from pathlib import Path
from platform_assets.database.opening import open_owner

with open_owner("", Path(sys.argv[1])).maintenance() as connection:
    for setting in sys.argv[2:]:
        connection.execute(f"alter system set {setting}")
    # Nobody clones it, and it would be an eighth of what is copied.
    connection.execute("alter database template0 is_template false")
    connection.execute("drop database template0")
"""
# Test data need not survive a crash of the machine; and what is copied for a test should be small.
SETTINGS = (
    "fsync = off",
    "full_page_writes = off",
    "autovacuum = off",
    "wal_init_zero = off",
    "min_wal_size = '32MB'",
)


def wait_until(condition: Callable[[], object], what: str | Callable[[], str], seconds: float = 120) -> None:
    """Poll a condition until it holds, and fail after a time-out.

    Parameters
    ----------
    condition
        Returns a true value as soon as it holds.
    what
        Describes the condition for the failure, as a text or as a function that also reads the last state.
    seconds
        The time-out; by default longer than any machine needs.
    """
    start = time.monotonic()
    while not condition():
        waited = time.monotonic() - start
        if waited > seconds:
            pytest.fail(f"waited {seconds} s in vain until {what if isinstance(what, str) else what()}")
        # Polling slows the awaited work down, so the interval grows.
        time.sleep(min(0.02 + waited / 20, LONGEST_PAUSE_SECONDS))


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
            subprocess.run([sys.executable, "-c", OPEN_ONCE, home, *SETTINGS], check=True)
            wait_until_stopped(home)
            _shorten_log(home / "postgres" / "data")
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


@pytest.fixture(scope="module")
def running_home(migrated_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One with a server that runs, for tests of a module that do not stop it, and mind no row of another one."""
    home = tmp_path_factory.mktemp("running") / "home"
    copy_home(migrated_home, home)
    with closing(open_database("", home)):
        yield home
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
    yield database
    with database.maintenance() as connection:
        while _EMPTY:
            _drop(connection, Database(_url(database, _EMPTY.pop())), get_args(Purpose))
    database.close()


@pytest.fixture
def _lent(postgres_server: Database) -> Iterator[Lent]:
    with _lend(postgres_server) as lent:
        yield lent


@pytest.fixture
def database_url(_lent: Lent) -> str:
    """A URL, as for PLATFORM_DATABASE_URL, of migrated and empty databases that only this test uses.

    Its role has the limited rights with which the platform works.
    """
    return _lent.url


@pytest.fixture
def owner_url(postgres_server: Database, _lent: Lent) -> str:
    """The same databases as the role that owns their tables, as for PLATFORM_MIGRATION_DATABASE_URL."""
    _lent.rows_only = False
    return _plain_url(postgres_server, make_url(_lent.url).database or "").render_as_string(hide_password=False)


def as_owner(owner_url: str, statements: str) -> None:
    """Run statements as the tables' owner, and give the platform's role its rights, as a migration would."""
    with Database(make_url(owner_url)).connect("platform") as connection:
        connection.execute(statements.encode())
        grant(connection, APP)


@contextmanager
def empty_databases(postgres_server: Database) -> Iterator[str]:
    """The same for as long as the context lasts, for fixtures that several tests share."""
    with _lend(postgres_server) as lent:
        yield lent.url


@dataclass
class Lent:
    """Databases that a test has for itself.

    Attributes
    ----------
    url
        As the platform's role.
    rows_only
        Whether nobody could change more of the platform's database than rows, so that emptying its tables undoes it.
    """

    url: str
    rows_only: bool = True


@contextmanager
def _lend(postgres_server: Database) -> Iterator[Lent]:
    name = _EMPTY.pop() if _EMPTY else f"test_{uuid.uuid4().hex[:12]}"
    url = _url(postgres_server, name)
    clones = Database(url)
    with postgres_server.maintenance() as connection:
        _clone_missing(connection, postgres_server, clones)
        lent = Lent(url.render_as_string(hide_password=False))
        yield lent
        used = _used(connection, clones)
        spoiled = used - {"platform"} if lent.rows_only else used
        _drop(connection, clones, spoiled)
    if "platform" in used - spoiled:
        _empty(postgres_server, name)
    _EMPTY.append(name)


def _url(postgres_server: Database, name: str) -> URL:
    # Roles are the whole server's; a test that changed this one would be seen by the others.
    assert isinstance(postgres_server.server, ServerUse)
    password = postgres_server.server.folder.password(APP)
    return _plain_url(postgres_server, name).set(username=APP, password=password)


def _plain_url(postgres_server: Database, name: str) -> URL:
    """Return a URL as a person writes it, without the session settings that the platform adds."""
    url = postgres_server.url("platform").set(drivername="postgresql", database=name)
    return url.difference_update_query(["client_encoding", "options"])


def _clone_missing(connection: psycopg.Connection[Any], postgres_server: Database, clones: Database) -> None:
    lacking = missing(clones, connection)
    if not lacking:
        return
    # What 15 and later do by default writes everything twice, the second time into the log.
    how = sql.SQL("strategy file_copy" if connection.info.server_version >= COPIES_BY_LOG else "")
    connection.execute("select pg_advisory_lock(%s)", [CLONING])
    for purpose in lacking:
        clone, template = (sql.Identifier(one.name(purpose)) for one in (clones, postgres_server))
        whose = sql.Identifier(postgres_server.role if purpose == "platform" else APP)
        create = sql.SQL("create database {} template {} owner {} {}").format(clone, template, whose, how)
        connection.execute(create)
    connection.execute("select pg_advisory_unlock(%s)", [CLONING])


def _used(connection: psycopg.Connection[Any], clones: Database) -> set[Purpose]:
    """Which of the databases somebody has connected to; disconnects all who still are."""
    names = {clones.name(purpose): purpose for purpose in get_args(Purpose)}
    connected = "from pg_stat_activity where datname = any(%s)"
    connection.execute(f"select pg_terminate_backend(pid) {connected}".encode(), [[*names]])
    wait_until(
        lambda: not connection.execute(f"select {connected}".encode(), [[*names]]).fetchall(),
        "nobody was connected",
    )
    # A session is counted before it disappears from the list of those that are connected.
    found = connection.execute(
        "select datname from pg_stat_database where datname = any(%s) and sessions > 0", [[*names]]
    )
    return {names[name] for (name,) in found.fetchall()}


def _drop(connection: psycopg.Connection[Any], clones: Database, purposes: Iterable[Purpose]) -> None:
    for purpose in purposes:
        name = sql.Identifier(clones.name(purpose))
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(name))


def _empty(postgres_server: Database, name: str) -> None:
    """Empty the tables that the platform's role may write, which is all that it can have changed."""
    with Database(postgres_server.url("platform").set(database=name)).connect("platform") as connection:
        tables = connection.execute(
            "select format('%%I.%%I', nspname, relname), pg_relation_size(c.oid) > %s"
            " from pg_class c join pg_namespace n on n.oid = relnamespace"
            " where relkind in ('r', 'p') and nspname !~ '^pg_' and nspname <> 'information_schema'"
            " and has_table_privilege(%s, c.oid, 'insert')",
            [LARGE_BYTES, APP],
        ).fetchall()
        # Triggers forbid it for tables whose rows are there for ever.
        connection.execute("set session_replication_role = replica")
        for table, is_large in tables:
            # A truncated table gets new files, and so does each of its indexes: few rows are sooner deleted.
            connection.execute((f"truncate {table} cascade" if is_large else f"delete from {table}").encode())
        connection.execute(
            "select setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false) from pg_sequences"
        )


def _shorten_log(data: Path) -> None:
    """Make the write-ahead log of a server that does not run segments of 1 MB instead of 16."""
    reset = find_binaries(data).command("pg_resetwal", "--wal-segsize=1", str(data), user=unprivileged_user(data))
    subprocess.run(reset, check=True, stdout=subprocess.DEVNULL)


def copy_home(source: Path, target: Path) -> None:
    """Copy a home whose server does not run; `data` keeps its owner, which PostgreSQL insists on."""
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
    shutil.copytree(source, partial)
    owner = (source / "postgres" / "data").stat()
    for path in [partial / "postgres" / "data", *(partial / "postgres" / "data").rglob("*")]:
        os.chown(path, owner.st_uid, owner.st_gid)
    partial.rename(target)
