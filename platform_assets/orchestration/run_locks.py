"""Run locks: a PostgreSQL session lock per run shows whether the run's process is alive, on any machine.

A step on a Celery worker has a lock too (`celery_executor.py`). `operations/dead_runs.py` handles runs without a live
process.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
import weakref
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_log = logging.getLogger(__name__)
KEEP_SECONDS = 5
"""Seconds between two checks that the held locks still exist."""
LOCKS_ARE_BACK = timedelta(seconds=30)
"""Grace period after a restart of the database. Live processes take their locks again within a few seconds."""


class RunLocks:
    """Session locks of the runs in this process. PostgreSQL releases a lock when the process ends.

    Needs a direct connection or a pooler in session mode. If the database restarts during a run, a thread takes the
    lock again.

    Parameters
    ----------
    engine
        Engine of the database. Only its URL is used.
    keep_seconds
        Seconds between two checks that the held locks still exist.
    """

    def __init__(self, engine: Engine, keep_seconds: float = KEEP_SECONDS) -> None:
        from sqlalchemy import NullPool, create_engine

        # Use no pool, because a connection that is returned to a pool would keep its lock.
        self.engine = create_engine(engine.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        self._keep_seconds = keep_seconds
        self._held: dict[str, Connection] = {}
        self._mutex = threading.Lock()
        self._keeper: threading.Thread | None = None
        _all_run_locks.add(self)

    def take(self, run_id: str) -> None:
        """Take the run's lock on a separate connection, and hold it until `release` is called or this process ends."""
        with self._mutex:
            if run_id in self._held:
                return
            self._held[run_id] = self._locked(run_id)
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._keep, name="run-locks", daemon=True)
                self._keeper.start()

    def try_take(self, run_id: str) -> bool:
        """Take the run's lock and return True, or return False if any process, including this process, holds it."""
        with self._mutex:
            connection = self.engine.connect()
            query = "select pg_try_advisory_lock(%s)"
            if run_id in self._held or not connection.exec_driver_sql(query, (_lock_key(run_id),)).scalar():
                connection.close()
                return False
            self._held[run_id] = connection
            return True

    def release(self, run_id: str) -> None:
        """Release the run's lock if this process holds it."""
        with self._mutex:
            if connection := self._held.pop(run_id, None):
                connection.close()

    def server_start(self) -> datetime:
        """Return the start time of the database server. After a restart, live processes take their locks again."""
        with self.engine.connect() as connection:
            moment = connection.exec_driver_sql("select pg_postmaster_start_time()").scalar_one()
        return cast("datetime", moment)

    def are_incomplete(self, grace: timedelta = LOCKS_ARE_BACK) -> bool:
        """Return whether the database server started less than `grace` ago.

        During this time, some live processes may not have taken their locks again yet.
        """
        return datetime.now(UTC) - self.server_start() < grace

    def leave_to_parent(self) -> None:
        """Close the sockets in a forked child. Otherwise the locks would outlive a killed parent."""
        for connection in self._held.values():
            # Replace the descriptor instead of closing it, because the driver writes to it on garbage collection.
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, connection.connection.driver_connection.fileno(), inheritable=False)  # type: ignore[union-attr]  # an open connection has a driver
            os.close(null)
        # Use a new mutex, because a thread of the parent may have held the old one during the fork.
        self._held, self._mutex, self._keeper = {}, threading.Lock(), None

    def _locked(self, run_id: str) -> Connection:
        connection = self.engine.connect()
        # Detect a machine that lost power without closing its connection. By default, this would take two hours.
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
    # 64 bits: among a million simultaneous runs, the probability of two equal keys is 1 in 37 million.
    return int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:8], "big", signed=True)
