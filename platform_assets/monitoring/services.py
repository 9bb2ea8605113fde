"""Services of the package `monitoring`: drift, labels, incidents and traces."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from platform_assets.base.opened import opened
from platform_assets.serving.services import ServingServices

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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


@dataclass(frozen=True)
class MonitoringServices(ServingServices):
    """Services for drift, labels, incidents and traces."""

    answers: Callable[[], Sequence[TracedAnswers]] = tuple

    @opened
    def drift_history(self) -> DriftHistory:
        """Store of measured drift and estimated performance."""
        from platform_assets.monitoring.drift.history import DriftHistory

        return DriftHistory(self._connection)

    @opened
    def drift_monitor(self) -> DriftMonitor:
        """Service that measures how new rows differ from the training rows of models."""
        from platform_assets.monitoring.drift.monitor import DriftMonitor

        stores = self.tables, self.artefacts, self.registry
        return DriftMonitor(stores, self.drift_history, self._lock, self.settings.drift_false_alarm_days)

    @opened
    def labels(self) -> Labels:
        """Store of the labels of predictions."""
        from platform_assets.monitoring.label_store import Labels

        return Labels(self._connection)

    @opened
    def model_sources(self) -> ModelSources:
        """Databases and services from which the daily measurements of models are computed."""
        from platform_assets.monitoring.daily.model_days import ModelSources

        stores = self.engine, self.tables, self.registry, self.ledger, self.labels
        return ModelSources(self._connection, *stores, self.drift_monitor, self.drift_history)

    @opened
    def incidents(self) -> Incidents:
        """The store of incidents."""
        from platform_assets.monitoring.incidents.store import Incidents, Windows

        windows = Windows(
            timedelta(minutes=self.settings.alert_reopen_minutes), timedelta(hours=self.settings.alert_escalate_hours)
        )
        return Incidents(self._connection, self.alert_routes(), windows, self.settings.secrets())

    def alert_routes(self) -> Routes:
        """Return the receivers of messages about incidents."""
        from platform_assets.monitoring.incidents.routes import Routes

        smtp = self.settings.alert_smtp_url.get_secret_value()
        return Routes(self.settings.alert_destinations, mails=bool(smtp))

    @opened
    def delivery(self) -> Delivery:
        """Sender of the messages about incidents."""
        from platform_assets.monitoring.incidents.delivery import Delivery, Post

        smtp, sender = self.settings.alert_smtp_url.get_secret_value(), self.settings.alert_mail_from
        return Delivery(self.incidents, Post(self.alert_routes(), smtp, sender, self.console))

    @property
    def console(self) -> str:
        """Base URL of Dagster's UI, for links; empty if unknown."""
        settings = self.settings
        local = f"http://localhost:{settings.dagster_port}" if settings.env == "development" else ""
        return settings.dagster_url or local

    def watch(self, *, expects_daemon: bool, owners: Mapping[str, tuple[str, ...]]) -> Watch:
        """Return a thread that looks for problems of the platform from outside Dagster. The caller starts the thread.

        Parameters
        ----------
        expects_daemon
            Whether it is a problem if Dagster's daemon is not running.
        owners
            Owners of the models that this process serves, by model; empty if it serves none.
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
        """Service that traces answers back to the source rows from which they were computed."""
        from platform_assets.monitoring.trace.models import ModelRecords
        from platform_assets.monitoring.trace.tracing import Tracer

        records = ModelRecords(self.ledger, self.registry, self.artefacts)
        return Tracer(self._connection, self.answers(), self.tables, self.sources, self.engine, records)

    @opened
    def lineage_receiver(self) -> LineageReceiver:
        """Sender of lineage events to a data catalogue."""
        from platform_assets.monitoring.trace.open_lineage import LineageReceiver

        return LineageReceiver(self.settings.openlineage_url, self.settings.openlineage_api_key.get_secret_value())

    def _forget_measurements(self) -> int:
        return self.drift_history.delete_old(timedelta(days=self.settings.predictions_days))

    @property
    def forget_measurements(self) -> Callable[[], int]:
        """Function that deletes old drift measurements, and returns the number of deleted batches and days.

        Measurements older than PLATFORM_PREDICTIONS_DAYS are deleted, except the newest.
        """
        return self._forget_measurements
