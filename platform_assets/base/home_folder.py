"""PLATFORM_HOME: create it, keep it private, and check that it can be written."""

from __future__ import annotations

import stat
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

from platform_assets.base.errors import PlatformError

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE = 0o700
"""Mode of the home: only its owner may enter, because data below it can be personal."""
_FOLDERS = frozenset(
    ("dagster", "demo", "lake", "logs", "mlflow", "postgres", "scratch", "serving", "up.lock"),
)
"""Everything that the platform creates directly below its home."""


def make_home(home: Path, folder: str = "") -> Path:
    """Create PLATFORM_HOME, or a folder below it, and check that it can be written.

    Parameters
    ----------
    home
        PLATFORM_HOME. It gets mode 0700 if it is new, or if it holds nothing but the platform's folders and all
        users of the machine may enter it. A mode that admits only the group, such as 0750, stays.
    folder
        Name of a folder directly below the home; empty for the home itself.

    Raises
    ------
    PlatformError
        The folder cannot be created or written.
    """
    path = home / folder
    try:
        home.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
        _make_private(home)
        path.mkdir(exist_ok=True, mode=PRIVATE)
        # Permissions do not show that a file system is mounted read-only.
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise PlatformError(
            f"PLATFORM_HOME cannot be written ({error.strerror}: {path}); set it to a folder of your own"
        ) from None
    return path


def is_open_to_all(home: Path) -> bool:
    """Return whether every user of the machine may enter a folder."""
    return bool(stat.S_IMODE(home.stat().st_mode) & stat.S_IRWXO)


def _make_private(home: Path) -> None:
    # Only the owner of a folder may list it for certain and change its mode.
    with suppress(PermissionError):
        # Never change the mode of a folder that also holds other things, such as /srv or a person's home directory.
        if is_open_to_all(home) and {path.name for path in home.iterdir()} <= _FOLDERS:
            home.chmod(PRIVATE)
