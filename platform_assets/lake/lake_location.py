"""Where the lake is: a folder or an object store, how its tables are opened, and its errors in plain words."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from platform_assets.base.errors import TableError
from platform_assets.base.logs import redact, shown
from platform_assets.engine.query_engine import is_full

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow.fs as pafs
    from deltalake import DeltaTable

_LONGEST_REASON = 500
# delta-rs turns a folder into a URL and back, and finds another folder, or none, for these.
_REFUSED = re.compile(r"[#?%\\\[\]|^\x00-\x1f\x7f\ud800-\udfff]")
# delta-rs' own bounds are 10 attempts within 3 minutes; a store that is down should be reported sooner.
_PATIENCE = {"retry_timeout": "20s", "connect_timeout": "5s"}


class LakeLocation:
    """A folder, or a prefix in an object store, below which the tables are.

    Parameters
    ----------
    uri
        A folder or an object store's URI.
    options
        Options for the object store; its usual environment variables count as well.

    Attributes
    ----------
    root
        The folder's absolute path, or the URI.
    is_remote
        Whether it is an object store.
    options
        What delta-rs gets to reach it.

    Raises
    ------
    TableError
        The folder cannot be a lake's.
    """

    def __init__(self, uri: str, options: Mapping[str, str] | None = None) -> None:
        self.root = _location(uri)
        self.is_remote = "://" in self.root
        self.options = (_PATIENCE if self.is_remote else {}) | dict(options or {})

    def uri(self, name: str) -> str:
        """Where a table lies."""
        return f"{self.root}/{name}"

    def find(self, name: str) -> DeltaTable | None:
        """Open a table at its newest version; None where it does not exist.

        Raises
        ------
        TableError
            The store cannot be reached.
        """
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        if not self.is_remote and not Path(self.uri(name), "_delta_log").is_dir():
            return None
        with self.plain_errors(name, "cannot be opened"):
            try:
                return DeltaTable(self.uri(name), storage_options=self.options)
            except TableNotFoundError:
                return None

    def files(self, name: str) -> pafs.FileSystem:
        """The folder of a table, as a file system."""
        import pyarrow.fs as pafs
        from deltalake.fs import DeltaStorageHandler

        if not self.is_remote:
            Path(self.uri(name)).mkdir(parents=True, exist_ok=True)
        return pafs.PyFileSystem(DeltaStorageHandler(self.uri(name), self.options))

    @contextmanager
    def plain_errors(self, name: str, outcome: str) -> Iterator[None]:
        """Turn what delta-rs, Arrow, DuckDB and the disk raise into a `TableError` without secrets.

        Parameters
        ----------
        name
            The table.
        outcome
            What the error means for it, e.g. "cannot be read".
        """
        import duckdb
        import pyarrow as pa
        from deltalake.exceptions import DeltaError

        try:
            yield
        except (OSError, DeltaError, pa.ArrowException, duckdb.Error) as error:
            where = shown(self.root)
            if is_full(error):
                raise TableError(f"{name} {outcome}: no space left on {where}; make some and run again") from error
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
    telling = re.compile(r"secret|key|token|password|credential|sas", re.IGNORECASE)
    secrets = [value for key, value in options.items() if telling.search(key)]
    plain = redact(shown(re.sub(r"\x1b\[[0-9;]*m", "", text)), secrets)
    return " ".join(plain.replace("↳", " ").split())[:_LONGEST_REASON]
