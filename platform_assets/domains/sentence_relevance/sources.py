"""Where the labelled sentences come from, and how they get out of their packing."""

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
    """The rows of the archive's table as they were delivered, every one of them.

    Raises
    ------
    SourceError
        No source is set, or it is missing, unreachable, damaged, or not packed as it should be.
    """
    source = sources.find(ARCHIVE)
    return land(source, engine, sources.unpacking(ARCHIVE), sqlite_rows(TABLE, COLUMNS))


def unpack(archive: Source, target: Path, how: Unpacking, *, replace: bool = False) -> Mapping[str, int]:
    """Write the SQLite database that an archive holds, whole or not at all; its rows by label.

    Parameters
    ----------
    archive
        The gzip tarball.
    target
        The file to write, in a folder that is there.
    how
        Its limit.
    replace
        Whether a file that is there already may be replaced.

    Raises
    ------
    SourceError
        The archive is missing, damaged or not packed as it should be, or the file cannot be written.
    """
    if target.is_dir():
        raise SourceError(f"{target} is a folder; name the file to be written")
    if target.exists() and not replace:
        raise SourceError(f"{target} is there already; name another file, or replace it with --force")
    try:
        # Beside the target, for only there a file takes its name in one step.
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            packed = fetch(archive, Path(folder) / "archive", how)
            place = Path(folder) / "unpacked"
            place.mkdir()
            file = how.unpack(packed, place, str(archive))
            with opened_sqlite(file, TABLE, COLUMNS, str(archive)) as database:
                rows = counted(database, TABLE, "choose_one")
            file.replace(target)
    except OSError as error:
        raise SourceError(f"{target} cannot be written: {error.strerror}; name a file in a folder of yours") from None
    return rows


def unpacking(settings: Settings) -> Unpacking:
    """How archives are unpacked, as the settings say."""
    return Unpacking(settings.archive_max_bytes, variable("archive_max_bytes"))
