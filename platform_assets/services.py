"""The platform's objects, built from its settings and opened on first use.

This module alone selects implementations. `definitions.py` passes the same objects to Dagster; tests build `Services`
from other settings.
"""

from __future__ import annotations

import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from platform_assets.engine.query_engine import Engine
from platform_assets.engine.spark_cluster import SparkCluster
from platform_assets.lake.delta_tables import TableStore
from platform_assets.lake.online_tables import OnlineTables
from platform_assets.lake.validation import Validator
from platform_assets.landing.declared_sources import Sources
from platform_assets.models.artefact_store import ArtefactStore
from platform_assets.training.encoders import Encoders
from platform_assets.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import psycopg

    from platform_assets.approval.kept_heads import KeptHeads
    from platform_assets.approval.ledger import Ledger
    from platform_assets.approval.promotion import Promoter
    from platform_assets.approval.shadows import ShadowLedger
    from platform_assets.database.async_reads import AsyncReads
    from platform_assets.database.connections import Database
    from platform_assets.lake.erased_subjects import ErasedSubjects
    from platform_assets.lake.sql_target import SqlTarget
    from platform_assets.landing.landing_zone import LandingZones
    from platform_assets.models.fitted_model import FittedModel
    from platform_assets.models.registry import ModelRegistry
    from platform_assets.monitoring.daily.model_days import ModelSources
    from platform_assets.monitoring.drift.history import DriftHistory
    from platform_assets.monitoring.drift.monitor import DriftMonitor
    from platform_assets.monitoring.incidents.delivery import Delivery
    from platform_assets.monitoring.incidents.problems import Findings
    from platform_assets.monitoring.incidents.routes import Routes
    from platform_assets.monitoring.incidents.store import Incidents
    from platform_assets.monitoring.incidents.watch import Watch
    from platform_assets.monitoring.label_store import Labels
    from platform_assets.monitoring.trace.declarations import TracedAnswers
    from platform_assets.monitoring.trace.open_lineage import LineageReceiver
    from platform_assets.monitoring.trace.tracing import Tracer
    from platform_assets.serving.bundles import Bundle
    from platform_assets.serving.current_champions import CurrentChampions
    from platform_assets.serving.live_models import LiveModels
    from platform_assets.serving.prediction_log import PredictionLog
    from platform_assets.serving.predictor import Predictor
    from platform_assets.serving.request_statistics import RequestStatistics
    from platform_assets.serving.shadow_scoring import Shadows
    from platform_assets.settings import DomainSettings, Settings
    from platform_assets.web.api_keys import Keys
    from platform_assets.web.key_ring import KeyRing
    from platform_assets.web.sign_in import SignIn

PATIENCE_SECONDS = 10.0
"""Timeout for background threads on an unresponsive database."""


if TYPE_CHECKING:
    opened = cached_property
else:

    class opened(cached_property):  # noqa: N801 - used like `cached_property`
        """A `cached_property` of `Services` that also opens only once if several threads use it first."""

        def __get__(self, services: Services | None, owner: type[Services] | None = None) -> Any:
            if services is None:
                return self
            with services._opening:  # noqa: SLF001 - used only by `Services`
                return super().__get__(services, owner)


@dataclass(frozen=True)
class Services:
    """The platform's objects; each attribute is opened on first use.

    Parameters
    ----------
    settings
        The platform's settings.
    of_domains
        Settings of some domains; the others are read from the environment.
    answers
        Function that returns the kinds of answers that the domains make traceable.
    """

    settings: Settings
    of_domains: tuple[DomainSettings, ...] = ()
    answers: Callable[[], Sequence[TracedAnswers]] = tuple
    # One lock for all attributes, because most attributes open others. Reading an open attribute needs no lock.
    _opening: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False, compare=False)

    @property
    def scratch(self) -> Path:
        """Folder of temporary files."""
        return self.settings.scratch

    @property
    def exports(self) -> Path:
        """Folder of the files that are written for other programs."""
        return self.settings.home / "exports"

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
        """PostgreSQL; an embedded server is started."""
        from platform_assets.database.opening import open_configured_database

        return open_configured_database(self.settings)

    @opened
    def async_reads(self) -> AsyncReads:
        """Runs reading statements on the database, for an event loop."""
        from platform_assets.database.async_reads import AsyncReads

        return AsyncReads(self._connection_to_read)

    def _connection_to_read(self) -> psycopg.Connection[Any]:
        # Called in a thread, because opening a database takes a while.
        return self.database.connect_to_read()

    @opened
    def online(self) -> OnlineTables:
        """The online tables, from which the service looks up single rows."""
        return OnlineTables(lambda: self.database, self.engine, self.async_reads)

    @opened
    def ledger(self) -> Ledger:
        """The ledger of approval requests and decisions."""
        from platform_assets.approval.ledger import Ledger
        from platform_assets.database.opening import owner_for_rules

        owner = self._owner_connection if owner_for_rules(self.settings) else None
        address = self.settings.service_url
        if not address and self.settings.env == "development":
            address = f"http://localhost:{self.settings.service_port}"
        pages = f"{address}/approvals" if address else ""
        return Ledger(self._connection, owner=owner, keep_heads=self._keep_heads, pages=pages)

    def _keep_heads(self) -> None:
        # A lake in memory ends with this process, and would keep nothing.
        if not self.settings.lake_is_memory:
            self.kept_heads.keep()

    def _read_heads(self) -> Callable[[], Mapping[str, str]] | None:
        return None if self.settings.lake_is_memory else self.kept_heads.read

    @opened
    def kept_heads(self) -> KeptHeads:
        """The heads of the ledger's chains, in the lake."""
        from platform_assets.approval.kept_heads import KeptHeads
        from platform_assets.approval.ledger_queries import LedgerQueries

        return KeptHeads(lambda: self.artefacts, LedgerQueries(self._connection))

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
    def keys(self) -> KeyRing:
        """The API keys: those in the database, or those of the settings if there is no database."""
        from platform_assets.database.opening import owner_of
        from platform_assets.web.api_keys import Keys
        from platform_assets.web.setting_keys import open_keys

        owner = self._owner_connection if owner_of(self.settings) else None
        keep = self._keep_heads
        return open_keys(
            self.settings, lambda: Keys(self._connection, self._rows, self._async_rows, owner=owner, keep_heads=keep)
        )

    @opened
    def sign_in(self) -> SignIn:
        """The ways in which people sign in without keys."""
        from platform_assets.web.sign_in import open_sign_in

        return open_sign_in(self.settings, self.keys_in_database)

    def keys_in_database(self) -> Keys:
        """Return the keys in the database.

        Raises
        ------
        KeysError
            The keys come from PLATFORM_API_KEYS.
        """
        from platform_assets.web.api_keys import Keys
        from platform_assets.web.key_errors import KeysError

        if not isinstance(self.keys, Keys):
            raise KeysError("people are enrolled in the database, but keys come from PLATFORM_API_KEYS; unset it")
        return self.keys

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
        """The models' files, in the lake."""
        # A lake in memory cannot hold files; a temporary folder has the same lifetime.
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
        # The database is opened only when the registry is written.
        return self.database.lock(name)

    @opened
    def live_models(self) -> LiveModels:
        """The live models of this process, once they are started."""
        from platform_assets.serving.bundles import BundledChampion
        from platform_assets.serving.ledger_champions import LedgerChampions
        from platform_assets.serving.live_models import LiveModels

        if self.bundle:
            return LiveModels(BundledChampion(self.bundle))
        return LiveModels(LedgerChampions(self._own_connection, self._load))

    @opened
    def current_champions(self) -> CurrentChampions:
        """The current champions, for batches."""
        from platform_assets.serving.current_champions import CurrentChampions
        from platform_assets.serving.ledger_champions import LedgerChampions

        return CurrentChampions(lambda: LedgerChampions(self._own_connection, self._load))

    @opened
    def bundle(self) -> Bundle | None:
        """The bundle to serve; None on a platform with a database.

        Raises
        ------
        BundleError, ArtefactError
            The folder is not a bundle, or its record or file was altered.
        """
        from platform_assets.serving.bundles import open_bundle

        return open_bundle(self.settings.bundle) if self.settings.bundle else None

    def _load(self, digest: str) -> FittedModel:
        return self.artefacts.load(digest)

    def _own_connection(self) -> psycopg.Connection[Any]:
        return self.database.connect("platform", PATIENCE_SECONDS)

    @opened
    def prediction_log(self) -> PredictionLog:
        """The prediction log: in the database, or in the service's log if there is no database."""
        from platform_assets.serving.prediction_log import LogSink, PredictionLog, TableSink

        sink = LogSink() if self.bundle else TableSink(self._own_connection)
        return PredictionLog(sink, before_answer=self.settings.predictions_logged == "before")

    @opened
    def predictor(self) -> Predictor:
        """Predicts with the live models."""
        from platform_assets.serving.predictor import Predictor

        return Predictor(self.live_models, self.prediction_log, self.shadows)

    @opened
    def shadow_ledger(self) -> ShadowLedger:
        """Starts and stops shadows, and records reports about them."""
        from platform_assets.approval.shadows import ShadowLedger

        return ShadowLedger(self.ledger)

    @opened
    def shadows(self) -> Shadows | None:
        """The running shadows of this process, once they are started; None if there is no database."""
        from platform_assets.serving.shadow_scoring import Shadows
        from platform_assets.serving.shadow_store import LedgerShadows

        if self.bundle:
            return None
        return Shadows(LedgerShadows(self._own_connection, lambda: (self.ledger, self.shadow_ledger)), self._load)

    @opened
    def request_statistics(self) -> RequestStatistics:
        """Counts the requests for predictions of each model."""
        from platform_assets.serving.request_statistics import RequestStatistics

        return RequestStatistics(self._connection)

    @opened
    def trainer(self) -> Trainer:
        """Trains, evaluates and reproduces models."""
        return Trainer(self.tables, self.artefacts, self.registry, self.encoders)

    @opened
    def encoders(self) -> Encoders:
        """Lands sentence encoders."""
        return Encoders(self.sources, self.artefacts, self.scratch)

    @opened
    def promoter(self) -> Promoter:
        """Promotes and rolls back models, and keeps the registry in step with the ledger."""
        from platform_assets.approval.promotion import Promoter

        return Promoter(self.ledger, self.registry, self.artefacts, self._lock, self._read_heads())

    def _pinned_tables(self) -> Mapping[str, set[int]]:
        from platform_assets.lake.ancestry import Ancestry, grouped
        from platform_assets.monitoring.trace.answers import tables_named_by_answers

        kept_for = timedelta(days=self.settings.predictions_days)
        of_answers = tables_named_by_answers(self._connection, self.answers(), kept_for)
        kept = self.registry.pinned_tables(), self.ledger.named_tables(), Ancestry(self.tables).closure(of_answers)
        return grouped((name, one) for named in kept for name, versions in named.items() for one in versions)

    @property
    def pinned_tables(self) -> Callable[[], Mapping[str, set[int]]]:
        """Function that returns the table versions behind registered or requested models and kept answers."""
        return self._pinned_tables

    def _named_artefacts(self) -> set[str]:
        return self.registry.named_artefacts() | self.ledger.named_artefacts()

    @property
    def named_artefacts(self) -> Callable[[], set[str]]:
        """Function that returns the digests that registered versions and approval requests name."""
        return self._named_artefacts

    @opened
    def run_retention(self) -> timedelta:
        """Time for which runs stay in Dagster's history."""
        return timedelta(days=self.settings.runs_days)

    @opened
    def landing_retention(self) -> timedelta | None:
        """Time for which processed files stay in landing zones; None to keep them forever."""
        return None if self.settings.landing_days is None else timedelta(days=self.settings.landing_days)

    @opened
    def retention(self) -> timedelta:
        """Time for which old versions of a table stay readable."""
        return timedelta(days=self.settings.retention_days)

    def _forget_predictions(self) -> int:
        from platform_assets.serving.prediction_log import delete_old
        from platform_assets.serving.request_statistics import delete_old_statistics
        from platform_assets.serving.shadow_store import delete_old_shadows

        age = timedelta(days=self.settings.predictions_days)
        delete_old_statistics(self._connection, age)
        return delete_old(self._own_connection, age) + delete_old_shadows(self._own_connection, age)

    @property
    def forget_predictions(self) -> Callable[[], int]:
        """Function that deletes expired predictions and returns their number."""
        return self._forget_predictions

    def _forget_measurements(self) -> int:
        return self.drift_history.delete_old(timedelta(days=self.settings.predictions_days))

    @property
    def forget_measurements(self) -> Callable[[], int]:
        """Function that deletes measured drift that is as old as expired predictions, and returns the batches."""
        return self._forget_measurements

    @opened
    def drift_history(self) -> DriftHistory:
        """Measured drift and estimated performance."""
        from platform_assets.monitoring.drift.history import DriftHistory

        return DriftHistory(self._connection)

    @opened
    def drift_monitor(self) -> DriftMonitor:
        """Measures the drift of new rows from the training rows of models."""
        from platform_assets.monitoring.drift.monitor import DriftMonitor

        stores = self.tables, self.artefacts, self.registry
        return DriftMonitor(stores, self.drift_history, self._lock, self.settings.drift_false_alarm_days)

    @opened
    def labels(self) -> Labels:
        """The labels of predictions."""
        from platform_assets.monitoring.label_store import Labels

        return Labels(self._connection)

    @opened
    def model_sources(self) -> ModelSources:
        """Sources of the daily measurements of models."""
        from platform_assets.monitoring.daily.model_days import ModelSources

        stores = self.engine, self.tables, self.registry, self.ledger, self.labels
        return ModelSources(self._connection, *stores, self.drift_monitor, self.drift_history)

    @opened
    def incidents(self) -> Incidents:
        """The incidents: problems that people should know about."""
        from platform_assets.monitoring.incidents.store import Incidents, Windows

        windows = Windows(
            timedelta(minutes=self.settings.alert_reopen_minutes), timedelta(hours=self.settings.alert_escalate_hours)
        )
        return Incidents(self._connection, self.alert_routes(), windows, self.settings.secrets())

    def alert_routes(self) -> Routes:
        """Return who is told about incidents."""
        from platform_assets.monitoring.incidents.routes import Routes

        smtp = self.settings.alert_smtp_url.get_secret_value()
        return Routes(self.settings.alert_destinations, mails=bool(smtp))

    @opened
    def delivery(self) -> Delivery:
        """Sends the messages about incidents."""
        from platform_assets.monitoring.incidents.delivery import Delivery, Post

        settings = self.settings
        console = settings.dagster_url
        if not console and settings.env == "development":
            console = f"http://localhost:{settings.dagster_port}"
        post = Post(self.alert_routes(), settings.alert_smtp_url.get_secret_value(), settings.alert_mail_from, console)
        return Delivery(self.incidents, post)

    def watch(self, *, expects_daemon: bool, owners: Mapping[str, tuple[str, ...]]) -> Watch:
        """Return a watch over the platform from outside Dagster, which is not started yet.

        Parameters
        ----------
        expects_daemon
            Whether Dagster's daemon should be alive.
        owners
            Owners of each model that this process serves; empty if it serves none.
        """
        from platform_assets.monitoring.incidents import problems
        from platform_assets.monitoring.incidents.watch import Watch

        started = datetime.now(UTC)
        looks: list[Callable[[], Findings]] = []
        if expects_daemon:
            looks.append(lambda: problems.daemon(self.database, started))
            looks.append(lambda: problems.lookout(self.incidents, started))
        if not self.settings.database_url:
            looks.append(lambda: problems.disk(self.settings.home))
        if owners:
            looks.append(lambda: problems.champions(self.live_models.state(), owners))
        return Watch(looks, self.incidents, self.delivery, self.settings.heartbeat_url.get_secret_value())

    @opened
    def tracer(self) -> Tracer:
        """Traces answers to the raw bytes behind them."""
        from platform_assets.monitoring.trace.models import ModelRecords
        from platform_assets.monitoring.trace.tracing import Tracer

        records = ModelRecords(self.ledger, self.registry, self.artefacts)
        return Tracer(self._connection, self.answers(), self.tables, self.sources, self.engine, records)

    @opened
    def lineage_receiver(self) -> LineageReceiver:
        """Sends lineage events to another catalogue."""
        from platform_assets.monitoring.trace.open_lineage import LineageReceiver

        return LineageReceiver(self.settings.openlineage_url, self.settings.openlineage_api_key.get_secret_value())

    def close(self) -> None:
        """Close the opened objects, each before the objects that it uses."""
        # Check `vars`, because reading an attribute would open it. Close the log first, so that a model that is being
        # loaded does not delay it.
        if "prediction_log" in vars(self):
            self.prediction_log.close()
        if "request_statistics" in vars(self):
            self.request_statistics.close()
        if vars(self).get("shadows"):
            vars(self)["shadows"].close()
        if "live_models" in vars(self):
            self.live_models.close()
        if "engine" in vars(self):
            self.engine.close()
        if "async_reads" in vars(self):
            self.async_reads.close()
        if "database" in vars(self):
            self.database.close()


def open_services(settings: Settings, answers: Callable[[], Sequence[TracedAnswers]] = tuple) -> Services:
    """Return the services for some settings; nothing is opened yet.

    Parameters
    ----------
    settings, answers
        As for `Services`.
    """
    return Services(settings, answers=answers)
