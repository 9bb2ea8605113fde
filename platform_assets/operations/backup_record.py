"""Records of backups in `platform.backups`, and the lock that prevents the removal of files during a backup."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from platform_assets.database.connections import Database

UPKEEP_LOCK = "upkeep"
"""Name of the lock that a process holds while it removes files of the lake, or makes a backup."""


@dataclass(frozen=True)
class Backup:
    """A backup that was written and checked.

    Attributes
    ----------
    at
        Time at which the databases were read, UTC.
    place
        Machine and folder of the backup.
    """

    at: datetime
    place: str

    def is_recent(self, longest_days: int) -> bool:
        """Return whether the backup is at most `longest_days` old."""
        return datetime.now(UTC) - self.at <= timedelta(days=longest_days)


def record_backup(database: Database, backup: Backup, digest: str, size: int) -> None:
    """Record a backup.

    Parameters
    ----------
    database
        The platform's databases.
    backup
        The backup to record.
    digest, size
        SHA-256 of the backup's manifest, and the size of the backup's files in bytes.
    """
    with closing(database.connect("platform")) as connection:
        connection.execute(
            "insert into platform.backups (at, place, digest, bytes) values (%s, %s, %s, %s)",
            [backup.at, backup.place, digest, size],
        )


def backups(database: Database) -> list[Backup]:
    """Return all recorded backups, newest first."""
    with closing(database.connect("platform")) as connection:
        rows = connection.execute("select at, place from platform.backups order by at desc, id desc").fetchall()
    return [Backup(at, place) for at, place in rows]


def newest_backup(database: Database) -> Backup | None:
    """Return the newest recorded backup; None if no backup was made."""
    return next(iter(backups(database)), None)
