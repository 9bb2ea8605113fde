"""Tables in the lake: Delta Lake tables by name, version and partition, in a folder or an object store.

A write is one atomic commit; its metadata carry the content digest of every partition, so that the
same rows again make no new version. What is in the rows is nobody's business here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TableError
from platform_assets.engine.query_engine import as_frame
from platform_assets.lake.delta_commits import publish
from platform_assets.lake.lake_location import LakeLocation
from platform_assets.lake.table_versions import newest, published_versions
from platform_assets.lake.vacuum import vacuum

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import timedelta

    from deltalake import DeltaTable

    from platform_assets.base.frames import Expression, Frame
    from platform_assets.engine.query_engine import Engine
    from platform_assets.engine.staged_files import Staged
    from platform_assets.lake.table_versions import TableVersion

MEMORY = "memory://"


class TableStore:
    """The tables below one location.

    Parameters
    ----------
    uri
        A folder, an object store's URI, or `memory://` for a private store that ends with the engine.
    engine
        What reads rows.
    storage_options
        Options for the object store; its usual environment variables count as well. Failures that pass
        (refused connections, time-outs, answers 429 and 5xx) are tried again by delta-rs, for 20 seconds at most.

    Raises
    ------
    TableError
        The folder cannot be a lake's.
    """

    def __init__(self, uri: str, engine: Engine, storage_options: Mapping[str, str] | None = None) -> None:
        folder = str(engine.folder("lake")) if uri.startswith(MEMORY) else uri
        self._location = LakeLocation(folder, storage_options)
        self._engine = engine

    def uri(self, name: str) -> str:
        """Where a table lies."""
        return self._location.uri(name)

    def exists(self, name: str) -> bool:
        """Whether a table has any version.

        Raises
        ------
        TableError
            The store cannot be reached.
        """
        return self._location.find(name) is not None

    def current(self, name: str) -> TableVersion | None:
        """The newest version, or None where the table does not exist yet.

        Raises
        ------
        TableError
            The store cannot be reached, or another program changed the table.
        """
        table = self._location.find(name)
        if table is None:
            return None
        with self._location.plain_errors(name, "cannot be read"):
            return newest(name, table)

    def versions(self, name: str, limit: int | None = None) -> list[TableVersion]:
        """The versions, newest first.

        Raises
        ------
        TableError
            There is no such table, or the store cannot be reached.
        """
        table = self._open(name)
        with self._location.plain_errors(name, "cannot be read"):
            return published_versions(name, table, limit)

    def read(self, name: str, *, version: int | None = None, columns: list[str] | None = None) -> Frame:
        """A table as a pandas frame.

        Raises
        ------
        TableError
            There is no such table or version, its files were removed, or the store cannot be reached.
        """
        expression = self.scan(name, version=version)
        with self._location.plain_errors(name, "cannot be read"):
            return as_frame(expression.select(columns) if columns else expression)

    def scan(self, name: str, *, version: int | None = None) -> Expression:
        """A table as an expression, which streams; partition columns included.

        It stays with the version that was current when it was made.

        Raises
        ------
        TableError
            There is no such table or version, its files were removed, or the store cannot be reached.
        """
        table = self._open(name, version)
        if version is not None:
            self._refuse_removed(name, table)
        with self._location.plain_errors(name, "cannot be read"):
            return self._engine.dataset(table.to_pyarrow_dataset())

    def publish(
        self,
        name: str,
        staged: Staged,
        *,
        metadata: Mapping[str, Any] | None = None,
        partitions: Collection[str] = (),
    ) -> TableVersion:
        """Make staged rows the current version, in one commit, or not at all.

        Without `partitions` the staged rows replace the whole table, columns included; with them, they replace
        just those partitions (one without staged rows becomes empty). Where nothing changes there is no new version.

        Parameters
        ----------
        name
            The table.
        staged
            The rows.
        metadata
            Kept with the version; JSON values.
        partitions
            Values of the staged partition column.

        Raises
        ------
        TableError
            Rows outside the named partitions; other columns or partitions than the table has, where that cannot
            be; other writers were faster too often; no space left, or the store cannot be reached.
        """
        return publish(self._location, name, staged, metadata or {}, partitions)

    def vacuum(self, name: str, retention: timedelta, keep_versions: Collection[int] = ()) -> int:
        """Remove the files that only versions older than the retention need; says how many.

        Files of writers that were killed go as well. A retention shorter than a publication takes would remove
        the files of one at work.

        Parameters
        ----------
        name
            The table.
        retention
            Age up to which every version stays readable, in whole hours, rounded up.
        keep_versions
            Versions that stay readable whatever their age; those that the table does not have do not matter.

        Raises
        ------
        TableError
            There is no such table, or the store cannot be reached.
        """
        return vacuum(self._location, name, self._open(name), retention, keep_versions)

    def _open(self, name: str, version: int | None = None) -> DeltaTable:
        table = self._location.find(name)
        if table is None:
            raise TableError(f"there is no table {name} yet; materialise the asset first")
        if version is None or version == table.version():
            return table
        if not 0 <= version < table.version():
            raise TableError(f"{name} has no version {version}; the newest is {table.version()}")
        with self._location.plain_errors(name, f"has no version {version} that can be read"):
            table.load_as_version(version)
        return table

    def _refuse_removed(self, name: str, table: DeltaTable) -> None:
        import pyarrow.fs as pafs

        with self._location.plain_errors(name, "cannot be read"):
            infos = self._location.files(name).get_file_info(_paths(table))
        missing = sum(info.type == pafs.FileType.NotFound for info in infos)
        if missing:
            reason = f"{missing} of its {len(infos)} files were removed after the retention (PLATFORM_RETENTION_DAYS)"
            raise TableError(f"version {table.version()} of {name} cannot be read any more: {reason}")


def _paths(table: DeltaTable) -> list[str]:
    import pyarrow as pa

    paths: list[str] = pa.table(table.get_add_actions(flatten=True)).column("path").to_pylist()
    return paths
