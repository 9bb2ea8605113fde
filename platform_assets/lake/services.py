"""Services of the lake and of the subpackages it uses: database, engine, sources, tables and the model registry."""

from __future__ import annotations

import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import PlatformError
from platform_assets.base.opened import opened
from platform_assets.engine.query_engine import Engine
from platform_assets.engine.spark_cluster import SparkCluster
from platform_assets.lake.delta_tables import TableStore
from platform_assets.lake.online_tables import OnlineTables
from platform_assets.lake.validation import Validator
from platform_assets.landing.declared_sources import Sources
from platform_assets.models.artefact_store import ArtefactStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import psycopg

    from platform_assets.database.async_reads import AsyncReads
    from platform_assets.database.connections import Database
    from platform_assets.lake.erased_subjects import ErasedSubjects
    from platform_assets.lake.sql_target import SqlTarget
    from platform_assets.landing.landing_zone import LandingZones
    from platform_assets.models.registry import ModelRegistry
    from platform_assets.settings import DomainSettings, Settings


@dataclass(frozen=True)
class LakeServices:
    """The services of the lake and of the subpackages it uses. Each one is opened on first access."""

    settings: Settings
    of_domains: tuple[DomainSettings, ...] = ()
    # All services share one lock, because opening one usually opens others. Reading an opened service needs no lock.
    _opening: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False, compare=False)

    @property
    def scratch(self) -> Path:
        """Folder of temporary files."""
        return self.settings.scratch

    @opened
    def engine(self) -> Engine:
        """The query engine."""
        settings = self.settings
        cluster = SparkCluster(settings.spark_remote) if settings.engine == "spark" else None
        return Engine(self.scratch, settings.engine_memory, settings.engine_threads, cluster)

    @opened
    def sources(self) -> Sources:
        """The sources of raw data."""
        return Sources(self.settings, self.of_domains)

    @opened
    def zones(self) -> LandingZones:
        """The landing zones, into which other teams drop files."""
        from platform_assets.landing.landing_zone import LandingZones

        return LandingZones(self.sources, lambda: self.database)

    @opened
    def tables(self) -> TableStore:
        """The Delta tables of the lake."""
        return TableStore(self.settings.lake, self.engine)

    @opened
    def database(self) -> Database:
        """The PostgreSQL database, possibly on an embedded server. Opening it fails if it belongs to another lake."""
        from platform_assets.database.opening import open_configured_database
        from platform_assets.lake.lake_identity import demand_own_lake

        database = open_configured_database(self.settings)
        try:
            demand_own_lake(database, self.settings.lake)
        except PlatformError:
            database.close()
            raise
        return database

    def demand_own_lake(self) -> None:
        """Open the database, and thereby check that it belongs to this lake.

        Raises
        ------
        OtherLake
            The database belongs to another lake.
        """
        _ = self.database

    @opened
    def async_reads(self) -> AsyncReads:
        """Runs queries on the database from an event loop, without blocking it."""
        from platform_assets.database.async_reads import AsyncReads

        return AsyncReads(self._connection_to_read)

    def _connection_to_read(self) -> psycopg.Connection[Any]:
        # This is called in a thread, because opening the database takes a while.
        return self.database.connect_to_read()

    @opened
    def online(self) -> OnlineTables:
        """The online tables, from which the service looks up single rows."""
        return OnlineTables(lambda: self.database, self.engine, self.async_reads)

    @contextmanager
    def _owner_connection(self) -> Iterator[psycopg.Connection[Any]]:
        from platform_assets.database.opening import owner_of

        open_owner = owner_of(self.settings)
        assert open_owner is not None  # noqa: S101 - asked for only where there is one
        with closing(open_owner()) as owner, closing(owner.connect("platform")) as connection:
            yield connection

    def _connection(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        return self.database.pooled()

    def _rows(self, query: bytes, values: Sequence[Any]) -> list[Any]:
        return self.database.reads.rows(query, values)

    async def _async_rows(self, query: bytes, values: Sequence[str]) -> list[dict[str, Any]]:
        return await self.async_reads.rows(query, values)

    @opened
    def validator(self) -> Validator:
        """Validates tables before they are published."""
        return Validator(self.engine, self.settings.max_bad_rows, self._erased_subjects)

    def _erased_subjects(self, kind: str) -> ErasedSubjects:
        from platform_assets.lake.erased_subjects import erased_subjects

        with self._connection() as connection:
            return erased_subjects(connection, kind)

    @opened
    def mlflow_tracking_uri(self) -> str:
        """MLflow's tracking URI."""
        return self.settings.mlflow_tracking_uri.get_secret_value() or self.database.psycopg2_url("mlflow")

    @opened
    def artefacts(self) -> ArtefactStore:
        """The store of the model files, in the lake."""
        # A lake in memory cannot store files. Use a temporary folder, which has the same lifetime.
        return ArtefactStore(str(self.engine.folder("lake")) if self.settings.lake_is_memory else self.settings.lake)

    @opened
    def sql_target(self) -> SqlTarget:
        """The database into which assets load tables for other programs; by default the platform's own."""
        from platform_assets.lake.sql_target import SqlTarget, target_of

        # The platform's own database is opened only if the settings name no target.
        named = target_of(self.settings)
        return named or SqlTarget(self.database.url("platform"), "PLATFORM_DATABASE_URL", is_own=True)

    @opened
    def registry(self) -> ModelRegistry:
        """The model registry: MLflow, or one in memory if the lake is in memory."""
        from platform_assets.models.mlflow_registry import open_registry

        return open_registry(self.settings, lambda: self.mlflow_tracking_uri, self._lock)

    def _lock(self, name: str) -> AbstractContextManager[None]:
        # The registry takes a lock only to write, so reading it does not open the database.
        return self.database.lock(name)
