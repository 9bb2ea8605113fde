"""Services of `serving`: live models, and the log of their predictions."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.approval.services import ApprovalServices
from platform_assets.base.opened import opened

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from platform_assets.models.fitted_model import FittedModel
    from platform_assets.serving.bundles import Bundle
    from platform_assets.serving.current_champions import CurrentChampions
    from platform_assets.serving.live_models import LiveModels
    from platform_assets.serving.prediction_log import PredictionLog
    from platform_assets.serving.predictor import Predictor
    from platform_assets.serving.request_statistics import RequestStatistics
    from platform_assets.serving.shadow_scoring import Shadows

PATIENCE_SECONDS = 10.0
"""Timeout for background threads on an unresponsive database."""


class ServingServices(ApprovalServices):
    """Live models, and the log of their predictions."""

    @opened
    def live_models(self) -> LiveModels:
        """Holds the live models of this process, after `start` was called."""
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
    def shadows(self) -> Shadows | None:
        """Scores requests with the shadows, after `start` was called; None without a database."""
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
