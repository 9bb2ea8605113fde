"""Fixtures with a real PostgreSQL: one embedded server per test session, and separate databases for each test.

The databases of a test are clones of migrated ones. After the test they are emptied if possible, and later tests of the
process reuse them, because cloning takes longer than most tests. `conftest.py` loads this module as a plugin.
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
from platform_assets.database.ledger_rights import LEDGER_ROLE
from platform_assets.database.migrate import grant
from platform_assets.database.opening import open_database, open_owner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import psycopg
    from sqlalchemy import URL

CLONING = 7_403_611
"""Key of the advisory lock that is held while cloning. PostgreSQL refuses concurrent clones of a template."""
COPIES_BY_LOG = 150_000
"""First PostgreSQL version that by default writes the whole clone to the write-ahead log."""
LARGE_BYTES = 1_000_000
"""Table size in bytes above which truncating is faster than deleting all rows."""
_EMPTY: list[str] = []
"""Names of this process's databases that are free and empty."""
_JOURNAL_ENTRIES: list[int] = []
"""Number of approval journal entries in a new database. They record the rules and policies that a migration writes."""
_OWNER: list[URL] = []
"""Holds the URL of the shared server with the login of the tables' owner. Empty until the server runs."""
LONGEST_PAUSE_SECONDS = 0.5
"""Longest polling interval of `wait_until`."""
OPEN_ONCE = """
import sys
from pathlib import Path
from platform_assets.database.opening import open_owner
from platform_assets.approval.policy import policy_as_json
from platform_assets.database.policies import write_policies, write_rules
from platform_assets.domains import model_specs

owner = open_owner("", Path(sys.argv[1]))
with owner.connect("platform") as connection:
    write_rules(connection, identity_required=False)
    write_policies(connection, {spec.name: policy_as_json(spec.approval) for spec in model_specs()})
    [entries] = connection.execute("select count(*) from platform.approval_journal").fetchone()
    Path(sys.argv[1], "journal_entries").write_text(str(entries))
with owner.maintenance() as connection:
    for setting in sys.argv[2:]:
        connection.execute(f"alter system set {setting}")
    # Drop the unused template, because it makes up an eighth of the files that are copied later.
    connection.execute("alter database template0 is_template false")
    connection.execute("drop database template0")
"""
# Server settings that favour speed and small files, because test data need not survive a crash of the machine.
SETTINGS = (
    "fsync = off",
    "full_page_writes = off",
    "autovacuum = off",
    "wal_init_zero = off",
    "min_wal_size = '32MB'",
)


def wait_until(condition: Callable[[], object], what: str | Callable[[], str], seconds: float = 900) -> None:
    """Poll a condition until it is true; fail the test after a time-out.

    Parameters
    ----------
    condition
        Function that returns a true value once the condition is met.
    what
        Description of the condition for the failure message, such as "the server had ended". It may be a function, so
        that the description can include the last state.
    seconds
        The time-out. The default is long enough for slow machines.
    """
    start = time.monotonic()
    while not condition():
        waited = time.monotonic() - start
        if waited > seconds:
            pytest.fail(f"still not true after {seconds} s: {what if isinstance(what, str) else what()}")
        # Increase the interval, because polling slows down the work that the test waits for.
        time.sleep(min(0.02 + waited / 20, LONGEST_PAUSE_SECONDS))


def processes_of(home: Path) -> list[str]:
    """Return the command lines of the embedded server and the watcher of a home, without the server's children."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            # The command line of a zombie process is empty, so zombie processes are not found.
            command = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if f"{home}/postgres" in command:
            found.append(f"{process.parent.name}: {command}")
    return found


def is_watched(home: Path) -> bool:
    """Return whether a watcher holds its lock.

    After a kill, the lock is released slightly later than the command line of the process disappears.
    """
    lock = try_lock(ServerFolder(home / "postgres").watcher_lock, fcntl.LOCK_EX)
    if lock is not None:
        release(lock)
    return lock is None


def wait_until_stopped(home: Path) -> None:
    """Wait until the embedded server of a home and its watcher have ended.

    They end only after all processes that use the server have ended.
    """
    wait_until(
        lambda: not processes_of(home) and not is_watched(home), f"the server and the watcher of {home} had ended"
    )


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all pytest-xdist workers of the session share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def migrated_home(shared_folder: Path) -> Path:
    """A home whose server is migrated and stopped. Tests use copies of it; copying is faster than migrating."""
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
    """A home for one test, whose embedded server is migrated but not running."""
    home = tmp_path / "home"
    copy_home(migrated_home, home)
    yield home
    if processes_of(home):
        # A failed test can leave a server without a watcher. Use the server once, which starts a watcher that later
        # stops the server.
        open_database("", home).close()
    wait_until_stopped(home)


@pytest.fixture(scope="module")
def running_home(migrated_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with a running server, shared by the tests of a module.

    No test may stop the server. A test can see rows of earlier tests.
    """
    home = tmp_path_factory.mktemp("running") / "home"
    copy_home(migrated_home, home)
    with closing(open_database("", home)):
        yield home
    wait_until_stopped(home)


@pytest.fixture(scope="session")
def postgres_server(shared_folder: Path, migrated_home: Path) -> Iterator[Database]:
    """The server that all pytest-xdist workers share, opened as the owner of its databases.

    Do not connect to these databases. They are the templates of the tests' databases, and PostgreSQL cannot clone a
    database that has connections.
    """
    home = shared_folder / "shared_home"
    with (shared_folder / "shared_home.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            copy_home(migrated_home, home)
    database = open_owner("", home)
    _JOURNAL_ENTRIES[:] = [int((migrated_home / "journal_entries").read_text())]
    _OWNER[:] = [_plain_url(database, database.name("platform"))]
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
    """A PLATFORM_DATABASE_URL for migrated and empty databases that only this test uses.

    Connections have the limited rights of the platform's role.
    """
    return _lent.url


@pytest.fixture
def owner_url(_lent: Lent) -> str:
    """A PLATFORM_MIGRATION_DATABASE_URL for the databases of `database_url`, with the login of the tables' owner."""
    _lent.rows_only = False
    return owner_of(_lent.url)


def owner_of(url: str) -> str:
    """Return a test database's URL with the login of the tables' owner, who may add rows to every table."""
    return _OWNER[0].set(database=make_url(url).database).render_as_string(hide_password=False)


def as_owner(owner_url: str, statements: str) -> None:
    """Run statements as the owner of the tables, then grant the platform's role its rights, as a migration does."""
    with Database(make_url(owner_url)).connect("platform") as connection:
        connection.execute(statements.encode())
        grant(connection, APP)


@contextmanager
def empty_databases(postgres_server: Database) -> Iterator[str]:
    """Yield a URL like that of the fixture `database_url`. Use it in fixtures that several tests share."""
    with _lend(postgres_server) as lent:
        yield lent.url


@dataclass
class Lent:
    """The databases that one test uses.

    Attributes
    ----------
    url
        URL that connects as the platform's role.
    rows_only
        Whether the test can change only rows of the platform's database, but not its schema. If so, the database is
        emptied after the test instead of dropped.
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
    # Roles belong to the whole server, so all tests share this role, and no test may change it.
    assert isinstance(postgres_server.server, ServerUse)
    password = postgres_server.server.folder.password(APP)
    return _plain_url(postgres_server, name).set(username=APP, password=password)


def _plain_url(postgres_server: Database, name: str) -> URL:
    """Return a URL as a user would write it in a setting, without the session settings that the platform adds."""
    url = postgres_server.url("platform").set(drivername="postgresql", database=name)
    return url.difference_update_query(["client_encoding", "options"])


def _clone_missing(connection: psycopg.Connection[Any], postgres_server: Database, clones: Database) -> None:
    lacking = missing(clones, connection)
    if not lacking:
        return
    # Clone by copying files, because the default since PostgreSQL 15 also writes the clone to the write-ahead log.
    how = sql.SQL("strategy file_copy" if connection.info.server_version >= COPIES_BY_LOG else "")
    connection.execute("select pg_advisory_lock(%s)", [CLONING])
    for purpose in lacking:
        clone, template = (sql.Identifier(one.name(purpose)) for one in (clones, postgres_server))
        whose = sql.Identifier(postgres_server.role if purpose == "platform" else APP)
        create = sql.SQL("create database {} template {} owner {} {}").format(clone, template, whose, how)
        connection.execute(create)
    connection.execute("select pg_advisory_unlock(%s)", [CLONING])


def _used(connection: psycopg.Connection[Any], clones: Database) -> set[Purpose]:
    """End all connections to the databases, and return which of the three databases were used."""
    names = {clones.name(purpose): purpose for purpose in get_args(Purpose)}
    connected = "from pg_stat_activity where datname = any(%s)"
    connection.execute(f"select pg_terminate_backend(pid) {connected}".encode(), [[*names]])
    wait_until(
        lambda: not connection.execute(f"select {connected}".encode(), [[*names]]).fetchall(),
        f"all connections to {', '.join(names)} had ended",
    )
    # PostgreSQL counts a session before removing it from pg_stat_activity, so `sessions` is up to date now.
    found = connection.execute(
        "select datname from pg_stat_database where datname = any(%s) and sessions > 0", [[*names]]
    )
    return {names[name] for (name,) in found.fetchall()}


def _drop(connection: psycopg.Connection[Any], clones: Database, purposes: Iterable[Purpose]) -> None:
    for purpose in purposes:
        name = sql.Identifier(clones.name(purpose))
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(name))


def _empty(postgres_server: Database, name: str) -> None:
    """Empty the tables that the platform's role may write, directly or through functions."""
    with Database(postgres_server.url("platform").set(database=name)).connect("platform") as connection:
        tables = connection.execute(
            "select format('%%I.%%I', nspname, relname), pg_relation_size(c.oid) > %s"
            " from pg_class c join pg_namespace n on n.oid = relnamespace"
            " where relkind in ('r', 'p') and nspname !~ '^pg_' and nspname <> 'information_schema'"
            " and c.oid <> 'platform.approval_journal'::regclass"
            " and (has_table_privilege(%s, c.oid, 'insert') or has_table_privilege(%s, c.oid, 'insert'))",
            [LARGE_BYTES, APP, LEDGER_ROLE],
        ).fetchall()
        # Disable triggers, because those of append-only tables refuse deletions.
        connection.execute("set session_replication_role = replica")
        connection.execute("delete from platform.approval_journal where sequence > %s", _JOURNAL_ENTRIES)
        for table, is_large in tables:
            # Delete the rows of small tables, because truncating creates new files for the table and its indexes.
            connection.execute((f"truncate {table} cascade" if is_large else f"delete from {table}").encode())
        connection.execute(
            "select setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false) from pg_sequences"
        )


def _shorten_log(data: Path) -> None:
    """Reduce the segment size of a stopped server's write-ahead log from 16 MB to 1 MB, so that copies are small."""
    reset = find_binaries(data).command("pg_resetwal", "--wal-segsize=1", str(data), user=unprivileged_user(data))
    subprocess.run(reset, check=True, stdout=subprocess.DEVNULL)


def copy_home(source: Path, target: Path) -> None:
    """Copy a home whose server is stopped. Keep the owner of `data`, because PostgreSQL runs as that user."""
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
    shutil.copytree(source, partial)
    owner = (source / "postgres" / "data").stat()
    for path in [partial / "postgres" / "data", *(partial / "postgres" / "data").rglob("*")]:
        os.chown(path, owner.st_uid, owner.st_gid)
    partial.rename(target)
