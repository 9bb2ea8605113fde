"""Run locks: which runs have a living process, told by a PostgreSQL session lock for each run.

What happens to a run without a living process is up to `operations/dead_runs.py`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Engine

_log = logging.getLogger(__name__)
KEEP_SECONDS = 5


class RunLocks:
    """Who runs a run is alive: a session lock per run in PostgreSQL, which ends with its process.

    Needs a direct connection or a pooler in session mode. A thread takes the locks again when the
    server was restarted under a run that goes on.
    """

    def __init__(self, engine: Engine, keep_seconds: float = KEEP_SECONDS) -> None:
        from sqlalchemy import NullPool, create_engine

        # No pool: a connection that went back to one would keep its locks.
        self._engine = create_engine(engine.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        self._keep_seconds = keep_seconds
        self._held: dict[str, Connection] = {}
        self._mutex = threading.Lock()
        self._keeper: threading.Thread | None = None
        _all_run_locks.add(self)

    def take(self, run_id: str) -> None:
        """Hold the run's lock on a connection of its own, until `release` or the end of this process."""
        with self._mutex:
            if run_id in self._held:
                return
            self._held[run_id] = self._locked(run_id)
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._keep, name="run-locks", daemon=True)
                self._keeper.start()

    def try_take(self, run_id: str) -> bool:
        """Hold the run's lock if no process does, this one included."""
        with self._mutex:
            connection = self._engine.connect()
            query = "select pg_try_advisory_lock(%s)"
            if run_id in self._held or not connection.exec_driver_sql(query, (_lock_key(run_id),)).scalar():
                connection.close()
                return False
            self._held[run_id] = connection
            return True

    def release(self, run_id: str) -> None:
        """Give the run's lock back, if it is held here."""
        with self._mutex:
            if connection := self._held.pop(run_id, None):
                connection.close()

    def server_start(self) -> datetime:
        """When the server was started: a lock that was taken earlier may not be back yet."""
        with self._engine.connect() as connection:
            moment = connection.exec_driver_sql("select pg_postmaster_start_time()").scalar_one()
        return cast("datetime", moment)

    def leave_to_parent(self) -> None:
        """In a forked child, let go of the sockets: the locks would outlive a killed parent in them."""
        for connection in self._held.values():
            # Replaced, not closed: the driver says goodbye on this number when it is collected.
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, connection.connection.driver_connection.fileno(), inheritable=False)  # type: ignore[union-attr]  # an open connection has a driver
            os.close(null)
        # The parent's thread may have been in the middle of something.
        self._held, self._mutex, self._keeper = {}, threading.Lock(), None

    def _locked(self, run_id: str) -> Connection:
        connection = self._engine.connect()
        # A machine that is switched off says no goodbye; by default the server would wait for it for two hours.
        connection.exec_driver_sql("set tcp_keepalives_idle = 30")
        connection.exec_driver_sql("set tcp_keepalives_interval = 10")
        connection.exec_driver_sql("set tcp_keepalives_count = 3")
        connection.exec_driver_sql("select pg_advisory_lock(%s)", (_lock_key(run_id),))
        return connection

    def _keep(self) -> None:
        while True:
            time.sleep(self._keep_seconds)
            with self._mutex:
                if not self._held:
                    self._keeper = None
                    return
                for run_id in self._held:
                    self._keep_one(run_id)

    def _keep_one(self, run_id: str) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            self._held[run_id].exec_driver_sql("select 1")
        except SQLAlchemyError:
            self._held[run_id].invalidate()
            try:
                self._held[run_id] = self._locked(run_id)
            except SQLAlchemyError as error:
                _log.warning("the lock of run %s is lost until the database is back: %s", run_id, error)


_all_run_locks: weakref.WeakSet[RunLocks] = weakref.WeakSet()


def _leave_locks_to_parent() -> None:
    for locks in _all_run_locks:
        locks.leave_to_parent()


os.register_at_fork(after_in_child=_leave_locks_to_parent)


def _lock_key(run_id: str) -> int:
    # 64 bits: among a million runs at a time, two share a key once in 37 million.
    return int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:8], "big", signed=True)
