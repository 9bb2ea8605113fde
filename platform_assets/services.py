"""The platform's objects, built from its settings and opened on first use.

The subpackages `lake`, `approval`, `serving` and `monitoring` have a `services.py`, whose class opens the objects of
the subpackage and extends the class of the previous subpackage. `Services` extends the last of these classes.
`definitions.py` passes the objects to Dagster. Tests build `Services` from other settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.base.opened import opened
from platform_assets.monitoring.services import MonitoringServices
from platform_assets.training.encoders import Encoders
from platform_assets.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from platform_assets.monitoring.trace.declarations import TracedAnswers
    from platform_assets.settings import Settings


@dataclass(frozen=True)
class Services(MonitoringServices):
    """The platform's objects; each attribute is opened on first use.

    Parameters
    ----------
    settings
        The platform's settings.
    of_domains
        Settings of some domains. The settings of all other domains are read from the environment.
    answers
        Function that returns the domains' `TracedAnswers`. They tell `trace` where answers are stored.
    """

    def history(self) -> Any:
        """Open Dagster's instance, after a check that the database belongs to this lake.

        Raises
        ------
        OtherLake
            The database belongs to another lake.
        """
        from platform_assets.orchestration.storage import dagster_instance

        self.demand_own_lake()
        return dagster_instance(self.settings)

    @property
    def exports(self) -> Path:
        """Folder of the files that are written for other programs."""
        return self.settings.home / "exports"

    @opened
    def trainer(self) -> Trainer:
        """Trains, evaluates and reproduces models."""
        return Trainer(self.tables, self.artefacts, self.registry, self.encoders)

    @opened
    def encoders(self) -> Encoders:
        """Lands sentence encoders."""
        return Encoders(self.sources, self.artefacts, self.scratch)

    def _pinned_tables(self) -> Mapping[str, set[int]]:
        from platform_assets.lake.ancestry import Ancestry, grouped
        from platform_assets.monitoring.trace.answers import tables_named_by_answers

        kept_for = timedelta(days=self.settings.predictions_days)
        of_answers = tables_named_by_answers(self._connection, self.answers(), kept_for)
        kept = self.registry.pinned_tables(), self.ledger.named_tables(), Ancestry(self.tables).closure(of_answers)
        return grouped((name, one) for named in kept for name, versions in named.items() for one in versions)

    @property
    def pinned_tables(self) -> Callable[[], Mapping[str, set[int]]]:
        """Function that returns the table versions that registered models, approval requests and stored answers use."""
        return self._pinned_tables

    def _named_artefacts(self) -> set[str]:
        return self.registry.named_artefacts() | self.ledger.named_artefacts()

    @property
    def named_artefacts(self) -> Callable[[], set[str]]:
        """Function that returns the artefact digests that registered versions and approval requests contain."""
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

    def close(self) -> None:
        """Close the opened objects, each before the objects that it uses."""
        # Check `vars`, because reading an attribute would open the object. Close the log first, because closing
        # `live_models` can wait for a model that is being loaded.
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
    """Return the services for the settings. Nothing is opened yet.

    Parameters
    ----------
    settings, answers
        See `Services`.
    """
    return Services(settings, answers=answers)
