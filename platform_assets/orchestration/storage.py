"""Dagster's storage in the platform's PostgreSQL, named by `dagster.yaml`, and how to open an instance on it.

Dagster reads no configuration here: the settings say where the database and the folders are, so that
every command shares one history without DAGSTER_HOME. `run_locks.py` tells a live run from a dead one;
`redaction.py` keeps secrets out of what is stored.
"""

from __future__ import annotations

import os
import select
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dagster import DagsterEventType, DagsterInstance
from dagster._core.instance.ref import InstanceRef
from dagster._core.scheduler.instigation import InstigatorTick, TickData
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage, PostgresScheduleStorage

from platform_assets.base.errors import PlatformError
from platform_assets.base.home_folder import make_home
from platform_assets.database.connections import Database
from platform_assets.database.opening import open_database
from platform_assets.orchestration.redaction import Redaction
from platform_assets.orchestration.run_locks import RunLocks
from platform_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dagster import EventLogEntry
    from dagster._serdes import ConfigurableClassData
    from sqlalchemy import Engine
    from sqlalchemy.pool import ConnectionPoolEntry

IDLE_SECONDS = 1
"""After which nobody believes any more that a connection is still there."""
_GIVEN_BACK = "given back"
PROJECT = Path(__file__).parents[2]
RUN_ENDS = frozenset({DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED})


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


_all_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _leave_connections_to_parent() -> None:
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
    return make_home(settings.home, "dagster")
