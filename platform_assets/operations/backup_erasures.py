"""Store a list of all erasures of personal data with each backup on this machine. A restore repeats these erasures."""

from __future__ import annotations

import json
import os
import socket
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform_assets.operations.backup_files import MANIFEST, BackupError
from platform_assets.operations.backup_record import backups

if TYPE_CHECKING:
    from platform_assets.database.connections import Database

ERASURES = "erasures.json"
"""Name of the file with the keyed hashes of all erasures, in the backup's folder. The manifest does not list it."""


def note_in_backups(database: Database) -> list[str]:
    """Write the hashes of all erasures to the folder of each backup on this machine.

    The files of a backup are never changed, so the backup contains the data of an erased person until the backup is
    deleted. If the backup is restored, the restore erases the person again.

    Returns
    -------
    list of str
        A sentence for each backup: whether a restore repeats the erasure.
    """
    with closing(database.connect("platform")) as connection:
        rows = connection.execute("select kind, key, hash from platform.erasures order by id").fetchall()
    erasures = [{"kind": kind, "key": key, "hash": digest} for kind, key, digest in rows]
    told = []
    for backup in backups(database):
        machine, _, folder = backup.place.partition(":")
        is_noted = machine == socket.gethostname() and _note(Path(folder), erasures)
        fate = (
            "a restore repeats the erasure"
            if is_noted
            else "the backup is not on this machine; after a restore, repeat the erasure"
        )
        told.append(f"{backup.place} of {backup.at:%Y-%m-%d %H:%M} UTC: {fate}")
    return told


def _note(folder: Path, erasures: list[dict[str, Any]]) -> bool:
    if not (folder / MANIFEST).exists():
        return False
    partial = folder / f".{ERASURES}.{os.getpid()}"
    try:
        partial.write_text(json.dumps(erasures), encoding="utf-8")
        partial.replace(folder / ERASURES)
    except OSError:
        return False
    return True


def read_erasures(folder: Path) -> list[dict[str, str]]:
    """Return the erasures that `note_in_backups` wrote to a backup's folder.

    Raises
    ------
    BackupError
        The file with the erasures is damaged.
    """
    path = folder / ERASURES
    try:
        return [{name: str(one[name]) for name in ("kind", "key", "hash")} for one in json.loads(path.read_bytes())]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError):
        raise BackupError(
            f"{path} is damaged, so a restore could not repeat the erasures of personal data; use another backup"
        ) from None
