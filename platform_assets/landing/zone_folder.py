"""The folder of a landing zone, in any fsspec file system: list its files with their metadata, and copy one of them."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import SourceError
from platform_assets.landing.source_files import has_changed, marks_of, plain_errors, stored_chunks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from platform_assets.landing.source_files import Source

HIDDEN = (".", "_")
"""First characters in the names of files and folders that are ignored, such as `_SUCCESS`."""
UNFINISHED = (".part", ".tmp")
"""Suffixes of files that are still being written."""
LONGEST_NAME = 1_024
"""Longest path of a file in its zone, in bytes."""


class FileGone(SourceError):  # noqa: N818 - the name is the message
    """A file was removed or changed after it was listed."""


@dataclass(frozen=True)
class Look:
    """Metadata of a file, from its store.

    Attributes
    ----------
    size
        Size in bytes.
    marks
        Facts that change when the file is written, such as modification time and entity tag, by name.
    """

    size: int
    marks: Mapping[str, str]


@dataclass(frozen=True)
class Listing:
    """The files of a zone.

    Attributes
    ----------
    files
        Metadata of each file, by its path in the zone.
    problems
        Why a file or a folder cannot be used; the keys are paths.
    """

    files: dict[str, Look] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ZoneFolder:
    """A folder and its subfolders.

    Parameters
    ----------
    source
        Location of the folder: a path or any fsspec URI.
    """

    source: Source

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        import fsspec

        if path := self.source.path:
            return fsspec.filesystem("file"), str(path.absolute())
        files, root = fsspec.core.url_to_fs(self.source.uri)
        return files, root.rstrip("/")

    def list(self) -> Listing:
        """List the regular files of the zone. Hidden files, and files that are still being written, are left out.

        Raises
        ------
        SourceError
            The folder is missing, or the store cannot be reached.
        """
        if self.source.is_web:
            raise SourceError(
                f"{self.source} is a web address, which has no list of files; use a folder or object store"
            )
        listing = Listing()
        with plain_errors(self.source, "listed"):
            for path, facts in self._found(listing.problems).items():
                name = path.removeprefix(f"{self._opened[1]}/")
                if facts.get("type") != "file" or name.endswith("/") or is_hidden(name):
                    continue
                if problem := _problem_with(name):
                    listing.problems[name.encode(errors="backslashreplace").decode()[:LONGEST_NAME]] = problem
                else:
                    listing.files[name] = Look(int(facts["size"]), _steady(facts))
        return listing

    def copy(self, name: str, look: Look, target: Path | None = None) -> str:
        """Read a file from beginning to end, and return the SHA-256 of its bytes.

        Parameters
        ----------
        name
            Path of the file in the zone.
        look
            Metadata of the file in the listing.
        target
            Where to write the bytes; None to compute only the digest.

        Raises
        ------
        FileGone
            The file is missing, or changed after it was listed or while it was read.
        SourceError
            The file cannot be read.
        """
        files, root = self._opened
        path = f"{root}/{name}"
        digest, read = hashlib.sha256(), 0
        with plain_errors(self.source, f"read ({name})"), target.open("wb") if target else nullcontext() as copy:
            try:
                before = self._facts(path)
                if not _is_listed(look, before):
                    raise FileGone(f"{name} was modified after it was listed")
                for chunk in stored_chunks(files, path):
                    digest.update(chunk)
                    read += len(chunk)
                    if copy:
                        copy.write(chunk)
                if has_changed(before, self._facts(path), read):
                    raise FileGone(f"{name} changed while it was read")
            except FileNotFoundError:
                raise FileGone(f"{name} was removed before it was read") from None
        return digest.hexdigest()

    def remove(self, name: str, look: Look) -> bool:
        """Remove a file, unless it was changed or removed after it was listed; return whether it was removed.

        Raises
        ------
        SourceError
            The file cannot be removed.
        """
        files, root = self._opened
        path = f"{root}/{name}"
        with plain_errors(self.source, f"removed ({name})"):
            try:
                if not _is_listed(look, self._facts(path)):
                    return False
                files.rm_file(path)
            except FileNotFoundError:
                return False
        return True

    def _found(self, problems: dict[str, str]) -> dict[str, Mapping[str, Any]]:
        from fsspec.asyn import AsyncFileSystem

        files, root = self._opened
        # Clear the cache, because otherwise a driver may return an outdated listing.
        files.invalidate_cache()
        if isinstance(files, AsyncFileSystem):
            # In an object store, a folder exists only while it has files, so an empty one is not an error.
            if found := dict(files.find(root, detail=True)):
                return found
            # Azure's driver returns an empty listing for a missing container, so check that the container exists.
            # Without permission to inspect the container, skip this check.
            with suppress(PermissionError):
                files.info(root.split("/")[0])
            return {}
        if not files.isdir(root):
            state = "is a file" if files.exists(root) else "does not exist"
            fix = f"create the folder, or correct {self.source.setting}"
            raise SourceError(f"{self.source} {state}; {fix}")

        def note(error: OSError) -> None:
            place = str(error.filename or error)
            if not place.removeprefix(root).strip("/"):
                raise error
            problems[place.removeprefix(f"{root}/")] = f"cannot be listed: {error.strerror or error}"

        return dict(files.find(root, detail=True, on_error=note))

    def _facts(self, path: str) -> Mapping[str, Any]:
        files, _ = self._opened
        files.invalidate_cache(path)
        found: Mapping[str, Any] = files.info(path)
        return found


def is_hidden(name: str) -> bool:
    """Whether to ignore a path, because it is hidden or still being written."""
    return name.lower().endswith(UNFINISHED) or any(part.startswith(HIDDEN) for part in name.split("/"))


def _problem_with(name: str) -> str | None:
    try:
        return f"its path has more than {LONGEST_NAME} bytes" if len(name.encode()) > LONGEST_NAME else None
    except UnicodeEncodeError:
        return "its name is not in UTF-8; rename it"


def _steady(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the facts for `Look.marks`: those of `marks_of`, without the size, which is a separate field."""
    marks = marks_of(facts)
    marks.pop("size", None)
    return marks


def _is_listed(look: Look, facts: Mapping[str, Any]) -> bool:
    # A listing of an object store gives fewer of the facts in `Look.marks` than a query of a single file, so compare
    # only the facts that both give.
    found = _steady(facts)
    shared = look.marks.keys() & found.keys()
    return look.size == facts.get("size") and all(look.marks[name] == found[name] for name in shared)
