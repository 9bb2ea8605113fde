"""The platform's folder (PLATFORM_HOME): create it, and check that it is writable."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from platform_assets.base.errors import PlatformError

if TYPE_CHECKING:
    from pathlib import Path


def make_home(home: Path) -> Path:
    """Create the platform's folder, or a folder below it, and check that it is writable.

    Raises
    ------
    PlatformError
        The folder cannot be created or written.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        # Permissions do not show whether the file system is mounted read-only.
        tempfile.TemporaryFile(dir=home).close()
    except OSError as error:
        raise PlatformError(
            f"PLATFORM_HOME cannot be written ({error.strerror}: {home}); set it to a folder of your own"
        ) from None
    return home
