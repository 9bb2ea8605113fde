"""Write a consistent backup of the databases, the lake with the models, and the files in PLATFORM_HOME.

The platform can be in use. The backup is consistent for these reasons:

- The databases are read before the files. A database refers only to files that were stored earlier, and files never
  change, so the backup contains all files to which its databases refer. The lake in the backup can be newer than the
  databases. This also happens after a run is killed, and the next runs correct it.
- The three databases are read at the same moment, while no version can be registered or promoted.
- The copies of the ledger's newest hashes that are stored in the lake are read before the ledger, because the ledger
  must contain these hashes.
- The log of each table is copied before the data files to which it refers. The job `upkeep`, which deletes files, waits
  until the backup is complete.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from platform_assets.approval.kept_heads import HEADS_FILE
from platform_assets.base.errors import first_line
from platform_assets.base.home_folder import PRIVATE
from platform_assets.base.logs import shown
from platform_assets.base.provenance import code_version
from platform_assets.database.dumps import dump, server_major, snapshots
from platform_assets.database.opening import open_owner
from platform_assets.domains import model_specs
from platform_assets.models.artefact_store import FOLDER
from platform_assets.operations.backup_files import BackupError, Manifest, check, copy_out, digest_of, listed
from platform_assets.operations.backup_record import UPKEEP_LOCK, Backup, record_backup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow.fs as pafs

    from platform_assets.database.connections import Purpose
    from platform_assets.services import Services

LAKE, DATABASES = "lake", "databases"
"""Folders of a backup."""
HOME_FOLDERS = ("mlflow", "dagster", "exports", "demo", "landing")
"""Folders of PLATFORM_HOME that are backed up. Logs, scratch files and PostgreSQL's own files are not backed up."""
_LOG = "_delta_log/"
_LAST_CHECKPOINT = "_delta_log/_last_checkpoint"


def make_backup(services: Services, folder: Path, say: Callable[[str], None]) -> Manifest:
    """Write a backup into a new folder, check it, and record it.

    Parameters
    ----------
    services
        The platform's services.
    folder
        The new folder. Only its owner gets access, because the backup contains personal data.
    say
        Callback that receives progress messages.

    Raises
    ------
    BackupError
        The lake is in memory, or the folder is not empty, is inside the platform's own folders, or cannot be written.
    PlatformError
        The database or the lake does not respond.
    """
    folder = folder.absolute()
    _refuse(services, folder)
    _make_folder(folder)
    try:
        with services.database.lock(UPKEEP_LOCK), services.tables.location.plain_errors("the lake", "was not copied"):
            manifest = _write(services, folder, say)
        say("checking the copies")
        check(folder, manifest)
        digest = manifest.write(folder)
    except OSError as error:
        raise BackupError(
            f"the backup to {folder} failed: {first_line(error)}; delete the folder and try again"
        ) from None
    backup = Backup(datetime.fromisoformat(manifest.made_at), f"{socket.gethostname()}:{folder}")
    record_backup(services.database, backup, digest, manifest.bytes)
    return manifest


def _refuse(services: Services, folder: Path) -> None:
    settings = services.settings
    if settings.lake_is_memory:
        raise BackupError("the lake is in memory, so there is nothing to back up; set PLATFORM_LAKE_URI")
    taken = [settings.home / name for name in (*HOME_FOLDERS, "lake", "postgres")]
    if not services.tables.location.is_remote:
        taken.append(Path(services.tables.location.root))
    for one in taken:
        if folder.is_relative_to(one):
            raise BackupError(f"{folder} is inside {one}, which is part of the backup; choose another folder")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
        if any(folder.iterdir()):
            raise BackupError(f"{folder} is not empty; choose a new folder")
        folder.chmod(PRIVATE)
    except PermissionError:
        raise BackupError(
            f"{folder} cannot be created or written by the user with id {os.geteuid()}; change the owner of the folder "
            f"{folder.parent}, or choose another folder"
        ) from None
    except OSError as error:
        raise BackupError(f"{folder} cannot be used: {error.strerror}; choose a new folder") from None


def _write(services: Services, folder: Path, say: Callable[[str], None]) -> Manifest:
    lake = services.tables.location.all_files()
    heads = f"{FOLDER}/{HEADS_FILE}"
    files = _below(LAKE, copy_out(lake, listed(lake, lambda path: path == heads, FOLDER), folder / LAKE))
    made_at, databases = _dump(services, folder, say)
    say(f"copying the lake, {shown(services.tables.location.root)}")
    files |= _below(LAKE, _copy_lake(lake, folder / LAKE, heads))
    for name in HOME_FOLDERS:
        source = services.settings.home / name
        if source.is_dir():
            say(f"copying {source}")
            files |= _below(name, _copy_folder(source, folder / name))
    for name in databases:
        path = folder / DATABASES / f"{name}.dump"
        files[f"{DATABASES}/{path.name}"] = (path.stat().st_size, digest_of(path))
    return Manifest(made_at.isoformat(), code_version(), server_major(services.database), databases, files)


def _dump(services: Services, folder: Path, say: Callable[[str], None]) -> tuple[datetime, tuple[Purpose, ...]]:
    settings = services.settings
    has_mlflow = not settings.mlflow_tracking_uri.get_secret_value()
    if not has_mlflow:
        say("MLflow's records are on another tracking server, so they are NOT in this backup; back up that server too")
    purposes: tuple[Purpose, ...] = ("platform", "dagster", "mlflow") if has_mlflow else ("platform", "dagster")
    url = settings.migration_database_url.get_secret_value() or settings.database_url.get_secret_value()
    (folder / DATABASES).mkdir(mode=PRIVATE)
    with closing(open_owner(url, settings.home)) as owner, ExitStack() as held:
        with _no_promotion(services):
            found = held.enter_context(snapshots(services.database))
            made_at = datetime.now(UTC)
        for purpose in purposes:
            say(f"dumping the database {services.database.name(purpose)}")
            # Dump the platform's database as its owner, because no other role may read the sequences of its tables.
            reader = owner if purpose == "platform" else services.database
            dump(reader, purpose, found[purpose], folder / DATABASES / f"{purpose}.dump")
    return made_at, purposes


@contextmanager
def _no_promotion(services: Services) -> Iterator[None]:
    """Hold locks that prevent registrations and promotions, so that the ledger and the registry are consistent."""
    names = sorted({*services.promoter.models(), *(spec.name for spec in model_specs())})
    with ExitStack() as held:
        for name in names:
            # Acquire the locks in the same order as a promotion does, to avoid deadlocks.
            held.enter_context(services.database.lock(f"promote {name}"))
            held.enter_context(services.database.lock(f"register {name}"))
        yield


def _copy_lake(lake: pafs.FileSystem, target: Path, heads: str) -> dict[str, tuple[int, str]]:
    # Copy the pointers to checkpoints first, then the logs, and then the data files, because a pointer refers to files
    # of the log, and a log refers to data files. List the files again before each copy, so that the list includes all
    # files to which the copied files refer.
    pointers = copy_out(lake, listed(lake, lambda path: path.endswith(_LAST_CHECKPOINT)), target)
    logs = copy_out(lake, listed(lake, lambda path: _LOG in path and path not in pointers and _is_whole(path)), target)
    rest = listed(lake, lambda path: _LOG not in path and path != heads and _is_whole(path))
    return {**pointers, **logs, **copy_out(lake, rest, target)}


def _is_whole(path: str) -> bool:
    """Return whether a file is complete. While a file is being written, it has a temporary name."""
    return "#" not in path and not Path(path).name.startswith(".") and not path.endswith(_LAST_CHECKPOINT)


def _copy_folder(source: Path, target: Path) -> dict[str, tuple[int, str]]:
    import pyarrow.fs as pafs

    files = pafs.SubTreeFileSystem(str(source), pafs.LocalFileSystem())
    return copy_out(files, listed(files, lambda _: True), target, may_vanish=True)


def _below(folder: str, files: dict[str, tuple[int, str]]) -> dict[str, tuple[int, str]]:
    return {f"{folder}/{path}": found for path, found in files.items()}
