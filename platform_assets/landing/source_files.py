"""Source files: where one is, whether it can be reached, and a copy of it on disk.

A driver's error becomes one without passwords. `archives.py` unpacks archives; `landed_rows.py` reads the copy.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from platform_assets.base.errors import SourceError
from platform_assets.base.logs import redact, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from platform_assets.landing.archives import Unpacking

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """Where one kind of raw data comes from.

    Attributes
    ----------
    setting
        The environment variable that names it.
    uri
        A path or any fsspec URI.
    demo
        Whether it is sample data, because the variable is not set.
    """

    setting: str
    uri: str
    demo: bool = False

    def __str__(self) -> str:
        """The source for people, without passwords."""
        return f"{shown(self.uri)} ({'demo data' if self.demo else self.setting})"


def trouble_with(source: Source) -> str | None:
    """Why a source could not be opened now; None where it could. Reads nothing of it."""
    import fsspec

    try:
        files, path = fsspec.core.url_to_fs(source.uri)
        # Not `isfile`: that takes a store which cannot be reached for one without the file.
        return None if files.info(path)["type"] == "file" else f"{source} is no file"
    except Exception as error:  # noqa: BLE001 - each of fsspec's drivers raises what its client library raises
        return f"{source} cannot be reached: {_told(error, source)}"


def fetch(source: Source, target: Path, unpacking: Unpacking | None = None) -> Path:
    """Copy a source's file, unpacked where its name says that it is packed; the copy.

    Parameters
    ----------
    source
        The file.
    target
        Where the copy goes.
    unpacking
        What unpacks the copy afterwards: it is made as the file is, and within that limit.

    Raises
    ------
    SourceError
        It is missing or unreachable, or larger than the limit.
    """
    import fsspec

    if "://" not in source.uri and not Path(source.uri).is_file():
        state = "is a folder" if Path(source.uri).is_dir() else "does not exist"
        raise SourceError(f"{source} {state}; point {source.setting} at the file that is meant")
    packed = None if unpacking else "infer"
    with (
        plain_errors(source, "fetched"),
        fsspec.open(source.uri, "rb", compression=packed) as remote,
        target.open("wb") as local,
    ):
        _copy(remote, local, unpacking, str(source))
    return target


@contextmanager
def plain_errors(source: Source, done: str) -> Iterator[None]:
    """Turn whatever a driver raises into a `SourceError` without passwords."""
    try:
        yield
    except SourceError:
        raise
    except ImportError as error:
        raise SourceError(f"{source} needs a driver that is not installed: {error}") from None
    except Exception as error:  # noqa: BLE001 - each of fsspec's drivers raises what its client library raises
        # What the driver raised may hold the password; whoever logs this error does not log that one.
        raise SourceError(f"{source} cannot be {done}: {_told(error, source)}") from None


def _copy(remote: BinaryIO, local: BinaryIO, unpacking: Unpacking | None, called: str) -> None:
    while chunk := remote.read(CHUNK_BYTES):
        local.write(chunk)
        if unpacking and local.tell() > unpacking.limit:
            raise unpacking.too_large(called)


def _told(error: BaseException, source: Source) -> str:
    """What began it: over HTTP, fsspec calls a refused connection a file not found."""
    while error.__cause__:
        error = error.__cause__
    reason = redact(" ".join(str(error).split()) or "no reason given", (source.uri,))
    return f"{type(error).__name__}: {reason}"
