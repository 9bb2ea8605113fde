"""Record erasures next to older backups, so that restoring one of these backups repeats the erasures."""

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
"""File with the keyed hashes of all erasures. It is next to the manifest, which does not list it."""


def note_in_backups(database: Database) -> list[str]:
    """Write the hashes of all erasures next to each backup on this machine; return a description of every backup.

    A backup itself is never changed, so it contains the person's data until the backup is removed. A restore erases the
    person again.
    """
    with closing(database.connect("platform")) as connection:
        rows = connection.execute("select kind, key, hash from platform.erasures order by id").fetchall()
    erasures = [{"kind": kind, "key": key, "hash": digest} for kind, key, digest in rows]
    told = []
    for backup in backups(database):
        machine, _, folder = backup.place.partition(":")
        is_noted = machine == socket.gethostname() and _note(Path(folder), erasures)
        fate = (
            "a restore repeats the erasure" if is_noted else "not on this machine; after a restore, repeat the erasure"
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
    """Return the erasures that were recorded next to a backup.

    Raises
    ------
    BackupError
        The file is damaged.
    """
    path = folder / ERASURES
    try:
        return [{name: str(one[name]) for name in ("kind", "key", "hash")} for one in json.loads(path.read_bytes())]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError):
        raise BackupError(
            f"{path} is damaged, so a restore would bring back erased personal data; use another backup"
        ) from None
