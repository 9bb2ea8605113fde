"""Signs that a source file may be incomplete, as remarks for the asset's metadata."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from platform_assets.landing.packed_files import compression_of, is_zip

if TYPE_CHECKING:
    from pathlib import Path

WAL_WITHOUT_LOG = (
    "the SQLite file is in WAL mode and came without its log (the -wal file), so its last changes may be missing; "
    "run PRAGMA wal_checkpoint(TRUNCATE) before copying it"
)
NO_FINAL_LINE_BREAK = "the last line has no line break, so the file may be truncated"
_SQLITE = b"SQLite format 3\x00"
_WAL = (
    b"\x02\x02"  # in bytes 18 and 19 of the header, https://www.sqlite.org/fileformat.html#file_format_version_numbers
)
_PARQUET = b"PAR1"


def shows_its_end(head: bytes) -> bool:
    """Return whether a file has a format in which truncation is detected: a packed file, parquet or SQLite.

    Parameters
    ----------
    head
        The first bytes of the file.
    """
    return bool(compression_of(head)) or is_zip(head) or head.startswith((_SQLITE, _PARQUET))


def remarks_on(file: Path) -> list[str]:
    """Return the remarks on an unpacked file; empty if it seems complete.

    Parameters
    ----------
    file
        A SQLite, parquet or text file.
    """
    with file.open("rb") as stream:
        head = stream.read(20)
        if head.startswith(_SQLITE):
            return [WAL_WITHOUT_LOG] if head[18:20] == _WAL else []
        if not head or head.startswith(_PARQUET):
            return []
        stream.seek(-1, os.SEEK_END)
        return [] if stream.read() in {b"\n", b"\r"} else [NO_FINAL_LINE_BREAK]
