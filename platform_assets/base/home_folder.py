"""Create PLATFORM_HOME, keep it private, and check that it can be written."""

from __future__ import annotations

import stat
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

from platform_assets.base.errors import PlatformError

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE = 0o700
"""Mode of the home: only its owner may enter, because it can contain personal data."""
RESTORING = "restoring"
"""Folder in the home that exists while a backup is being restored."""
_FOLDERS = frozenset(
    ("dagster", "demo", "exports", "lake", "landing", "logs", "mlflow", "postgres", RESTORING, "scratch", "serving")
) | {"up.lock"}
"""Names of all files and folders that the platform creates directly below its home."""


def make_home(home: Path, folder: str = "") -> Path:
    """Create PLATFORM_HOME, or a folder below it, and check that it can be written.

    Parameters
    ----------
    home
        PLATFORM_HOME. A new folder gets mode 0700. So does an existing folder that all users of the machine may enter,
        if it contains only the platform's files. A mode that admits only the group, such as 0750, is kept.
    folder
        Name of a folder directly below the home; empty for the home itself.

    Raises
    ------
    PlatformError
        The folder cannot be created or written, or a backup is being restored into the home.
    """
    path = home / folder
    try:
        if folder != RESTORING and (home / RESTORING).exists():
            raise PlatformError(
                f"a backup is being restored into {home}, or its restore was interrupted; wait until it ends, or empty "
                "the folder and restore again"
            )
        home.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
        _make_private(home)
        path.mkdir(exist_ok=True, mode=PRIVATE)
        # Write a file, because permissions do not show whether the file system is mounted read-only.
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise PlatformError(
            f"PLATFORM_HOME is not writable ({error.strerror}: {path}); set it to a folder that you can write to"
        ) from None
    return path


def is_open_to_all(home: Path) -> bool:
    """Return whether every user of the machine may enter a folder."""
    return bool(stat.S_IMODE(home.stat().st_mode) & stat.S_IRWXO)


def _make_private(home: Path) -> None:
    # Ignore PermissionError: a user who does not own the folder may not list it or change its mode.
    with suppress(PermissionError):
        # Never change the mode of a folder that also contains other files, such as /srv or a user's home directory.
        if is_open_to_all(home) and {path.name for path in home.iterdir()} <= _FOLDERS:
            home.chmod(PRIVATE)
