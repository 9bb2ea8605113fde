"""The lake's location, a folder or an object store: open and list its tables, and translate its errors."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from platform_assets.base.errors import TableError
from platform_assets.base.logs import redact, shown
from platform_assets.engine.query_engine import is_full
from platform_assets.lake.table_damage import refuse_broken_log, refuse_unreadable_log

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow.fs as pafs
    from deltalake import DeltaTable

_LONGEST_REASON = 500
# Characters that delta-rs misreads when it converts a folder to a URL and back: it would open another folder.
_REFUSED = re.compile(r"[#?%\\\[\]|^\x00-\x1f\x7f\ud800-\udfff]")
# These times are shorter than delta-rs' defaults (10 attempts within 3 minutes), so that an unreachable store is
# reported sooner.
_PATIENCE = {"retry_timeout": "20s", "connect_timeout": "5s"}


class LakeLocation:
    """The folder, or the prefix in an object store, that holds the tables.

    Parameters
    ----------
    uri
        A folder or an object store's URI.
    options
        Options for the object store. Its usual environment variables are read too.
    is_durable
        Whether tables must survive a crash of the machine.

    Attributes
    ----------
    root
        The folder's absolute path, or the URI.
    is_remote
        Whether the location is an object store.
    is_durable
        Whether each commit must be flushed to disk. False for an object store, whose writes are durable.
    options
        Options for delta-rs.

    Raises
    ------
    TableError
        The folder's path has a character that delta-rs cannot use.
    """

    def __init__(self, uri: str, options: Mapping[str, str] | None = None, *, is_durable: bool = True) -> None:
        self.root = _location(uri)
        self.is_remote = "://" in self.root
        self.is_durable = is_durable and not self.is_remote
        self.options = (_PATIENCE if self.is_remote else {}) | dict(options or {})

    def uri(self, name: str) -> str:
        """Return the location of a table."""
        return f"{self.root}/{name}"

    def find(self, name: str) -> DeltaTable | None:
        """Open a table at its newest version. Return None if it does not exist.

        Raises
        ------
        TableError
            The store cannot be reached, or the table's log is damaged.
        """
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        log = None if self.is_remote else Path(self.uri(name), "_delta_log")
        with self.plain_errors(name, "cannot be opened"):
            if log and not log.is_dir():
                return None
            try:
                table = DeltaTable(self.uri(name), storage_options=self.options)
            except TableNotFoundError:
                return None
            except DeltaError:
                if log:
                    refuse_unreadable_log(name, log)
                raise
            if log:
                refuse_broken_log(name, log)
            return table

    def names(self) -> list[str]:
        """Return the names of all tables, `<domain>/<table>`."""
        import pyarrow.fs as pafs

        if not self.is_remote:
            return sorted("/".join(log.parts[-3:-1]) for log in Path(self.root).glob("*/*/_delta_log"))
        with self.plain_errors("the lake", "cannot be listed"):
            infos = self.all_files().get_file_info(pafs.FileSelector("", recursive=True))
        logs = {info.path.split("/_delta_log/")[0] for info in infos if "/_delta_log/" in info.path}
        return sorted(name for name in logs if name.count("/") == 1)

    def all_files(self) -> pafs.FileSystem:
        """Return the whole lake as a file system: the tables and the models."""
        import pyarrow.fs as pafs
        from deltalake.fs import DeltaStorageHandler

        if self.is_remote:
            return pafs.PyFileSystem(DeltaStorageHandler(self.root, self.options))
        Path(self.root).mkdir(parents=True, exist_ok=True)
        return pafs.SubTreeFileSystem(self.root, pafs.LocalFileSystem())

    def files(self, name: str) -> pafs.FileSystem:
        """Return the folder of a table as a file system."""
        import pyarrow.fs as pafs
        from deltalake.fs import DeltaStorageHandler

        if not self.is_remote:
            Path(self.uri(name)).mkdir(parents=True, exist_ok=True)
        return pafs.PyFileSystem(DeltaStorageHandler(self.uri(name), self.options))

    @contextmanager
    def plain_errors(self, name: str, outcome: str) -> Iterator[None]:
        """Turn errors of delta-rs, Arrow, DuckDB and the disk into a `TableError` without secrets.

        Parameters
        ----------
        name
            Name of the table.
        outcome
            Effect of the error on the table, e.g. "cannot be read".
        """
        import duckdb
        import pyarrow as pa
        from deltalake.exceptions import DeltaError

        try:
            yield
        except (OSError, DeltaError, pa.ArrowException, duckdb.Error) as error:
            where = shown(self.root)
            if is_full(error):
                full = f"no space left on {where}; free some space and run again"
                raise TableError(f"{name} {outcome}: {full}") from error
            raise TableError(f"{name} in {where} {outcome}: {_without_secrets(str(error), self.options)}") from None


def _location(uri: str) -> str:
    path = uri.removeprefix("file://")
    if "://" in path:
        return path.rstrip("/")
    folder = str(Path(path).absolute())
    if refused := sorted(set(_REFUSED.findall(folder))):
        named = " ".join(repr(one)[1:-1] for one in refused)
        raise TableError(
            f"the lake's folder {shown(uri)!r} has {named} in its path, which delta-rs reads as parts of a URL; set "
            "PLATFORM_LAKE_URI, or PLATFORM_HOME, to another folder"
        )
    return folder


def _without_secrets(text: str, options: Mapping[str, str]) -> str:
    secret_names = re.compile(r"secret|key|token|password|credential|sas", re.IGNORECASE)
    secrets = [value for key, value in options.items() if secret_names.search(key)]
    plain = redact(shown(re.sub(r"\x1b\[[0-9;]*m", "", text)), secrets)
    plain = re.sub(r"\s*\b\d+: <unknown>", "", plain)  # drop the frames of a backtrace
    return " ".join(plain.replace("↳", " ").split())[:_LONGEST_REASON]
