"""Dagster's storage in the platform's PostgreSQL, named by `dagster.yaml`, and how to open an instance on it.

Dagster reads no configuration here: the settings say where the database and the folders are, so that
every command shares one history without DAGSTER_HOME. What tells a live run from a dead one is held
here too (`RunLocks`); what follows from it is `dead_runs.py`'s business.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import select
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from dagster import DagsterEventType, DagsterInstance
from dagster._core.instance.ref import InstanceRef
from dagster._core.scheduler.instigation import InstigatorTick, TickData
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._serdes import deserialize_value, serialize_value
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage, PostgresScheduleStorage

from platform_assets.base.errors import PlatformError
from platform_assets.base.logs import redact
from platform_assets.database.connections import Database, open_database
from platform_assets.services import make_home
from platform_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from dagster import EventLogEntry
    from dagster._serdes import ConfigurableClassData
    from sqlalchemy import Connection, Engine
    from sqlalchemy.pool import ConnectionPoolEntry

_log = logging.getLogger(__name__)
Stored = TypeVar("Stored", "EventLogEntry", TickData)

KEEP_SECONDS = 5
IDLE_SECONDS = 1
"""After which nobody believes any more that a connection is still there."""
_GIVEN_BACK = "given back"
PROJECT = Path(__file__).parents[2]
RUN_ENDS = frozenset({DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED})
# What Dagster finds things by. A weak password can be part of a name, and masking it there would lose the event.
IDENTITIES = frozenset(
    {
        *("__class__", "__enum__", "asset_key", "check_name", "event_type_value", "job_name", "logging_tags"),
        *("mapping_key", "output_name", "partition", "pipeline_name", "run_id", "solid_handle", "step_handle"),
        *("step_key", "step_kind_value", "step_output_handle"),
    }
)


def dagster_instance(settings: Settings | None = None, project: Path = PROJECT) -> DagsterInstance:
    """Open Dagster's instance as the project's `dagster.yaml` describes it, whatever the current folder.

    Raises
    ------
    PlatformError
        There is no `dagster.yaml`; Dagster itself would go on with a history of its own.

    """
    if not (project / "dagster.yaml").exists():
        raise PlatformError(f"{project} holds no dagster.yaml; run from a checkout of the project")
    home = _dagster_home(settings or load_settings())
    return DagsterInstance.from_ref(InstanceRef.from_dir(str(home), config_dir=str(project)))


class PlatformStorage(DagsterPostgresStorage):
    """Runs, events and schedules in the platform's PostgreSQL, embedded or by URL."""

    def __init__(self, database: Database, secrets: Sequence[str], inst_data: ConfigurableClassData | None) -> None:
        # Never closed: the embedded server is used until this process ends.
        url = database.psycopg2_url("dagster")
        super().__init__(url, should_autocreate_tables=False, inst_data=inst_data)
        self._event_log_storage = PlatformEventLog(url, secrets, embedded=database.embedded)
        self._schedule_storage = PlatformSchedules(url, secrets)
        self._share_connections(url)

    def _share_connections(self, url: str) -> None:
        from sqlalchemy import create_engine

        # Dagster opens a connection for each statement, 500 in a run of three assets: half of that run's time.
        engine = create_engine(url, isolation_level="AUTOCOMMIT", pool_size=2, max_overflow=-1)
        # To ask the server each time whether it is there would be every third statement.
        _ask_when_in_doubt(engine)
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            storage._engine = engine  # noqa: SLF001 - its constructor takes no engine
        _all_engines.add(engine)

    @classmethod
    def config_type(cls) -> Any:
        """No configuration: the settings hold it."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:  # noqa: ARG003 - Dagster's signature; nothing is configured
        """Open the database of the settings."""
        settings = load_settings()
        database = open_database(settings.database_url.get_secret_value(), settings.home)
        password = database.url("dagster").password
        secrets = [*settings.secrets(), *([password] if password else [])]
        return cls(database, secrets, inst_data)


class PlatformComputeLogs(LocalComputeLogManager):
    """What steps print, below PLATFORM_HOME; Dagster's default is a temporary folder without DAGSTER_HOME."""

    @classmethod
    def config_type(cls) -> Any:
        """No configuration: the settings hold it."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:  # noqa: ARG003 - Dagster's signature; nothing is configured
        """Keep the files below the settings' home."""
        return cls(str(_dagster_home(load_settings()) / "compute_logs"), inst_data=inst_data)


class PlatformArtifacts(LocalArtifactStorage):
    """Dagster's own files, below PLATFORM_HOME; its default is a temporary folder without DAGSTER_HOME."""

    @classmethod
    def config_type(cls) -> Any:
        """No configuration: the settings hold it."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:  # noqa: ARG003 - Dagster's signature; nothing is configured
        """Keep the files below the settings' home."""
        return cls(str(_dagster_home(load_settings())), inst_data=inst_data)


class PlatformEventLog(PostgresEventLogStorage):
    """The event log without secrets; while this process runs a run, it holds that run's lock."""

    def __init__(self, url: str, secrets: Sequence[str], *, embedded: bool) -> None:
        super().__init__(url, should_autocreate_tables=False)
        self.embedded = embedded
        self._redaction = Redaction(secrets)
        self.run_locks = RunLocks(self._engine)

    @property
    def supports_asset_checks(self) -> bool:
        """Always: the tables are at this code's version. Dagster would look for the table before each check."""
        return True

    def dispose(self) -> None:
        """Close the connections that are kept open."""
        super().dispose()
        self._engine.dispose()

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event without secrets; the first and last of a run take and give back its lock."""
        kind = event.dagster_event_type
        if kind == DagsterEventType.RUN_START:
            # Before the event: a run that counts as started is either locked or dead.
            self.run_locks.take(event.run_id)
        # Past PostgreSQL's own, which after each event also notifies those who listen; in this version nobody does.
        super(PostgresEventLogStorage, self).store_event(self._redaction.of(event))
        if kind in RUN_ENDS:
            self.run_locks.release(event.run_id)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events without secrets."""
        super().store_event_batch([self._redaction.of(event) for event in events])


class PlatformSchedules(PostgresScheduleStorage):
    """The ticks of schedules and sensors, whose errors quote what failed, without secrets."""

    def __init__(self, url: str, secrets: Sequence[str]) -> None:
        super().__init__(url, should_autocreate_tables=False)
        self._redaction = Redaction(secrets)

    def create_tick(self, tick_data: TickData) -> InstigatorTick:
        """Store a tick without secrets."""
        return super().create_tick(self._redaction.of(tick_data))

    def update_tick(self, tick: InstigatorTick) -> InstigatorTick:
        """Store a tick without secrets."""
        return super().update_tick(InstigatorTick(tick.tick_id, self._redaction.of(tick.tick_data)))


class Redaction:
    """Masks secrets in what Dagster is about to store.

    Parameters
    ----------
    secrets
        As people write them.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        # In serialised values, quotes and letters beyond ASCII are escaped, in nested JSON twice.
        once = [json.dumps(secret)[1:-1] for secret in secrets]
        twice = [json.dumps(secret)[1:-1] for secret in once]
        self._written_secrets = tuple({*secrets, *once, *twice})

    def of(self, value: Stored) -> Stored:
        """Return the value without secrets; the value itself if it has none."""
        text = serialize_value(value)
        if redact(text, self._written_secrets) == text:
            return value
        # String by string: what looks like a secret in the whole text may reach across its quotes.
        return deserialize_value(json.dumps(self._cleaned(json.loads(text))), type(value))

    def _cleaned(self, value: Any) -> Any:
        if isinstance(value, str):
            return redact(value, self._written_secrets)
        if isinstance(value, list):
            return [self._cleaned(item) for item in value]
        if isinstance(value, dict):
            return {key: item if key in IDENTITIES else self._cleaned(item) for key, item in value.items()}
        return value


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
_all_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _leave_connections_to_parent() -> None:
    for locks in _all_run_locks:
        locks.leave_to_parent()
    for engine in _all_engines:
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_leave_connections_to_parent)


def _ask_when_in_doubt(engine: Engine) -> None:
    """Let the pool see that a connection is still there before it is used again."""
    from sqlalchemy import event
    from sqlalchemy.exc import InvalidatePoolError

    def given_back(_: Any, record: ConnectionPoolEntry) -> None:
        record.info[_GIVEN_BACK] = time.monotonic()

    def taken(connection: Any, record: ConnectionPoolEntry, _: Any) -> None:
        idle_seconds = time.monotonic() - record.info.get(_GIVEN_BACK, time.monotonic())
        if idle_seconds < IDLE_SECONDS and not _has_a_message(connection):
            return
        if not engine.dialect._do_ping_w_event(connection):  # noqa: SLF001 - what `pool_pre_ping` does each time
            raise InvalidatePoolError

    event.listen(engine, "checkin", given_back)
    event.listen(engine, "checkout", taken)


def _has_a_message(connection: Any) -> bool:
    """Whether something came in that nobody asked for: a server says goodbye, even one that is killed."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _dagster_home(settings: Settings) -> Path:
    return make_home(settings.home / "dagster")


def _lock_key(run_id: str) -> int:
    # 64 bits: among a million runs at a time, two share a key once in 37 million.
    return int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:8], "big", signed=True)
