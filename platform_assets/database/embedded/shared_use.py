"""Sharing of one embedded PostgreSQL server by all processes that use the same folder.

Each process holds a shared lock on `users.lock` while it uses the server. The first process starts the watcher
(`watcher.py`), which owns the server and stops it when no process holds the lock.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.base.errors import DatabaseError
from platform_assets.database.embedded.server import POLL_SECONDS, START_SECONDS, ServerFolder
from platform_assets.database.session import ignore_shell_variables

if TYPE_CHECKING:
    from pathlib import Path

WATCHER = "platform_assets.database.embedded.watcher"
LOG_LINES = 20
"""Number of log lines that an error message quotes."""

_locks: set[int] = set()


@dataclass(frozen=True)
class ServerUse:
    """Registration of this process as a user of a running server, until `close` or the end of the process."""

    port: int
    folder: ServerFolder
    _lock: int

    def known_port(self) -> int | None:
        """Return the port of the running server; None while it does not run."""
        return self.folder.port()

    def start_again(self) -> int:
        """Start the server if it has ended; return its port.

        Raises
        ------
        DatabaseError
            The server cannot be started.
        """
        return _started(self.folder)

    def close(self) -> None:
        """End the registration. The server stops when no process is registered any more."""
        release(self._lock)


def use_server(path: Path) -> ServerUse:
    """Start the server of a folder if it is not running, and register this process as one of its users.

    A forked child must call this function itself. It does not inherit the registration, because otherwise it could keep
    the server running after its parent was killed.

    Parameters
    ----------
    path
        The server's folder, which is created if it is missing.

    Raises
    ------
    DatabaseError
        The server cannot be started. The message gives the reason or the last lines of the server's log.

    """
    folder = ServerFolder(path.resolve())
    ignore_shell_variables(embedded=True)
    try:
        folder.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        # This call waits while a watcher stops the server, because the watcher then holds the lock exclusively.
        users = _lock(folder.users_lock, fcntl.LOCK_SH)
    except PermissionError as error:
        raise DatabaseError(
            f"the embedded database in {folder.path} belongs to another user ({error}); "
            "run as that user, or set PLATFORM_HOME to a folder that you own"
        ) from error
    try:
        port = _started(folder)
    except BaseException:
        release(users)
        raise
    return ServerUse(port, folder, users)


def wait_until_stopped(path: Path) -> None:
    """Wait until the server of a folder has stopped, which requires that no process uses it.

    Raises
    ------
    DatabaseError
        The server did not stop within `START_SECONDS`.
    """
    release(_lock(ServerFolder(path.resolve()).watcher_lock, fcntl.LOCK_EX))


def _started(folder: ServerFolder) -> int:
    start = _lock(folder.start_lock, fcntl.LOCK_EX)
    try:
        return _running_port(folder)
    finally:
        release(start)


def _running_port(folder: ServerFolder) -> int:
    """Start a watcher if none runs, wait until the server is ready, and return its port."""
    deadline = time.monotonic() + START_SECONDS
    offset = None
    while time.monotonic() < deadline:
        watcher = try_lock(folder.watcher_lock, fcntl.LOCK_EX)
        if watcher is None:
            if port := folder.port():
                return port
            time.sleep(POLL_SECONDS)
            continue
        try:
            if offset is not None:
                raise _start_error(folder, offset, "did not start")
            offset = _start_watcher(folder, watcher)
        finally:
            # A watcher that was started here still holds the lock, because it inherited the descriptor.
            release(watcher)
    raise _start_error(folder, offset or 0, f"was not ready after {START_SECONDS} s")


def _start_watcher(folder: ServerFolder, watcher_lock: int) -> int:
    # Remove files of an earlier watcher. It has ended, because this process holds the watcher's lock.
    folder.address.unlink(missing_ok=True)
    folder.failure.unlink(missing_ok=True)
    folder.rotate_log()
    with folder.log.open("ab") as log:
        offset = log.tell()
        command = [sys.executable, "-m", WATCHER, str(folder.path), str(watcher_lock)]
        # The started process forks and exits at once. Its child is the watcher, so the watcher is not a child of this
        # process.
        started = subprocess.run(  # noqa: S603 - our own program
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder.path,
            start_new_session=True,
            pass_fds=(watcher_lock,),
            check=False,
        )
    if started.returncode:
        raise _start_error(folder, offset, f"did not start, because its watcher exited with code {started.returncode}")
    return offset


def _start_error(folder: ServerFolder, offset: int, what: str) -> DatabaseError:
    if folder.failure.exists():
        return DatabaseError(folder.failure.read_text(encoding="utf-8"))
    tail = "\n".join(folder.log_since(offset).splitlines()[-LOG_LINES:])
    return DatabaseError(f"the embedded PostgreSQL server {what}; see its log, {folder.log}, which ends with\n{tail}")


def _lock(path: Path, kind: int) -> int:
    """Wait for a lock and take it.

    Raises
    ------
    DatabaseError
        Another process held the lock for `START_SECONDS`.

    """
    deadline = time.monotonic() + START_SECONDS
    while (lock := try_lock(path, kind)) is None:
        if time.monotonic() > deadline:
            raise DatabaseError(
                f"{path} was still locked after {START_SECONDS} s, because another process is starting or stopping the "
                "embedded database; see server.log in the same folder"
            )
        time.sleep(POLL_SECONDS)
    return lock


def try_lock(path: Path, kind: int) -> int | None:
    """Take a file lock without waiting; return its descriptor, or None if another process holds the lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    _locks.add(descriptor)
    return descriptor


def release(lock: int) -> None:
    """Release a lock that this process took."""
    if lock in _locks:
        _locks.discard(lock)
        # Close the descriptor. LOCK_UN would also release the lock for processes that inherited the descriptor.
        os.close(lock)


def adopt(lock: int) -> None:
    """Register a lock whose descriptor this process inherited, so that `release` can release it."""
    _locks.add(lock)


def _release_in_child() -> None:
    for lock in list(_locks):
        release(lock)


os.register_at_fork(after_in_child=_release_in_child)
