"""Dagster's instance, and its storage in the platform's PostgreSQL. `dagster.yaml` names the storage classes.

The platform's settings, not Dagster's configuration, name the database and the folders, so that all commands share one
history without DAGSTER_HOME. `run_locks.py` distinguishes live runs from dead ones; `redaction.py` masks secrets.
"""

from __future__ import annotations

import os
import select
import signal
import time
import weakref
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Any, Self

from dagster import DagsterEventType, DagsterInstance
from dagster._core.instance.ref import InstanceRef
from dagster._core.scheduler.instigation import InstigatorTick, TickData
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster_postgres import (
    DagsterPostgresStorage,
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
)

from platform_assets.base.errors import DatabaseError, PlatformError
from platform_assets.base.home_folder import make_home
from platform_assets.database.connections import Database
from platform_assets.database.opening import open_database
from platform_assets.orchestration.redaction import Redaction, mask_dagsters_log
from platform_assets.orchestration.run_locks import RunLocks
from platform_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dagster import EventLogEntry
    from dagster._core.storage.compute_log_manager import CapturedLogContext
    from dagster._serdes import ConfigurableClassData
    from sqlalchemy import Engine
    from sqlalchemy.pool import ConnectionPoolEntry

IDLE_SECONDS = 1
"""Idle time after which a pooled connection is tested before reuse."""
_GIVEN_BACK = "given back"
_PACKAGE = Path(__file__).parents[1]
# A wheel contains `dagster.yaml` and `workspace.yaml` in the package's folder.
PROJECT = _PACKAGE if (_PACKAGE / "dagster.yaml").exists() else _PACKAGE.parent
"""Folder with `dagster.yaml` and `workspace.yaml`: the root of a checkout, or the folder of the installed package."""
RUN_ENDS = frozenset({DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED})


def dagster_instance(settings: Settings | None = None, project: Path = PROJECT) -> DagsterInstance:
    """Open Dagster's instance as the project's `dagster.yaml` describes it, independently of the current folder.

    Raises
    ------
    PlatformError
        There is no `dagster.yaml`, without which Dagster would silently start a separate history.

    """
    if not (project / "dagster.yaml").exists():
        raise PlatformError(f"{project} has no dagster.yaml; install platform-assets again, or restore the file")
    home = _dagster_home(settings or load_settings())
    return DagsterInstance.from_ref(InstanceRef.from_dir(str(home), config_dir=str(project)))


class PlatformStorage(DagsterPostgresStorage):
    """Runs, events and schedules in the platform's PostgreSQL, whether embedded or external (given by URL)."""

    def __init__(self, database: Database, secrets: Sequence[str], inst_data: ConfigurableClassData | None) -> None:
        # Never close the database, because the embedded server is used until this process ends.
        url = database.psycopg2_url("dagster")
        super().__init__(url, should_autocreate_tables=False, inst_data=inst_data)
        self._run_storage = PlatformRuns(url, should_autocreate_tables=False)
        self._event_log_storage = PlatformEventLog(url, secrets, embedded=database.embedded)
        self._schedule_storage = PlatformSchedules(url, secrets)
        _follow_server(self._event_log_storage.run_locks.engine, database)
        self._share_connections(url, database)

    def _share_connections(self, url: str, database: Database) -> None:
        from sqlalchemy import create_engine

        # Share a pool, because Dagster opens a connection per statement: a run of three assets opens 500, which takes
        # half of the run's time.
        engine = create_engine(url, isolation_level="AUTOCOMMIT", pool_size=2, max_overflow=-1)
        # Do not use `pool_pre_ping`, because testing each connection before use would add 50 % more statements.
        _ask_when_in_doubt(engine)
        _follow_server(engine, database)
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            storage._engine = engine  # noqa: SLF001 - its constructor takes no engine
            storage.database = database  # type: ignore[union-attr]  # the classes below
        _all_engines.add(engine)

    @classmethod
    def config_type(cls) -> Any:
        """Return an empty configuration schema, because the platform's settings configure this class."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:  # noqa: ARG003 - signature required by Dagster; the arguments are unused
        """Create the storage on the database that the settings name."""
        settings = load_settings()
        database = open_database(settings.database_url.get_secret_value(), settings.home)
        password = database.url("dagster").password
        secrets = [*settings.secrets(), *([password] if password else [])]
        return cls(database, secrets, inst_data)


class PlatformComputeLogs(LocalComputeLogManager):
    """Output of steps, stored below PLATFORM_HOME. Without DAGSTER_HOME, Dagster would use a temporary folder."""

    @classmethod
    def config_type(cls) -> Any:
        """Return an empty configuration schema, because the platform's settings configure this class."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:  # noqa: ARG003 - signature required by Dagster; the arguments are unused
        """Create the manager with a folder below PLATFORM_HOME."""
        return cls(str(_dagster_home(load_settings()) / "compute_logs"), inst_data=inst_data)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        """Store the output of a step.

        For each step, Dagster starts two helper processes that copy the output to the terminal. Start them with SIGINT
        blocked. Otherwise, Ctrl-C in the terminal would make them print a traceback. Dagster ends them with SIGTERM.
        """
        with ExitStack() as stack:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                captured = stack.enter_context(super().capture_logs(log_key))
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield captured


class PlatformArtifacts(LocalArtifactStorage):
    """Dagster's own files, stored below PLATFORM_HOME. Without DAGSTER_HOME, Dagster would use a temporary folder."""

    @classmethod
    def config_type(cls) -> Any:
        """Return an empty configuration schema, because the platform's settings configure this class."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:  # noqa: ARG003 - signature required by Dagster; the arguments are unused
        """Create the storage with a folder below PLATFORM_HOME."""
        return cls(str(_dagster_home(load_settings())), inst_data=inst_data)


class _FollowsServer:
    """Storage that connects to the embedded server's current port, even if Dagster's web server replaces the engine."""

    database: Database
    _engine: Engine

    def optimize_for_webserver(self, *arguments: Any, **options: Any) -> None:
        """Replace the engine; Dagster's web server calls this."""
        super().optimize_for_webserver(*arguments, **options)  # type: ignore[misc]  # a storage of Dagster comes next
        _ask_when_in_doubt(self._engine)
        _follow_server(self._engine, self.database)


class PlatformRuns(_FollowsServer, PostgresRunStorage):
    """The runs."""

    def optimize_for_webserver(self, *arguments: Any, **options: Any) -> None:
        """Replace the engine, and guard Dagster's UI; Dagster's web server calls this before it creates the UI.

        The UI is thus guarded by whichever command starts it: `up`, `dagster dev`, `dg dev` or a container.
        """
        from platform_assets.orchestration.dagster_ui import guard_webserver

        super().optimize_for_webserver(*arguments, **options)
        guard_webserver()


class PlatformEventLog(_FollowsServer, PostgresEventLogStorage):
    """The event log, with secrets masked. It also holds the lock of each run that this process executes."""

    def __init__(self, url: str, secrets: Sequence[str], *, embedded: bool) -> None:
        super().__init__(url, should_autocreate_tables=False)
        self.embedded = embedded
        self._redaction = Redaction(secrets)
        self.run_locks = RunLocks(self._engine)

    @property
    def supports_asset_checks(self) -> bool:
        """True, because the migrations create the table of checks. By default, Dagster queries whether it exists."""
        return True

    def dispose(self) -> None:
        """Close the pooled connections."""
        super().dispose()
        self._engine.dispose()

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event with secrets masked. Take or release the run's lock when the run starts or ends."""
        kind = event.dagster_event_type
        if kind == DagsterEventType.RUN_START:
            # Take the lock before storing the event. A run then never has the status STARTED before it has its lock, so
            # a started run without a lock is dead.
            self.run_locks.take(event.run_id)
        # Skip the method of PostgresEventLogStorage. It would also notify listeners, but this Dagster version has none.
        super(PostgresEventLogStorage, self).store_event(self._redaction.of(event))
        if kind in RUN_ENDS:
            self.run_locks.release(event.run_id)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events with secrets masked."""
        super().store_event_batch([self._redaction.of(event) for event in events])


class PlatformSchedules(_FollowsServer, PostgresScheduleStorage):
    """The ticks of schedules and sensors, with secrets masked in their errors."""

    def __init__(self, url: str, secrets: Sequence[str]) -> None:
        super().__init__(url, should_autocreate_tables=False)
        self._secrets = secrets
        self._redaction = Redaction(secrets)

    def create_tick(self, tick_data: TickData) -> InstigatorTick:
        """Store a tick with secrets masked, and mask them in the daemon's log before it evaluates the tick."""
        mask_dagsters_log(self._secrets)
        return super().create_tick(self._redaction.of(tick_data))

    def update_tick(self, tick: InstigatorTick) -> InstigatorTick:
        """Store a tick with secrets masked."""
        return super().update_tick(InstigatorTick(tick.tick_id, self._redaction.of(tick.tick_data)))


_all_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _leave_connections_to_parent() -> None:
    for engine in _all_engines:
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_leave_connections_to_parent)


def _follow_server(engine: Engine, database: Database) -> None:
    """Connect to the embedded server at its current port, because a restart can change the port."""
    import psycopg2
    from sqlalchemy import event

    def set_port(*arguments: Any) -> None:
        try:
            database.set_port(*arguments)
        except DatabaseError as error:
            # Raise an error of the driver, because Dagster repeats a statement only after such an error.
            raise psycopg2.OperationalError(str(error)) from None

    event.listen(engine, "do_connect", set_port)


def _ask_when_in_doubt(engine: Engine) -> None:
    """Test a pooled connection before reuse if it was idle for `IDLE_SECONDS` or has an unread server message."""
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
    """Return whether the server sent an unrequested message, for example because it is shutting down."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def dagster_home_for_servers(settings: Settings) -> Path:
    """Return the folder for DAGSTER_HOME, with the current `dagster.yaml`.

    Dagster's servers write files into DAGSTER_HOME, so it cannot be the folder of the package, which may be read-only.
    """
    home = _dagster_home(settings)
    copyfile(PROJECT / "dagster.yaml", home / "dagster.yaml")
    return home.resolve()


def _dagster_home(settings: Settings) -> Path:
    return make_home(settings.home, "dagster")
