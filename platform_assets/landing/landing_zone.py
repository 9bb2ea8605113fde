"""Landing zones: folders into which other teams drop files. Each file is loaded into a table exactly once.

A file is identified by its content. The same content under another name, or with another modification time, is the same
file. A rewritten file is a new file. `zone_folder.py` lists the files, `zone_files.py` stores their states in
PostgreSQL, and `zone_batch.py` reads their rows. A run loads a batch of files, and adds its rows to the lake in one
commit.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from platform_assets.base.errors import SourceError
from platform_assets.base.scratch import OwnedFolder
from platform_assets.engine.row_batch import RowBatch
from platform_assets.landing.path_pattern import PathPattern
from platform_assets.landing.source_files import Source
from platform_assets.landing.zone_batch import FILE_DIGEST, FileForm, read_batch
from platform_assets.landing.zone_files import LandedFile, Waiting, ZoneFiles
from platform_assets.landing.zone_folder import FileGone, Look, ZoneFolder
from platform_assets.settings import variable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from datetime import timedelta
    from pathlib import Path

    import psycopg

    from platform_assets.base.frames import Expression
    from platform_assets.database.connections import Database
    from platform_assets.engine.query_engine import Engine
    from platform_assets.landing.declared_sources import Sources
    from platform_assets.landing.path_pattern import Kind
    from platform_assets.settings import DomainSettings

MOST_FILES = 500
"""Maximum number of files of a batch."""
MOST_BYTES = 1 << 30
"""Maximum bytes of a batch, unless a single file is larger."""
RUN_SECONDS = 60.0
"""Time limit for reading files at the start of a run, to compute their digests."""


class LandedTable(Protocol):
    """The table in which the files of a zone land; implemented by `lake/landed_files.py`."""

    def last_batch(self) -> int:
        """Return the number of the last batch in the table; 0 if there is none."""
        ...

    def last_quarantined_batch(self) -> int:
        """Return the number of the last batch in the quarantine; 0 if there is none."""
        ...

    def files(self, digests: Collection[str] | None = None) -> dict[str, str]:
        """Return, by digest, the names of the files with rows in the table; if digests are given, only for these."""
        ...

    def quarantined_files(self) -> dict[str, str]:
        """Return, by digest, the name of each file that has rows in the quarantine."""
        ...


@dataclass(frozen=True)
class DeclaredZone:
    """A landing zone that a domain declares.

    Attributes
    ----------
    name
        Name of the zone in PostgreSQL, and of its folder with sample files.
    settings
        The domain's class of settings.
    uri
        Field of that class with the location of the zone: a folder or any fsspec URI.
    settle_seconds
        Field with the time for which a file must be unchanged.
    columns
        Columns that a file must have.
    fields
        Columns whose missing values are read from the file's path; see `FileForm`.
    pattern
        Field with the path pattern from which missing values of `fields` are read; empty for no pattern.
    optional
        Columns that a file may lack. Missing values are null.
    demo
        Function that writes sample files into a folder, if the location is not set; None for no sample files.
    """

    name: str
    settings: type[DomainSettings]
    uri: str
    settle_seconds: str
    columns: tuple[str, ...]
    fields: Mapping[str, Kind] = field(default_factory=dict)
    pattern: str = ""
    optional: tuple[str, ...] = ()
    demo: Callable[[Path], Iterable[Path]] | None = None

    @property
    def variable(self) -> str:
        """The environment variable with the location."""
        return variable(self.uri)


class LandingZones:
    """Opens the zones that domains declare.

    Parameters
    ----------
    sources
        The sources, which give the settings of each domain.
    database
        Function that returns the platform's database.
    """

    def __init__(self, sources: Sources, database: Callable[[], Database]) -> None:
        self._sources = sources
        self._database = database

    def given(self, declared: DeclaredZone) -> Zone | None:
        """Return a zone; None if its location is not set and sample files are not allowed."""
        settings, platform = self._sources.settings_of(declared.settings), self._sources.settings
        uri: str = getattr(settings, declared.uri)
        pattern: str = getattr(settings, declared.pattern) if declared.pattern else ""
        form = FileForm(
            declared.columns,
            declared.fields,
            PathPattern(pattern, declared.fields) if pattern else None,
            declared.optional,
        )
        settle = float(getattr(settings, declared.settle_seconds))
        if uri:
            return Zone(
                declared.name,
                ZoneFolder(Source(declared.variable, uri, unpacked=self._sources.size_limit)),
                form,
                settle,
                self._database,
            )
        if platform.sources == "live" or declared.demo is None:
            return None
        folder = platform.home / "landing" / declared.name
        samples = SampleFiles(declared.demo, folder, platform.scratch)
        place = ZoneFolder(Source(declared.variable, str(folder), demo=True, unpacked=self._sources.size_limit))
        return Zone(declared.name, place, form, settle, self._database, samples)

    def files(self, declared: DeclaredZone) -> ZoneFiles:
        """Return the records of a zone's files in PostgreSQL. The location of the zone need not be set."""
        return ZoneFiles(self._database().pooled, declared.name)

    def find(self, declared: DeclaredZone) -> Zone:
        """Return a zone.

        Raises
        ------
        SourceError
            The zone's location is not set, and sample files are not allowed.
        """
        if zone := self.given(declared):
            return zone
        raise SourceError(
            f"{declared.variable} is not set; set it to the folder in which files land, or set PLATFORM_SOURCES=demo "
            "for sample files"
        )


@dataclass(frozen=True)
class SampleFiles:
    """Sample files of a zone, which are written once.

    Attributes
    ----------
    write
        Function that writes the files into an empty folder, and returns their paths.
    folder
        The zone's folder.
    scratch
        Folder of temporary files.
    """

    write: Callable[[Path], Iterable[Path]]
    folder: Path
    scratch: Path

    def ensure(self) -> set[str]:
        """Write the files if the folder does not exist, and return the names of the written files."""
        if self.folder.exists():
            return set()
        own = OwnedFolder(self.scratch, "demo")
        try:
            new = own.path / "zone"
            new.mkdir()
            names = {path.relative_to(new).as_posix() for path in self.write(new)}
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            # Another process may have written the folder first, with the same files.
            try:
                new.rename(self.folder)
            except OSError:
                if not self.folder.exists():
                    raise
        finally:
            own.remove()
        return names


class Zone:
    """A landing zone.

    Parameters
    ----------
    name
        Name of the zone.
    folder
        Folder with its files.
    form
        Format of its files.
    settle_seconds
        Time for which the size and the marks (see `Look`) of a file must be unchanged before it is read, in seconds
        by the database's clock. 0 to read a file in the first scan.
    database
        Function that returns the platform's database.
    samples
        Sample files, for a zone whose location is not set.
    """

    def __init__(
        self,
        name: str,
        folder: ZoneFolder,
        form: FileForm,
        settle_seconds: float,
        database: Callable[[], Database],
        samples: SampleFiles | None = None,
    ) -> None:
        self.name = name
        self.folder = folder
        self.settle_seconds = settle_seconds
        self._form = form
        self._database = database
        self._samples = samples

    @cached_property
    def files(self) -> ZoneFiles:
        """The records of the zone's files in PostgreSQL."""
        return ZoneFiles(self._database().pooled, self.name)

    def discover(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> Waiting:
        """Scan the zone: record new, changed and removed files, and compute the digests of settled files.

        Parameters
        ----------
        seconds
            Time limit for reading files. The next scan continues with the remaining files. If listing the zone took
            longer than this limit, reading may take as long as the listing did.
        clock
            Monotonic clock, in seconds.

        Raises
        ------
        SourceError
            The folder is missing, or the store cannot be reached.
        DatabaseError
            PostgreSQL does not respond.
        """
        written = self._samples.ensure() if self._samples else set()
        began = clock()
        # Read the previous listing first, so that a file added by another process in the meantime is not recorded as
        # removed.
        before = self.files.listed()
        listing = self.folder.list()
        changed = {name: look for name, look in listing.files.items() if before.get(name) != look}
        self.files.remember(changed, before.keys() - listing.files.keys(), written)
        read: dict[str, tuple[Look, str]] = {}
        problems: dict[str, str] = {}
        unread, now = self.files.unread(self.settle_seconds), clock()
        # Allow at least as much time for reading as the listing took. Each scan lists the whole zone. If a scan read
        # only a few files, the total cost of listing would grow with the square of the number of files.
        end = now + max(seconds, now - began)
        for name, look in unread.items():
            if (read or problems) and clock() > end:
                break
            try:
                read[name] = look, self.folder.copy(name, look)
            except FileGone:
                # Skip the file, because the next scan lists its new state.
                continue
            except SourceError as error:
                problems[name] = str(error)
        self.files.add(read)
        self.files.note_problems(problems)
        return self.files.waiting().with_problems(listing.problems)

    def take(self, table: LandedTable, engine: Engine, run: str) -> RowBatch:
        """Return the rows of the waiting files as a batch for the zone's table; an empty batch if no file is waiting.

        The zone is locked until the batch is released, so that two runs never load the same file. A batch that a killed
        run left unfinished comes first, unless its rows are already in the table.

        Parameters
        ----------
        table
            The table in which the files land.
        engine
            Query engine that opens the rows.
        run
            Id of the Dagster run.

        Raises
        ------
        SourceError
            The folder is missing, the store cannot be reached, or no file of the batch can be read.
        DatabaseError
            PostgreSQL does not respond, or another run held the lock of the zone for too long.
        """
        with ExitStack() as held:
            held.enter_context(self._database().lock(f"landing zone {self.name}"))
            self.discover(RUN_SECONDS)
            batch = self._next_batch(table, run)
            at, files = self.files.of_batch(batch)
            outcome = read_batch(files, at, self.folder, self._form, engine)
            held.callback(outcome.landed.discard)
            self.files.set_aside(outcome.set_aside, run)
            self.files.release(outcome.released)
            if files and len(outcome.released) == len(files):
                raise SourceError(
                    f"no file could be read (first error: {next(iter(outcome.released.values()))}); the next run tries "
                    "again"
                )

            def published(rows: Expression) -> None:
                usable = rows.select(FILE_DIGEST).distinct().to_pyarrow().column(0).to_pylist()
                self.files.finish(batch, usable, run)

            return RowBatch(outcome.landed, batch if files else 0, published, held.pop_all().close)

    def _next_batch(self, table: LandedTable, run: str) -> int:
        """Correct the records in PostgreSQL to match the lake, and return the number of the batch to load."""
        in_lake = table.last_batch()
        landed, last = self.files.batches()
        if landed > in_lake:
            # The lake was lost, or restored from an older backup.
            self.files.find_again(in_lake)
        if last < in_lake:
            # PostgreSQL was restored from an older backup.
            rows = table.files()
            unusable = {digest: name for digest, name in table.quarantined_files().items() if digest not in rows}
            self.files.adopt(rows, unusable, in_lake, run)
        for number in self.files.unfinished():
            if number > in_lake:
                return number
            # A run was killed between its commit in the lake and in PostgreSQL.
            _, files = self.files.of_batch(number)
            self.files.finish(number, table.files([file.digest for file in files]), run)
        number = max(last, in_lake, table.last_quarantined_batch()) + 1
        self.files.claim(number, MOST_FILES, MOST_BYTES, run)
        return number

    def remove_processed(self, age: timedelta) -> int:
        """Remove files that are processed and older than `age` from the zone, and return their number.

        Their digests stay recorded, so that the same content never lands again.

        Raises
        ------
        SourceError
            A file cannot be removed.
        DatabaseError
            PostgreSQL does not respond.
        """
        with self._database().lock(f"landing zone {self.name}"):
            return sum(self.folder.remove(name, look) for name, look in self.files.processed_before(age).items())

    def landed(self, limit: int | None = None) -> Sequence[LandedFile]:
        """Return the unprocessed files whose rows are in the lake, oldest first."""
        return self.files.landed(limit)

    def mark_processed(self, connection: psycopg.Connection[Any], digests: Collection[str], run: str) -> set[str]:
        """Mark landed contents as processed in the caller's transaction. Return those that were not marked before.

        Parameters
        ----------
        connection
            A connection to the platform's database, in a transaction that also stores the domain's results for the
            files.
        digests
            Digests of the contents.
        run
            Id of the Dagster run.
        """
        return self.files.mark_processed(connection, digests, run)
