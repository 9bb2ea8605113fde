"""Source of the labelled sentences, and how its archive is unpacked."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from platform_assets.base.errors import SourceError
from platform_assets.domains.sentence_relevance import demo
from platform_assets.domains.sentence_relevance.schemas import ARCHIVED_SENTENCES, TABLE
from platform_assets.domains.sentence_relevance.settings import SentenceRelevanceSettings
from platform_assets.landing.archives import Unpacking
from platform_assets.landing.declared_sources import DeclaredSource
from platform_assets.landing.landed_rows import Landed, land
from platform_assets.landing.source_files import fetch
from platform_assets.landing.sqlite_files import counted, opened_sqlite, sqlite_rows
from platform_assets.settings import variable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from platform_assets.engine.query_engine import Engine
    from platform_assets.landing.declared_sources import Sources
    from platform_assets.landing.source_files import Source
    from platform_assets.settings import Settings

ARCHIVE = DeclaredSource(SentenceRelevanceSettings, "sentences_archive_uri", demo.SENTENCES, is_archive=True)
COLUMNS = [column.name for column in ARCHIVED_SENTENCES.columns]


def read_archived(sources: Sources, engine: Engine) -> Landed:
    """Return the rows of the archive's table as delivered, including bad rows.

    Raises
    ------
    SourceError
        The source is not set, is missing, unreachable or damaged, or is packed in another way.
    """
    source = sources.find(ARCHIVE)
    return land(source, engine, sources.unpacking(ARCHIVE), sqlite_rows(TABLE, COLUMNS))


def unpack(archive: Source, target: Path, how: Unpacking, *, replace: bool = False) -> Mapping[str, int]:
    """Write the SQLite database of an archive, completely or not at all; return the number of rows by label.

    Parameters
    ----------
    archive
        The compressed tar archive.
    target
        The file to write, in an existing folder.
    how
        Limit of bytes.
    replace
        Whether an existing file may be replaced.

    Raises
    ------
    SourceError
        The archive is missing, damaged or packed in another way, or the file cannot be written.
    """
    if target.is_dir():
        raise SourceError(f"{target} is a folder; give the name of a file")
    if target.exists() and not replace:
        raise SourceError(f"{target} exists already; choose another name, or use --force to replace it")
    try:
        # In the target's folder, because renaming is atomic only within a file system.
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            packed = fetch(archive, Path(folder) / "archive", how)
            place = Path(folder) / "unpacked"
            place.mkdir()
            file = how.unpack(packed, place, str(archive))
            with opened_sqlite(file, TABLE, COLUMNS, str(archive)) as database:
                rows = counted(database, TABLE, "choose_one")
            file.replace(target)
    except OSError as error:
        raise SourceError(
            f"{target} cannot be written: {error.strerror}; choose a file in a folder that you can write"
        ) from None
    return rows


def unpacking(settings: Settings) -> Unpacking:
    """Return how archives are unpacked, by the settings."""
    return Unpacking(settings.archive_max_bytes, variable("archive_max_bytes"))
