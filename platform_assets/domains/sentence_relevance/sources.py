"""Source of the labelled sentences: read, pack and unpack its archive."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from platform_assets.base.errors import SourceError
from platform_assets.domains.sentence_relevance import demo
from platform_assets.domains.sentence_relevance.schemas import ARCHIVED_SENTENCES, TABLE
from platform_assets.domains.sentence_relevance.settings import SentenceRelevanceSettings
from platform_assets.landing.archives import Unpacking, pack_file
from platform_assets.landing.declared_sources import DeclaredSource
from platform_assets.landing.landed_rows import Landed, land
from platform_assets.landing.source_files import fetch
from platform_assets.landing.sqlite_files import counted, opened_sqlite, sqlite_rows
from platform_assets.settings import variable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from platform_assets.engine.query_engine import Engine
    from platform_assets.landing.declared_sources import Sources
    from platform_assets.landing.source_files import Source
    from platform_assets.settings import Settings

ARCHIVE = DeclaredSource(SentenceRelevanceSettings, "sentences_archive_uri", demo.SENTENCES, is_archive=True)
MEMBER = "db.sqlite"
"""Name of the database in an archive that `pack` writes. The archive member also has the suffix `.base64`."""
COLUMNS = [column.name for column in ARCHIVED_SENTENCES.columns]


def read_archived(sources: Sources, engine: Engine) -> Landed:
    """Return the rows of the archive's table as delivered, including bad rows.

    Raises
    ------
    SourceError
        The source is not set, is missing, unreachable or damaged, or has another format.
    """
    source = sources.find(ARCHIVE)
    return land(source, engine, sources.unpacking(ARCHIVE), sqlite_rows(TABLE, COLUMNS))


def unpack(archive: Source, target: Path, how: Unpacking, *, replace: bool = False) -> Mapping[str, int]:
    """Write the SQLite database of an archive, completely or not at all. Return the number of rows by label.

    Parameters
    ----------
    archive
        The compressed tar archive.
    target
        The file to write, in an existing folder.
    how
        Unpacker with a size limit. Its error messages name the setting of the limit.
    replace
        Whether an existing file may be replaced.

    Raises
    ------
    SourceError
        The archive is missing, damaged or in another format, or the file cannot be written.
    """
    with _written_whole(target, replace=replace) as folder:
        packed = fetch(archive, folder / "archive", how)
        place = folder / "unpacked"
        place.mkdir()
        file = how.unpack(packed, place, str(archive))
        rows = _rows_by_label(file, str(archive))
        file.replace(target)
    return rows


def pack(database: Source, target: Path, how: Unpacking, *, replace: bool = False) -> Mapping[str, int]:
    """Write the archive of a SQLite database, completely or not at all. Return the number of rows by label.

    `unpack` restores the database byte for byte. Equal databases give equal archives.

    Parameters
    ----------
    database
        Path of the SQLite file.
    target
        The archive to write, in an existing folder.
    how
        Unpacker with a size limit. Its error messages name the setting of the limit.
    replace
        Whether an existing file may be replaced.

    Raises
    ------
    SourceError
        The database is missing, damaged or too large; the database lacks the table or a column; or the archive cannot
        be written.
    """
    with _written_whole(target, replace=replace) as folder:
        file = fetch(database, folder / MEMBER, how)
        rows = _rows_by_label(file, str(database))
        packed = folder / "archive"
        pack_file(file, packed, f"{MEMBER}.base64", how, str(database))
        packed.replace(target)
    return rows


@contextmanager
def _written_whole(target: Path, *, replace: bool) -> Iterator[Path]:
    """Check the name of a file to write, and yield a temporary folder next to it."""
    if target.is_dir():
        raise SourceError(f"{target} is a folder; give the name of a file")
    if target.exists() and not replace:
        raise SourceError(f"{target} exists already; choose another name, or use --force to replace it")
    try:
        # Use a folder next to the target, because renaming is atomic only within a file system.
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise SourceError(f"{target} cannot be written: {error.strerror}; choose a file in a writable folder") from None


def _rows_by_label(file: Path, called: str) -> Mapping[str, int]:
    with opened_sqlite(file, TABLE, COLUMNS, called) as database:
        return counted(database, TABLE, "choose_one")


def unpacking(settings: Settings) -> Unpacking:
    """Return an unpacker with the size limit from the settings."""
    return Unpacking(settings.archive_max_bytes, variable("archive_max_bytes"))
