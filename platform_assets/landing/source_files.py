"""Source files: check that a file can be reached, and copy one version of it to disk, unpacked.

A file is read once from beginning to end. If it changed while it was read, the copy is refused. Errors never contain
a password. `http_files.py` downloads from URLs, `packed_files.py` unpacks, and `landed_rows.py` reads the copy.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import SourceError
from platform_assets.base.logs import redact, shown
from platform_assets.landing import http_files
from platform_assets.landing.http_files import FRESH_SECONDS
from platform_assets.landing.packed_files import CHUNK_BYTES, SizeLimit, unpack
from platform_assets.settings import Settings, variable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from platform_assets.landing.archives import Unpacking

USUAL_LIMIT = SizeLimit(Settings.model_fields["unpacked_max_bytes"].default, variable("unpacked_max_bytes"))
"""Default limit for packed files."""
_LOCAL_SCHEMES = ("file://", "local://")
# The project's extra that contains the driver of a scheme.
_EXTRAS = {"az": "azure", "abfs": "azure", "abfss": "azure", "gs": "gcs", "gcs": "gcs"}
# Names that fsspec's drivers use for the modification time and other facts that change when a file is written.
_MARKS = (
    *("mtime", "created", "ino", "etag", "last-modified", "lastmodified", "last_modified", "updated"),
    *("generation", "versionid", "version_id", "content-md5"),
)


@dataclass(frozen=True)
class Source:
    """Location of the file of a source.

    Attributes
    ----------
    setting
        The environment variable that contains the location.
    uri
        A path or any fsspec URI.
    demo
        Whether the file is sample data, because the variable is not set.
    unpacked
        Limit for unpacking a packed file. An archive has its own limit.
    """

    setting: str
    uri: str
    demo: bool = False
    unpacked: SizeLimit = USUAL_LIMIT

    def __str__(self) -> str:
        """The location without passwords, and the variable."""
        return f"{shown(self.uri)} ({'demo data' if self.demo else self.setting})"

    @property
    def path(self) -> Path | None:
        """The path of a local file; None for any other URI."""
        if exists(self.uri):
            return Path(self.uri)
        for scheme in _LOCAL_SCHEMES:
            if self.uri.startswith(scheme):
                return Path(self.uri.removeprefix(scheme))
        return None if "://" in self.uri else Path(self.uri)

    @property
    def is_web(self) -> bool:
        """Whether the location is an HTTP or HTTPS URL."""
        return self.uri.startswith(("http://", "https://"))


def exists(path: str) -> bool:
    """Whether a local path exists; False for text that cannot be a path."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def trouble_with(source: Source) -> str | None:
    """Return why a source cannot be opened now, or None if it can. The source's content is not read."""
    try:
        with plain_errors(source, "reached"):
            if path := source.path:
                _demand_file(path, source)
            elif source.is_web:
                http_files.demand_file(source.uri)
            else:
                _facts_of_stored(source)
    except SourceError as error:
        return str(error)
    return None


def look_at(source: Source) -> dict[str, str]:
    """Return facts about a file, such as size and time, that change when it is written; empty if there are none.

    Also empty if the file was written in the last few seconds, because a second write may get the same time.

    Raises
    ------
    SourceError
        The file is missing or unreachable.
    """
    with plain_errors(source, "inspected"):
        if path := source.path:
            _demand_file(path, source)
            state = path.stat()
            if abs(time.time() - state.st_mtime) < FRESH_SECONDS:
                return {}
            # Include the change time (ctime), because overwriting a file with `cp -p` can leave its modification time
            # (mtime) unchanged.
            times = {"mtime": str(state.st_mtime_ns), "ctime": str(state.st_ctime_ns)}
            return {"size": str(state.st_size), "ino": str(state.st_ino), **times}
        if source.is_web:
            return http_files.facts(source.uri)
        return marks_of(_facts_of_stored(source))


def fetch(source: Source, target: Path, unpacking: Unpacking | None = None) -> Path:
    """Copy a source's file to disk as one version, and return the copy.

    Parameters
    ----------
    source
        The file. If its first bytes show that it is packed, it is unpacked.
    target
        Path of the copy, in a private folder.
    unpacking
        If given, the file is copied without unpacking it, up to `unpacking.limit` bytes, and the caller unpacks the
        copy. If None, this function unpacks a packed file.

    Raises
    ------
    SourceError
        The file is missing, unreachable, damaged, larger than the limit, or changed while it was read.
    """
    with plain_errors(source, "fetched"), target.open("wb") as local:
        for chunk in chunks(source):
            local.write(chunk)
            if unpacking and local.tell() > unpacking.limit:
                raise unpacking.too_large(str(source))
    return target if unpacking else unpack(target, str(source), source.unpacked)


@contextmanager
def plain_errors(source: Source, done: str) -> Iterator[None]:
    """Turn any error of a driver into a `SourceError` without passwords."""
    try:
        yield
    except http_files.WebError as error:
        raise SourceError(f"{source} cannot be {done}: {redact(str(error), (source.uri,))}") from None
    except SourceError:
        raise
    except ImportError as error:
        extra = _EXTRAS.get(source.uri.split("://")[0])
        fix = f"run `pip install 'platform-assets[{extra}]'`" if extra else str(error)
        raise SourceError(f"{source} needs a driver that is not installed; {fix}") from None
    except Exception as error:  # noqa: BLE001 - fsspec's drivers raise any error of their client libraries
        # Omit the cause: a log would print it, and the driver's error may contain the password.
        raise SourceError(f"{source} cannot be {done}: {_reason(error, source)}") from None


def chunks(source: Source) -> Iterator[bytes]:
    """Yield the bytes of a file, in chunks. Raise at the end if the file changed while it was read."""
    if path := source.path:
        return _of_path(path, source)
    return http_files.chunks(source.uri) if source.is_web else _of_store(source)


def _of_path(path: Path, source: Source) -> Iterator[bytes]:
    _demand_file(path, source)
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        yield from iter(partial(file.read, CHUNK_BYTES), b"")
        after = os.fstat(file.fileno())
        read = file.tell()
    if (before.st_size, before.st_mtime_ns) != (read, after.st_mtime_ns):
        raise _changed(source)


def _of_store(source: Source) -> Iterator[bytes]:
    files, path = _opened(source)
    before, read = _facts_of_stored(source), 0
    for chunk in stored_chunks(files, path):
        read += len(chunk)
        yield chunk
    if has_changed(before, _facts_of_stored(source), read):
        raise _changed(source)


def stored_chunks(files: Any, path: str) -> Iterator[bytes]:
    """Yield the bytes of a file of an fsspec file system, in chunks."""
    with files.open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def has_changed(before: Mapping[str, Any], after: Mapping[str, Any], read: int) -> bool:
    """Whether a file changed while it was read: its facts differ, or its size is not the number of bytes read."""
    return marks_of(before) != marks_of(after) or before.get("size") not in {None, read}


def _demand_file(path: Path, source: Source) -> None:
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "is not a regular file" if path.exists() else "does not exist"
        raise SourceError(f"{source} {state}; point {source.setting} at a file")


def _opened(source: Source) -> tuple[Any, str]:
    import fsspec

    files, path = fsspec.core.url_to_fs(source.uri)
    return files, path


def _facts_of_stored(source: Source) -> Mapping[str, Any]:
    """Return the store's facts about a file. Bypass the driver's cache, which may be outdated."""
    files, path = _opened(source)
    files.invalidate_cache()
    # Use `info`, because `isfile` returns False for a store that cannot be reached.
    found: Mapping[str, Any] = files.info(path)
    if found["type"] != "file":
        raise SourceError(f"{source} is a folder; point {source.setting} at a file")
    return found


def marks_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the facts about a file that change when it is written; empty if the store gives none."""
    told = {name.lower(): value for name, value in facts.items()}
    marks = {name: str(told[name]) for name in _MARKS if told.get(name) is not None}
    return {"size": str(told.get("size")), **marks} if marks else {}


def _changed(source: Source) -> SourceError:
    return SourceError(f"{source} changed while it was fetched; run again once the new file is complete")


def _reason(error: BaseException, source: Source) -> str:
    """Return the original cause of an error. fsspec wraps a refused connection in an error about a missing file."""
    while error.__cause__:
        error = error.__cause__
    reason = redact(" ".join(str(error).split()) or "no reason given", (source.uri,))
    return f"{type(error).__name__}: {reason}"
