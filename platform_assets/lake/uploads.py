"""Uploads: copy staged files into a table's folder. The commit in `delta_commits.py` adds them to the table."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from platform_assets.lake.table_files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pyarrow.fs as pafs
    from deltalake.transaction import AddAction

    from platform_assets.engine.staged_files import Staged


class Uploads:
    """Copies of staged files in the table's folder. Each file is copied at most once.

    A file's name is random and ends with the digest of its bytes, so that `altered_files` finds changes. The name does
    not contain the partition value, because the value may contain any character. Delta Lake keeps the value in its log.

    Parameters
    ----------
    files
        The table's folder as a file system.
    folder
        The same folder as a path, if it is local.
    staged
        The staged rows.
    """

    def __init__(self, files: pafs.FileSystem, folder: Path | None, staged: Staged) -> None:
        self._files = files
        self._folder = folder
        self._staged = staged
        self._done: dict[str, list[AddAction]] = {}
        self._offered = False

    def actions(self, values: Iterable[str]) -> list[AddAction]:
        """Copy the files of some parts, and return the Delta actions that add them.

        Raises
        ------
        OSError
            A file was not copied completely. Copies to which no commit can refer are removed.
        """
        wanted = list(values)
        try:
            for value in wanted:
                self._upload(value)
        except BaseException:
            # Keep files that were passed to a commit. It may have succeeded although its response was lost.
            if not self._offered:
                self._remove()
            raise
        self._offered = True
        return [action for value in wanted for action in self._done[value]]

    def _upload(self, value: str) -> None:
        import pyarrow.parquet as pq
        from deltalake.transaction import AddAction

        if value in self._done:
            return
        column = self._staged.partition_by
        actions = self._done[value] = []
        try:
            for file in self._staged.parts[value].files:
                path = f"{uuid.uuid4()}.{sha256_of(file)}.parquet"
                action = AddAction(
                    path=path,
                    size=file.stat().st_size,
                    partition_values={column: value} if column else {},
                    modification_time=int(time.time() * 1000),
                    data_change=True,
                    stats=json.dumps({"numRecords": pq.read_metadata(file).num_rows}),
                )
                actions.append(action)
                self._copy(file, path)
        except BaseException:
            self._remove(value)
            raise

    def _copy(self, file: Path, path: str) -> None:
        import pyarrow.fs as pafs

        if self._folder is not None:
            shutil.copyfile(file, self._folder / path)
            return
        # Arrow sends small files (below a few megabytes) only when it closes them, and ignores errors then.
        pafs.copy_files(str(file), path, pafs.LocalFileSystem(), self._files)
        wanted, found = file.stat().st_size, self._files.get_file_info(path).size
        if found != wanted:
            raise OSError(f"the store refused or truncated {path}: {found or 0} of {wanted} bytes arrived")

    def _remove(self, *values: str) -> None:
        for value in values or tuple(self._done):
            for action in self._done.pop(value):
                # Ignore this error, because the first one is reported. The vacuum removes the files that remain.
                with suppress(OSError):
                    self._files.delete_file(action.path)
