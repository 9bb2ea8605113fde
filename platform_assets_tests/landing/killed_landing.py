"""Kill runs of a landing zone before each call to the database or the lake, then run again.

A kill after one call has the same effect as a kill before the next call, because nothing is written between them.

`main` runs in its own process, which opens neither an engine nor a table, because their threads would not survive a
fork. For each kill, it forks twice: for the run that is killed and for the run after it. For each pair of runs, it
prints a line that ends with the names of the wrong results, or with `consistent`. The arguments are the URL of the
database and a folder.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from pydantic import SecretStr
from sqlalchemy import make_url

from platform_assets.database.connections import Database
from platform_assets.lake.landed_files import LandedFiles
from platform_assets.lake.publication import Publisher
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.landing.yard import HEADER, PARCELS, Yard, YardSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from platform_assets.lake.delta_tables import TableStore

GOOD, BAD = [("a.txt", 2, 1.0), ("b.txt", 2, 2.0)], [("b.txt", 3), ("bad.txt", 2)]
SCHEMA = replace(PARCELS, expectations=())
STATES = {"a.txt": "landed", "b.txt": "landed", "bad.txt": "set_aside", "empty.txt": "set_aside"}


class Fuse:
    """Counts calls, and kills this process at the call with the given number."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def burn(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class DyingConnection:
    """A connection that counts its statements and commits with a `Fuse`, which may kill the process."""

    def __init__(self, connection: psycopg.Connection[Any], fuse: Fuse) -> None:
        self._connection = connection
        self._fuse = fuse

    def execute(self, *arguments: Any) -> Any:
        self._fuse.burn()
        return self._connection.execute(*arguments)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with self._connection.transaction():
            yield
            self._fuse.burn()


class DyingDatabase(Database):
    """A database whose connections are `DyingConnection` objects."""

    fuse: Fuse

    @contextlib.contextmanager
    def pooled(self) -> Iterator[Any]:
        with super().pooled() as connection:
            yield DyingConnection(connection, self.fuse)


class DyingTables:
    """A lake that counts calls with a `Fuse`, which may kill the process."""

    def __init__(self, tables: TableStore, fuse: Fuse) -> None:
        self._tables = tables
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        called = getattr(self._tables, name)
        if not callable(called):
            return called

        def call(*arguments: Any, **options: Any) -> Any:
            self._fuse.burn()
            return called(*arguments, **options)

        return call


def opened(url: str, folder: Path) -> Services:
    settings = Settings(home=folder / "home", database_url=SecretStr(url), engine_threads=1)
    return Services(settings, (YardSettings(yard_uri=str(folder / "zone")),))


def take(services: Services, folder: Path) -> None:
    """Load a batch as an asset does, but without Dagster, which would take most of the test's time."""
    zone = Yard(services, str(folder / "zone")).zone
    batch = zone.take(LandedFiles(services.tables, SCHEMA), services.engine, "run")
    validated = services.validator.validate(SCHEMA, batch)
    publisher = Publisher(services.tables, services.engine, {"run": "run"}, lambda _: None)
    publisher.publish(SCHEMA.name, SCHEMA.quarantine, validated)
    validated.discard()


def run_and_die(url: str, folder: Path, calls: int) -> None:
    """Load a batch, and kill the process at the call with this number."""
    services, fuse = opened(url, folder), Fuse(calls)
    database = DyingDatabase(make_url(url))
    database.fuse = fuse
    vars(services)["database"] = database
    vars(services)["tables"] = DyingTables(services.tables, fuse)
    take(services, folder)


def run_again(url: str, folder: Path, _: int) -> None:
    """Load the remaining files. Print which results are wrong, or `consistent`."""
    services = opened(url, folder)
    take(services, folder)
    yard = Yard(services, str(folder / "zone"))
    bad = [(name, line) for name, line, _ in yard.bad()]
    versions = len(services.tables.versions(PARCELS.name))
    found = {"rows": yard.rows() == GOOD, "bad rows": bad == BAD, "states": yard.states() == STATES}
    found["one commit"] = versions == 1
    sys.stdout.write(f"{', '.join(what for what, is_right in found.items() if not is_right) or 'consistent'}\n")
    sys.stdout.flush()


def forked(work: Callable[[str, Path, int], None], *arguments: Any) -> bool:
    """Call `work` in a forked process; return whether the process was killed."""
    child = os.fork()
    if child == 0:
        work(*arguments)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"{work.__name__} failed: {arguments}")
    return False


def main(url: str, path: str) -> None:
    calls, killed = 0, True
    while killed:
        calls += 1
        folder = Path(path) / str(calls)
        (folder / "zone").mkdir(parents=True)
        for name, text in {"a.txt": "1,1\n", "b.txt": "2,1\nx,1\n", "bad.txt": "x,2\n", "empty.txt": ""}.items():
            (folder / "zone" / name).write_text(f"{HEADER}{text}" if text else "")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("delete from platform.landing_files")
            connection.execute("delete from platform.landing_names")
            # Delete the lake's identity from the database, because each folder has its own lake.
            connection.execute("delete from platform.lake")
        killed = forked(run_and_die, url, folder, calls)
        sys.stdout.write(f"{calls} {'killed' if killed else 'completed'} ")
        sys.stdout.flush()
        forked(run_again, url, folder, calls)
