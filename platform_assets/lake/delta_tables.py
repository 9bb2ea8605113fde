"""Tables in the lake: Delta Lake tables by name, version and partition, in a folder or an object store.

Each write is one atomic commit. Its metadata contain the content digest of every partition, so that publishing the same
rows again makes no new version. `validation.py` validates the rows.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TableError
from platform_assets.engine.query_engine import as_frame
from platform_assets.lake.delta_commits import Publication, publish
from platform_assets.lake.lake_location import LakeLocation
from platform_assets.lake.merged_files import merge_small_files
from platform_assets.lake.schemas import PARTITION
from platform_assets.lake.table_damage import place_of, refuse_foreign_features
from platform_assets.lake.table_files import altered_files, broken_files
from platform_assets.lake.table_versions import SOURCE_DIGEST, last_batch, newest, published_versions
from platform_assets.lake.undone_loads import Restored, restore
from platform_assets.lake.vacuum import vacuum

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from datetime import timedelta

    from deltalake import DeltaTable

    from platform_assets.base.frames import Expression, Frame
    from platform_assets.engine.query_engine import Engine
    from platform_assets.engine.staged_files import Staged
    from platform_assets.lake.lineage import Lineage
    from platform_assets.lake.table_versions import TableVersion

MEMORY = "memory://"


class TableStore:
    """The tables in a folder or an object store.

    Parameters
    ----------
    uri
        A folder, an object store's URI, or `memory://` for a private store that is removed with the engine.
    engine
        The query engine that reads the rows.
    storage_options
        Options for the object store. Its usual environment variables are read too. delta-rs retries transient
        failures (refused connections, timeouts, 429 and 5xx) for up to 20 seconds.

    Raises
    ------
    TableError
        The folder's path has a character that delta-rs cannot use.
    """

    def __init__(self, uri: str, engine: Engine, storage_options: Mapping[str, str] | None = None) -> None:
        folder = str(engine.folder("lake")) if uri.startswith(MEMORY) else uri
        self._location = LakeLocation(folder, storage_options, is_durable=not uri.startswith(MEMORY))
        self._engine = engine
        self._pins: Mapping[str, TableVersion | None] = {}

    def pinned(self, versions: Mapping[str, TableVersion | None]) -> TableStore:
        """Return a view of the store that reads these versions instead of the newest versions.

        Parameters
        ----------
        versions
            Version of each table; None for a table that does not exist. Tables not listed are read at their newest
            version.
        """
        view = copy.copy(self)
        view._pins = versions  # noqa: SLF001 - the same class
        return view

    def uri(self, name: str) -> str:
        """Return the location of a table."""
        return self._location.uri(name)

    def exists(self, name: str) -> bool:
        """Return whether a table exists, that is, has at least one version.

        Raises
        ------
        TableError
            The store cannot be reached, or the table is damaged.
        """
        if name in self._pins:
            return self._pins[name] is not None
        return self._location.find(name) is not None

    def current(self, name: str) -> TableVersion | None:
        """Return the newest version, or None if the table does not exist yet.

        Raises
        ------
        TableError
            The store cannot be reached, the table is damaged, or another program changed it.
        """
        if name in self._pins:
            return self._pins[name]
        table = self._location.find(name)
        if table is None:
            return None
        with self._location.plain_errors(name, "cannot be read"):
            return newest(name, table)

    def source_digest(self, name: str) -> str | None:
        """Return the SHA-256 of the source file that a table was made from; None if there is no table or source.

        Raises
        ------
        TableError
            As for `current`.
        """
        version = self.current(name)
        return version.metadata.get(SOURCE_DIGEST) if version else None

    def versions(self, name: str, limit: int | None = None) -> list[TableVersion]:
        """Return the versions, newest first.

        Raises
        ------
        TableError
            There is no such table, the store cannot be reached, or the table is damaged.
        """
        table = self._open(name)
        with self._location.plain_errors(name, "cannot be read"):
            return published_versions(name, table, limit)

    def read(self, name: str, *, version: int | None = None, columns: list[str] | None = None) -> Frame:
        """Return a table as a pandas frame.

        Raises
        ------
        TableError
            There is no such table or version, its files are missing or damaged, or the store cannot be reached.
        """
        expression = self.scan(name, version=version)
        with self._location.plain_errors(name, "cannot be read"):
            return as_frame(expression.select(columns) if columns else expression)

    def scan(
        self,
        name: str,
        *,
        version: int | None = None,
        partitions: Collection[str] | None = None,
        on_cluster: bool = False,
    ) -> Expression:
        """Return a table as an expression that streams its rows.

        The expression keeps reading the version that was current when this method was called. A partition column that
        the table's schema declares is included; the column of computed partition keys is not.

        Parameters
        ----------
        name
            Name of the table.
        version
            Number of the version; None for the newest.
        partitions
            Keys of the partitions to read; None for all rows.
        on_cluster
            Whether Spark reads the table, if the platform is configured to use it.

        Raises
        ------
        TableError
            There is no such table or version, its files are missing or damaged, or the store cannot be reached.
        """
        if name in self._pins and version is None:
            pin = self._pins[name]
            if pin is None:
                raise _no_table(name)
            version = pin.version
        table = self._open(name, version)
        with self._location.plain_errors(name, "cannot be read"):
            refuse_foreign_features(name, table)
            self._refuse_broken(name, table, version)
            rows = self._engine.delta_on_cluster(table) if on_cluster else self._engine.delta(table)
            if partitions is not None:
                [column] = table.metadata().partition_columns
                rows = rows.filter(rows[column].isin(list(partitions)))
            return rows.drop(PARTITION) if PARTITION in rows.columns else rows

    def publish(
        self,
        name: str,
        staged: Staged,
        *,
        metadata: Mapping[str, Any] | None = None,
        partitions: Collection[str] = (),
        lineage: Lineage | None = None,
    ) -> TableVersion:
        """Make staged rows the current version in one commit, or raise and change nothing.

        Without `partitions`, the staged rows replace the whole table, including its columns. With `partitions`, they
        replace only those partitions, and a partition without staged rows becomes empty. If nothing changes, no new
        version is made, except to rewrite missing or damaged data files.

        Parameters
        ----------
        name
            Name of the table.
        staged
            The staged rows.
        metadata
            JSON values to store with the version.
        partitions
            Values of the partition column to replace; empty to replace the whole table.
        lineage
            The input versions of the rows. If None, rows may be replaced even if they were made from newer inputs.

        Raises
        ------
        StaleError
            The rows to be replaced were made from newer inputs.
        TableError
            Rows lie outside the given partitions; the columns or the partition column do not fit the table; another
            program changed the table or set an unsupported feature; other writers committed first in every attempt;
            the disk is full; or the store cannot be reached.
        """
        return publish(self._location, Publication(name, staged, metadata or {}, partitions, lineage))

    def append(
        self,
        name: str,
        staged: Staged,
        batch: int,
        *,
        metadata: Mapping[str, Any] | None = None,
        lineage: Lineage | None = None,
    ) -> TableVersion:
        """Add staged rows to a table in one commit, or raise and change nothing.

        Nothing is added if the table already has this batch or a later one, or if there are no rows. A missing table is
        created even without rows. The cost does not grow with the size of the table. The digest of the new version
        combines the digests of its batches, in order.

        Parameters
        ----------
        name
            The table, without partitions.
        staged
            The staged rows.
        batch
            Number of the batch. The commit stores it, see `last_batch`.
        metadata
            JSON values to store with the version.
        lineage
            The input versions of the rows.

        Raises
        ------
        TableError
            The rows lack a column of the table, a column's type differs from the table's, or one of the errors of
            `publish` occurs.
        """
        return publish(self._location, Publication(name, staged, metadata or {}, lineage=lineage, batch=batch))

    def restore(self, name: str, number: int, by: str, reason: str) -> Restored:
        """Make the rows of an earlier version current again, as a new version.

        Parameters
        ----------
        name
            Name of the table. It must not be one that accumulates rows.
        number
            Number of the version.
        by, reason
            The person who restores the version, and why the later versions are wrong. The new version records both.

        Raises
        ------
        TableError
            The table or version does not exist, the version is current, its files were removed, the table accumulates,
            or a run published the table in the meantime. Nothing was changed.
        """
        if any(one.version == number for one in self.versions(name)):
            # This raises an error if the version's files were removed.
            self.scan(name, version=number)
        return restore(self._location, name, self._open(name), number, (by, reason))

    def last_batch(self, name: str) -> int:
        """Return the number of the last batch that was added to a table; 0 if there is no table or batch.

        Raises
        ------
        TableError
            The store cannot be reached, or the table is damaged.
        """
        table = self._location.find(name)
        return last_batch(table) if table else 0

    def vacuum(self, name: str, retention: timedelta, keep_versions: Collection[int] = ()) -> int:
        """Remove the files that are needed only by versions older than the retention period; return their number.

        The small files of a table that accumulates are first merged into large ones, which changes no rows.
        Files left by killed writers are removed too. The retention must be longer than any publication takes, or the
        files of an active writer are removed.

        Parameters
        ----------
        name
            Name of the table.
        retention
            Age up to which every version stays readable. It is rounded up to whole hours.
        keep_versions
            Versions that stay readable at any age. Numbers that the table does not have are ignored.

        Raises
        ------
        TableError
            There is no such table, the store cannot be reached, or the table is damaged.
        """
        with self._location.plain_errors(name, "was not cleaned"):
            merge_small_files(self._location, name, self._open(name), self._engine)
        return vacuum(self._location, name, self._open(name), retention, keep_versions)

    @property
    def location(self) -> LakeLocation:
        """The folder or object store that holds the tables."""
        return self._location

    def damage(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each table whose current version is damaged, with the reason and the fix.

        Reads all local data files, to compare them with their digests.

        Raises
        ------
        TableError
            The store cannot be reached.
        """
        for name in self._location.names():
            try:
                self.current(name)
                self.scan(name)
                table = self._open(name)
                self._refuse(name, table, None, altered_files(self._location, name, table))
            except TableError as error:
                yield name, str(error)

    def _open(self, name: str, version: int | None = None) -> DeltaTable:
        table = self._location.find(name)
        if table is None:
            raise _no_table(name)
        if version is None or version == table.version():
            return table
        if not 0 <= version < table.version():
            raise TableError(f"{name} has no version {version}; the newest is {table.version()}")
        with self._location.plain_errors(name, f"has no version {version} that can be read"):
            table.load_as_version(version)
        return table

    def _refuse_broken(self, name: str, table: DeltaTable, version: int | None) -> None:
        self._refuse(name, table, version, broken_files(self._location, name, table))

    def _refuse(self, name: str, table: DeltaTable, version: int | None, broken: Mapping[str, str]) -> None:
        if not broken:
            return
        newest = self._location.find(name)
        current = newest and newest.transaction_version("platform_assets")
        path, state = next(iter(broken.items()))
        if version is None or version == current:
            more = f"; damaged files in total: {len(broken)}" if len(broken) > 1 else ""
            fix = (
                f"Delete {place_of(table)} and materialise the asset again, to load all batches again"
                if last_batch(table)
                else "Materialise the asset again to rewrite the damaged files"
            )
            raise TableError(f"{name} is damaged: {Path(self.uri(name), path)} {state}{more}. {fix}")
        reason = (
            f"{len(broken)} of its {table.get_add_actions().num_rows} files were removed after the retention period"
            " (PLATFORM_RETENTION_DAYS), or because they contained the rows of an erased person"
        )
        raise TableError(f"version {table.version()} of {name} cannot be read any more: {reason}")


def _no_table(name: str) -> TableError:
    return TableError(f"there is no table {name} yet; materialise the asset first")
