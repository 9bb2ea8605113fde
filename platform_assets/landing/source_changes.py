"""The digest of a source file's content, which shows whether a table was made from the file."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING

from platform_assets.landing.packed_files import ArchiveError
from platform_assets.landing.source_files import fetch

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.landing.archives import Unpacking
    from platform_assets.landing.source_files import Source


def content_digest(source: Source, folder: Path, unpacking: Unpacking | None = None) -> str:
    """Return the SHA-256 of a file's unpacked content, as tables record it in `source_digest`.

    Parameters
    ----------
    source
        The file. If unpacking fails, the digest covers the bytes fetched until then, so that different damaged files
        still have different digests.
    folder
        An empty private folder for the copy.
    unpacking
        Unpacks a tar archive; None for any other file.

    Raises
    ------
    SourceError
        The file is missing or unreachable, or changed while it was read.
    """
    file = folder / "file"
    with suppress(ArchiveError):
        fetch(source, file, unpacking)
        if unpacking:
            (folder / "unpacked").mkdir()
            file = unpacking.unpack(file, folder / "unpacked", str(source))
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
