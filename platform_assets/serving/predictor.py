"""Predict with the live models: one version scores all rows of a request, and each prediction is logged and counted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.serving.prediction_log import Predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.serving.live_models import LiveModel, LiveModels
    from platform_assets.serving.prediction_log import PredictionLog
    from platform_assets.web.request_identity import Asked


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """The predictions of one request.

    Attributes
    ----------
    live
        The model version that scored all rows.
    scores
        (n,) float64, probability of the positive class, in the order of the rows.
    positive
        (n,) bool, whether the score reaches the threshold.
    """

    live: LiveModel
    scores: NDArray[np.float64]
    positive: NDArray[np.bool_]


class Predictor:
    """Scores rows with the live models and logs the predictions.

    Parameters
    ----------
    live_models
        The models in memory.
    log
        The prediction log.
    """

    def __init__(self, live_models: LiveModels, log: PredictionLog) -> None:
        self._live_models = live_models
        self._log = log
        self._told: tuple[Callable[[Predicted], None], ...] = ()

    def tell(self, told: Callable[[Predicted], None]) -> None:
        """Register a function that is called with the predictions of each request, in the request's thread."""
        self._told = (*self._told, told)

    def predict(
        self, name: str, keys: Sequence[str | int | None], rows: Sequence[Mapping[str, Any]], asked: Asked
    ) -> Predicted:
        """Score rows with the live model.

        Parameters
        ----------
        name
            Name of the model.
        keys
            (n,) id of the item that each row describes, such as a client, for the log; None without an id.
        rows
            (n,) plain feature values by name, None if missing; other names are ignored.
        asked
            Caller of the request. If the response must wait for the prediction log, the log's future is appended to
            `asked.logging`.

        Raises
        ------
        NoChampion
            No version of the model is live.
        ArtefactError
            A feature is missing or has the wrong type.
        """
        asked.models.append(name)
        live = self._live_models.live(name)
        scores = live.scores(rows)
        predicted = Predicted(live, scores, scores >= live.threshold)
        features = live.model.features
        logged = self._log.add(
            Predictions(
                live.name,
                live.version,
                live.approval_id,
                live.threshold,
                asked.caller,
                asked.request_id,
                keys,
                [{feature: row[feature] for feature in features} for row in rows],
                scores.tolist(),
                datetime.now(UTC),
            )
        )
        if logged is not None:
            asked.logging.append(logged)
        for tell in self._told:
            tell(predicted)
        return predicted
