"""An embedded PostgreSQL server, shared by every process that uses its folder, gone after the last.

This is the users' side: each holds a shared lock on `users.lock` until it closes or ends, however it
ends, and sees to it that a watcher runs. The watcher (`watcher.py`) owns the server.
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

if TYPE_CHECKING:
    from pathlib import Path

WATCHER = "platform_assets.database.embedded.watcher"
LOG_LINES = 20

_locks: set[int] = set()


@dataclass(frozen=True)
class ServerUse:
    """The right to use a running server until `close`, or until this process ends."""

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
        """Let go of the server; the last one's leaving stops it."""
        release(self._lock)


def use_server(path: Path) -> ServerUse:
    """Use the server of a folder, which is started when it does not run.

    Children made by `fork` do not share the use: a killed process must not live on in them.
    They open the database for themselves.

    Raises
    ------
    DatabaseError
        The server cannot be started; with the last lines of its log.

    """
    folder = ServerFolder(path.resolve())
    try:
        folder.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Waits while a watcher stops the server: it then holds this lock exclusively.
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
    """Wait for the server to be ready, after starting a watcher when there is none."""
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
            # The watcher, where it was started, holds the same lock by its own descriptor.
            release(watcher)
    raise _start_error(folder, offset or 0, f"was not ready after {START_SECONDS} s")


def _start_watcher(folder: ServerFolder, watcher_lock: int) -> int:
    # Whoever left it was killed: a living watcher would hold the lock.
    folder.address.unlink(missing_ok=True)
    folder.rotate_log()
    with folder.log.open("ab") as log:
        offset = log.tell()
        command = [sys.executable, "-m", WATCHER, str(folder.path), str(watcher_lock)]
        # It forks and returns at once, so that the real watcher is no child of ours.
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
        raise _start_error(folder, offset, f"could not be watched (exit {started.returncode})")
    return offset


def _start_error(folder: ServerFolder, offset: int, what: str) -> DatabaseError:
    tail = "\n".join(folder.log_since(offset).splitlines()[-LOG_LINES:])
    return DatabaseError(f"the embedded PostgreSQL server {what}:\n{tail}\nThe whole log: {folder.log}")


def _lock(path: Path, kind: int) -> int:
    """Take a lock, waiting for it.

    Raises
    ------
    DatabaseError
        It could not be had in time.

    """
    deadline = time.monotonic() + START_SECONDS
    while (lock := try_lock(path, kind)) is None:
        if time.monotonic() > deadline:
            raise DatabaseError(
                f"{path} was locked for {START_SECONDS} s: another process starts or stops the embedded "
                "database and does not finish; look into the server.log beside it"
            )
        time.sleep(POLL_SECONDS)
    return lock


def try_lock(path: Path, kind: int) -> int | None:
    """Take a lock that is free; it is kept until `release`, or until this process ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    _locks.add(descriptor)
    return descriptor


def release(lock: int) -> None:
    """Let go of a lock that was taken here."""
    if lock in _locks:
        _locks.discard(lock)
        # Closing, not LOCK_UN: that would take the lock from others who share the description.
        os.close(lock)


def adopt(lock: int) -> None:
    """Take over a lock that this process was started with."""
    _locks.add(lock)


def _release_in_child() -> None:
    for lock in list(_locks):
        release(lock)


os.register_at_fork(after_in_child=_release_in_child)
