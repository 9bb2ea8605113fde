"""Copy the files of a backup, write a manifest with their digests, and check the files against the manifest."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import PlatformError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pyarrow.fs as pafs

MANIFEST = "manifest.json"
FORMAT = 1
"""Version of the manifest's format that this release writes and reads."""
CHUNK_BYTES = 1 << 20


class BackupError(PlatformError):
    """A backup cannot be written or restored, or it is damaged."""


@dataclass(frozen=True)
class Manifest:
    """Content of a backup.

    Attributes
    ----------
    made_at
        Time at which the databases were read, in ISO 8601 format, UTC.
    code_version
        Version of the platform that wrote the backup.
    server_major
        Major version of the PostgreSQL server with the databases.
    databases
        Databases in the backup: platform, dagster and, unless MLflow uses another tracking server, mlflow.
    files
        Size in bytes and SHA-256 of each file, by the file's path in the backup's folder.
    """

    made_at: str
    code_version: str
    server_major: int
    databases: tuple[str, ...]
    files: Mapping[str, tuple[int, str]]

    @property
    def bytes(self) -> int:
        """Total size of all files."""
        return sum(size for size, _ in self.files.values())

    def write(self, folder: Path) -> str:
        """Write the manifest as the last file of a backup, and return its SHA-256."""
        data = json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode()
        # Flush all copied files to disk before writing the manifest, because the manifest marks the backup as complete.
        os.sync()
        with (folder / MANIFEST).open("wb") as file:
            file.write(data)
            os.fsync(file.fileno())
        return hashlib.sha256(data).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a backup.

    Raises
    ------
    BackupError
        The folder is not a complete backup, the manifest is damaged, or a newer release wrote it.
    """
    path = folder / MANIFEST
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        if found.pop("format") != FORMAT:
            raise BackupError(
                f"{path} is not in format {FORMAT}, the only one this release reads; install a newer release"
            )
        files = {name: (int(size), str(digest)) for name, (size, digest) in found.pop("files").items()}
        return Manifest(**found | {"databases": tuple(found["databases"])}, files=files)
    except FileNotFoundError:
        raise BackupError(
            f"{folder} is not a complete backup: it has no {MANIFEST}; give the folder of a completed "
            "`platform-assets backup`"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BackupError(f"{path} is damaged; use another backup") from None
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}") from None


def check(folder: Path, manifest: Manifest) -> None:
    """Read every file of a backup, and compare it with the manifest.

    Raises
    ------
    BackupError
        A file is missing, truncated or altered. The message contains its path.
    """
    for name, (size, digest) in manifest.files.items():
        path = folder / name
        try:
            # If a path is outside of the folder, the manifest was altered.
            if not path.resolve().is_relative_to(folder.resolve()):
                raise BackupError(f"{folder / MANIFEST} is damaged: it lists {name}, which is outside of {folder}")
            found = path.stat().st_size
            if found != size:
                raise BackupError(f"{path} is damaged: it has {found} bytes, not {size}; use another backup")
            if digest_of(path) != digest:
                raise BackupError(f"{path} is damaged: its content was altered; use another backup")
        except OSError as error:
            raise BackupError(f"{path} cannot be read ({error.strerror}); use another backup") from None


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listed(files: pafs.FileSystem, is_wanted: Callable[[str], bool], below: str = "") -> list[str]:
    """Find all files below a folder. Return the paths for which `is_wanted` returns True, sorted."""
    import pyarrow.fs as pafs

    selector = pafs.FileSelector(below, recursive=True, allow_not_found=True)
    return sorted(info.path for info in files.get_file_info(selector) if info.is_file and is_wanted(info.path))


def copy_out(
    files: pafs.FileSystem, paths: Iterable[str], target: Path, *, may_vanish: bool = False
) -> dict[str, tuple[int, str]]:
    """Copy files into a folder; return the size and SHA-256 of each file, by path.

    Parameters
    ----------
    files
        The file system from which to copy.
    paths
        Paths of the files to copy.
    target
        The folder into which to copy.
    may_vanish
        Whether to skip files that do not exist, because they were deleted after `paths` was listed.
    """
    found = {}
    for path in paths:
        try:
            with files.open_input_file(path) as source:
                found[path] = _copy(source, target / path)
        except FileNotFoundError:
            if not may_vanish:
                raise
    return found


def _copy(source: Any, target: Path) -> tuple[int, str]:
    digest, size, unread = hashlib.sha256(), 0, None
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with target.open("wb") as file:
            while True:
                try:
                    data = source.read(CHUNK_BYTES)
                except OSError as error:
                    unread = error
                    break
                if not data:
                    break
                digest.update(data)
                size += len(data)
                file.write(data)
    except OSError as error:
        # Convert write errors to `BackupError` here, because callers report an `OSError` as an error of the source.
        reason = error.strerror or first_line(error)
        raise BackupError(f"{target} was not written: {reason}; delete this backup, and use another disk") from None
    if unread:
        raise unread
    return size, digest.hexdigest()


def copy_in(source: Path, paths: Sequence[str], files: pafs.FileSystem) -> None:
    """Copy files from a folder into a file system.

    Raises
    ------
    BackupError
        A file was not stored in full.
    """
    for folder in sorted({str(Path(path).parent) for path in paths} - {"."}):
        files.create_dir(folder, recursive=True)
    for path in paths:
        data = (source / path).read_bytes()
        try:
            # Use a buffer larger than the file, so that Arrow passes the data on as `bytes`, the only type accepted by
            # delta-rs. Without `compression=None`, Arrow would compress a file again if its name ends in .gz.
            with files.open_output_stream(path, compression=None, buffer_size=len(data) + 1) as stream:
                stream.write(data)
            # Check the size, because Arrow does not raise errors that occur when a file in an object store is closed.
            size = files.get_file_info(path).size
        except OSError as error:
            raise BackupError(f"{path} was not restored: {first_line(error)}") from None
        if size != len(data):
            raise BackupError(f"{path} was not restored: {size or 0} of {len(data)} bytes are stored")
