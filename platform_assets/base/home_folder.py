"""The platform's folder (PLATFORM_HOME): make it, and check that it can be written."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from platform_assets.base.errors import PlatformError

if TYPE_CHECKING:
    from pathlib import Path


def make_home(home: Path) -> Path:
    """Make the platform's folder, or one below it, and see that it can be written.

    Raises
    ------
    PlatformError
        It cannot.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        # Rights alone say nothing of a file system that is mounted read-only.
        tempfile.TemporaryFile(dir=home).close()
    except OSError as error:
        raise PlatformError(
            f"PLATFORM_HOME cannot be written ({error.strerror}: {home}); set it to a folder of your own"
        ) from None
    return home
