"""Lock that allows one `platform-assets up` per home, because two Dagster daemons would run everything twice."""

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
"""Name of the lock file in the home. The file contains the process id and the server addresses of the lock's holder."""


@contextmanager
def only_one_up(home: Path, servers: Sequence[Server]) -> Iterator[None]:
    """Hold the lock of a home while its servers run. The lock is released even if this process is killed.

    Parameters
    ----------
    home
        PLATFORM_HOME.
    servers
        The servers to start. Their addresses are written to the lock file.

    Raises
    ------
    PlatformError
        Another process holds the lock. The message contains its id and server addresses.
    """
    path = make_home(home) / LOCK
    lock = try_lock(path, fcntl.LOCK_EX)
    if lock is None:
        holder = path.read_text(encoding="utf-8") or "another process"
        raise PlatformError(
            f"`platform-assets up` is already running on {home}, as {holder}; use its servers, or stop it first"
        )
    try:
        addresses = ", ".join(f"{server.name} {server.address}" for server in servers if server.port)
        path.write_text(f"process {os.getpid()}: {addresses}", encoding="utf-8")
        yield
    finally:
        release(lock)
