"""The watcher: the process that starts one embedded PostgreSQL server, and stops it when no process uses it any more.

`shared_use.py` runs this program, detached from the process that needs the server. The watcher starts the server
(`server.py`), migrates its databases (`migrate.py`) and writes `server.json`. It then polls for an exclusive lock on
`users.lock`. As soon as it gets the lock, it stops the server and exits.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from platform_assets.base.errors import DatabaseError, first_line
from platform_assets.base.process_exit import call_and_leave
from platform_assets.database.connections import embedded_database
from platform_assets.database.embedded.server import APP, OWNER, Server, ServerFailedError, ServerFolder
from platform_assets.database.embedded.shared_use import adopt, try_lock
from platform_assets.database.migrate import make_role, migrate

WATCH_SECONDS = 0.2
"""Interval between two attempts to get `users.lock`."""

_log = logging.getLogger("platform_assets.postgres_watcher")


def _watch(folder: ServerFolder) -> None:
    """Run the server until no process uses it any more."""
    server = Server(folder)
    try:
        server.start()
        _prepare(folder, server.port)
        with tempfile.NamedTemporaryFile("w", dir=folder.path, prefix="server.json.", delete=False) as file:
            json.dump({"port": server.port, "server": server.pid, "watcher": os.getpid()}, file)
        Path(file.name).rename(folder.address)
        while try_lock(folder.users_lock, fcntl.LOCK_EX) is None:
            if not server.alive():
                raise ServerFailedError("the server exited unexpectedly; see its last log messages above")
            time.sleep(WATCH_SECONDS)
        _log.info("stopping the server, because no process uses it any more")
    finally:
        folder.address.unlink(missing_ok=True)
        server.stop()


def _prepare(folder: ServerFolder, port: int) -> None:
    owner, database = (embedded_database(port, role, folder.password(role)) for role in (OWNER, APP))
    with contextlib.closing(owner), contextlib.closing(database):
        make_role(owner, APP, folder.password(APP))
        migrate(database, owner)
        with owner.connect("dagster") as connection:
            # Dagster commits after each log line, so synchronous commits would be slow. Without them, a crash can lose
            # the last log lines of runs that the crash also ended. On an external server the administrator decides.
            connection.execute(f"alter database {database.name('dagster')} set synchronous_commit = off".encode())


def _main(path: str, watcher_lock: str) -> None:
    if os.fork():
        os._exit(0)
    # Adopt the lock after the fork, because a forked child releases all locks that were registered before.
    adopt(int(watcher_lock))
    # Restore the default handling of these signals. A shell ignores them for background processes, and child processes
    # inherit this.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped by SIGTERM"))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s watcher %(levelname)s %(message)s", stream=sys.stderr)
    folder = ServerFolder(Path(path))
    try:
        _watch(folder)
    except ServerFailedError as error:
        _log.error("%s", error)
        sys.exit(1)
    except DatabaseError as error:
        _log.error("%s", error)
        folder.failure.write_text(str(error), encoding="utf-8")
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - any error is reported to the process that waits for the server
        _log.exception("unexpected error")
        reason = f"{type(error).__name__}: {first_line(error)}"
        told = f"the embedded PostgreSQL server did not start: {reason}; the traceback is in {folder.log}"
        folder.failure.write_text(told, encoding="utf-8")
        sys.exit(1)


if __name__ == "__main__":
    call_and_leave(partial(_main, *sys.argv[1:]))
