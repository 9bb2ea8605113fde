"""The watcher: owns one embedded PostgreSQL server from its start until nobody uses it any more.

Run as a program by `shared_use.py`, detached from whoever started it. It starts the server (`server.py`), has
`migrate.py` migrate it, writes `server.json`, waits until it gets `users.lock` exclusively, stops
the server and exits.
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

from platform_assets.base.errors import DatabaseError
from platform_assets.base.process_exit import call_and_leave
from platform_assets.database.connections import embedded_database
from platform_assets.database.embedded.server import APP, OWNER, Server, ServerFolder
from platform_assets.database.embedded.shared_use import adopt, try_lock
from platform_assets.database.migrate import make_role, migrate

WATCH_SECONDS = 0.2

_log = logging.getLogger("platform_assets.postgres_watcher")


def _watch(folder: ServerFolder) -> None:
    """Serve until nobody uses the server any more."""
    server = Server(folder)
    try:
        server.start()
        _prepare(folder, server.port)
        with tempfile.NamedTemporaryFile("w", dir=folder.path, prefix="server.json.", delete=False) as file:
            json.dump({"port": server.port, "server": server.pid, "watcher": os.getpid()}, file)
        Path(file.name).rename(folder.address)
        while try_lock(folder.users_lock, fcntl.LOCK_EX) is None:
            if not server.alive():
                raise DatabaseError("the server ended by itself; its last messages are above")
            time.sleep(WATCH_SECONDS)
        _log.info("nobody uses the server any more")
    finally:
        folder.address.unlink(missing_ok=True)
        server.stop()


def _prepare(folder: ServerFolder, port: int) -> None:
    owner, database = (embedded_database(port, role, folder.password(role)) for role in (OWNER, APP))
    with contextlib.closing(owner), contextlib.closing(database):
        make_role(owner, APP, folder.password(APP))
        migrate(database, owner)
        with owner.connect("dagster") as connection:
            # Dagster commits after each log line. A crash may lose the last of them, never their order, and
            # the runs they belong to died with it. On a server that is not ours its administrator decides.
            connection.execute(f"alter database {database.name('dagster')} set synchronous_commit = off".encode())


def _main(path: str, watcher_lock: str) -> None:
    if os.fork():
        os._exit(0)
    # After the fork, which lets go of every lock that it knows: this one is the watcher's for life.
    adopt(int(watcher_lock))
    # A shell that started us in the background may have had these ignored; children inherit that.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s watcher %(levelname)s %(message)s", stream=sys.stderr)
    try:
        _watch(ServerFolder(Path(path)))
    except DatabaseError as error:
        _log.error("%s", error)
        sys.exit(1)


if __name__ == "__main__":
    call_and_leave(partial(_main, *sys.argv[1:]))
