"""Restore a backup into an empty home, on any machine and at any path.

All files are first written below `<home>/restoring`, and moved when all of them are written, so an interrupted restore
leaves no home that looks complete. The restore changes no paths in the data: tables and artifacts use paths relative to
the lake, and `artifact_locations.py` corrects MLflow's paths on first use.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING, get_args

from platform_assets.base.errors import DatabaseError, first_line
from platform_assets.base.home_folder import RESTORING, make_home
from platform_assets.base.logs import shown
from platform_assets.database.connections import Purpose
from platform_assets.database.dumps import load, refuse_filled, server_major
from platform_assets.database.embedded.shared_use import wait_until_stopped
from platform_assets.database.migrate import create_missing, migrate
from platform_assets.database.opening import open_database, open_owner
from platform_assets.lake.lake_identity import bind_lake
from platform_assets.lake.lake_location import LakeLocation
from platform_assets.operations.backup import DATABASES, HOME_FOLDERS, LAKE
from platform_assets.operations.backup_erasures import read_erasures
from platform_assets.operations.backup_files import BackupError, Manifest, check, copy_in, listed, read_manifest
from platform_assets.operations.erasure import erase_again
from platform_assets.services import Services

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pyarrow.fs as pafs

    from platform_assets.database.connections import Database
    from platform_assets.settings import Settings


def restore_backup(settings: Settings, folder: Path, say: Callable[[str], None]) -> Manifest:
    """Restore a backup into an empty home, an empty lake and empty databases.

    Parameters
    ----------
    settings
        The settings of the new platform.
    folder
        Folder of the backup.
    say
        Callback that receives progress messages.

    Raises
    ------
    BackupError
        The backup is damaged, or the home or the lake is not empty.
    DatabaseError
        A database is not empty, or is missing and cannot be created, or its server is older than the backup's.
    """
    folder = folder.absolute()
    if settings.lake_is_memory or settings.bundle:
        raise BackupError(
            "a restore needs a database, and a lake that is not in memory; unset PLATFORM_BUNDLE and "
            "PLATFORM_LAKE_URI=memory://"
        )
    manifest = read_manifest(folder)
    _refuse_filled_home(settings.home)
    say(f"checking {len(manifest.files):,} files of {folder}")
    check(folder, manifest)
    work = make_home(settings.home, RESTORING)
    try:
        _fill(work, folder, manifest, settings, say)
        for path in work.iterdir():
            path.rename(settings.home / path.name)
    except OSError as error:
        raise BackupError(f"{settings.home} was not restored: {first_line(error)}; empty it, and try again") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return manifest


def _fill(work: Path, folder: Path, manifest: Manifest, settings: Settings, say: Callable[[str], None]) -> None:
    inside = settings.model_copy(update={"home": work})
    lake = LakeLocation(inside.lake)
    with lake.plain_errors("the lake", "was not restored"):
        _restore_files(folder, manifest, inside, lake, say)
    try:
        _restore_databases(folder, manifest, inside, settings.lake, say)
        # Repeat erasures before the files are moved to the home, so that an interrupted restore leaves no data of
        # erased persons there.
        if erasures := read_erasures(folder):
            with closing(Services(inside)) as services:
                erase_again(services, erasures, say)
    finally:
        # Wait until the server of the new home has stopped, because its folder is moved or removed next.
        if (server := work / "postgres").exists():
            wait_until_stopped(server)


def _refuse_filled_home(home: Path) -> None:
    if (home / RESTORING).exists():
        raise BackupError(f"an earlier restore into {home} was interrupted or is still running; empty the folder first")
    if home.exists() and any(home.iterdir()):
        raise BackupError(f"{home} is not empty; set PLATFORM_HOME to a new folder")


def _restore_files(
    folder: Path, manifest: Manifest, settings: Settings, lake: LakeLocation, say: Callable[[str], None]
) -> None:
    import pyarrow.fs as pafs

    files = lake.all_files()
    if found := listed(files, lambda _: True):
        raise BackupError(f"the lake {shown(lake.root)} is not empty: it contains {found[0]}; change PLATFORM_LAKE_URI")
    say(f"restoring the lake into {shown(lake.root)}")
    _copy(folder, LAKE, manifest, files)
    for name in HOME_FOLDERS:
        if _names(manifest, name):
            target = make_home(settings.home, name)
            _copy(folder, name, manifest, pafs.SubTreeFileSystem(str(target), pafs.LocalFileSystem()))


def _copy(folder: Path, name: str, manifest: Manifest, files: pafs.FileSystem) -> None:
    copy_in(folder / name, _names(manifest, name), files)


def _names(manifest: Manifest, name: str) -> Sequence[str]:
    return [path.removeprefix(f"{name}/") for path in manifest.files if path.startswith(f"{name}/")]


def _restore_databases(
    folder: Path, manifest: Manifest, settings: Settings, place: str, say: Callable[[str], None]
) -> None:
    url = settings.database_url.get_secret_value()
    with (
        closing(open_database(url, settings.home, migrated=False)) as database,
        closing(open_owner(settings.migration_database_url.get_secret_value() or url, settings.home)) as owner,
    ):
        if database.embedded:
            # Drop the databases that the server of the new home has just created.
            _drop(owner)
        create_missing(owner, database.role)
        if (major := server_major(owner)) < manifest.server_major:
            raise DatabaseError(
                f"the backup needs PostgreSQL {manifest.server_major}, and this server is version {major}; restore it "
                f"into a server of version {manifest.server_major} or newer"
            )
        readers: dict[Purpose, Database] = {"dagster": database, "mlflow": database, "platform": owner}
        for purpose, reader in readers.items():
            refuse_filled(reader, purpose)
        for purpose, reader in readers.items():
            if purpose in manifest.databases:
                say(f"restoring the database {database.name(purpose)}")
                load(reader, purpose, folder / DATABASES / f"{purpose}.dump")
        for line in migrate(database, owner):
            say(line)
        # Give the lake a new identity, because the platform that was backed up may still use the old one.
        bind_lake(database, settings.lake, place)


def _drop(owner: Database) -> None:
    from psycopg import sql

    with closing(owner.maintenance()) as connection:
        for purpose in get_args(Purpose):
            name = sql.Identifier(owner.name(purpose))
            connection.execute(sql.SQL("drop database {} with (force)").format(name))
