"""Lock that allows one `platform-assets up` for each home, because two Dagster daemons would run everything twice."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from platform_assets.base.errors import PlatformError
from platform_assets.base.home_folder import make_home
from platform_assets.database.embedded.shared_use import release, try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from platform_assets.operations.supervisor import Server

LOCK = "up.lock"
"""Name of the lock file below the home; it holds the process id and the addresses of its owner."""


@contextmanager
def only_one_up(home: Path, servers: Sequence[Server]) -> Iterator[None]:
    """Hold the lock of a home while its servers run; the lock is free as soon as this process ends.

    Parameters
    ----------
    home
        PLATFORM_HOME.
    servers
        The servers to start, whose addresses the lock file names.

    Raises
    ------
    PlatformError
        Another process holds the lock; the message says where its servers are.
    """
    path = make_home(home) / LOCK
    lock = try_lock(path, fcntl.LOCK_EX)
    if lock is None:
        raise PlatformError(
            f"`platform-assets up` already runs on {home}, as {path.read_text(encoding='utf-8') or 'another process'}; "
            "use that one, or stop it first"
        )
    try:
        addresses = ", ".join(f"{server.name} {server.address}" for server in servers if server.port)
        path.write_text(f"process {os.getpid()}: {addresses}", encoding="utf-8")
        yield
    finally:
        release(lock)
