"""Use of an embedded PostgreSQL server, which all processes share that use its folder.

Each user holds a shared lock on `users.lock` until it closes or its process ends. The first user starts the watcher
(`watcher.py`), which owns the server and stops it after the last user.
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
"""Number of log lines that an error quotes."""

_locks: set[int] = set()


@dataclass(frozen=True)
class ServerUse:
    """Use of a running server until `close`, or until this process ends."""

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
        """End the use; the server stops after the last one."""
        release(self._lock)


def use_server(path: Path) -> ServerUse:
    """Use the server of a folder; start it if it is not running.

    Forked children do not share the use, so that they cannot keep the server of a killed process alive. They must
    call this function themselves.

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
        # This waits while a watcher stops the server, because the watcher then holds the lock exclusively.
        users = _lock(folder.users_lock, fcntl.LOCK_SH)
    except PermissionError as error:
        raise DatabaseError(
            f"the embedded database in {folder.path} belongs to another user ({error}); "
            "run as that user, or set PLATFORM_HOME to a folder of your own"
        ) from error
    try:
        port = _started(folder)
    except BaseException:
        release(users)
        raise
    return ServerUse(port, folder, users)


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
            # A watcher started here keeps the lock by its inherited descriptor.
            release(watcher)
    raise _start_error(folder, offset or 0, f"was not ready after {START_SECONDS} s")


def _start_watcher(folder: ServerFolder, watcher_lock: int) -> int:
    # This process holds the watcher's lock, so these files are from a watcher that has ended.
    folder.address.unlink(missing_ok=True)
    folder.failure.unlink(missing_ok=True)
    folder.rotate_log()
    with folder.log.open("ab") as log:
        offset = log.tell()
        command = [sys.executable, "-m", WATCHER, str(folder.path), str(watcher_lock)]
        # The program forks and returns at once, so that the watcher is not a child of this process.
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
        raise _start_error(folder, offset, f"did not start, because its watcher ended with exit {started.returncode}")
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
                f"{path} was locked for {START_SECONDS} s, because another process is starting or stopping the "
                "embedded database and does not finish; see server.log in the same folder"
            )
        time.sleep(POLL_SECONDS)
    return lock


def try_lock(path: Path, kind: int) -> int | None:
    """Take a free lock and keep it until `release` or the end of this process; None if another process holds it."""
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
        # Close the descriptor. LOCK_UN would release the lock for all processes that share the open file.
        os.close(lock)


def adopt(lock: int) -> None:
    """Keep a lock whose descriptor this process inherited."""
    _locks.add(lock)


def _release_in_child() -> None:
    for lock in list(_locks):
        release(lock)


os.register_at_fork(after_in_child=_release_in_child)
