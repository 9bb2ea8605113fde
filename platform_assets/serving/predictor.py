"""Predict with the live models: one version scores all rows of a request, and each prediction is logged and counted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import ArtefactError
from platform_assets.lake.online_tables import OnlineRow
from platform_assets.models.outputs import by_column
from platform_assets.serving.prediction_log import Predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.serving.live_models import LiveModel, LiveModels
    from platform_assets.serving.prediction_log import PredictionLog
    from platform_assets.serving.shadow_scoring import Shadows
    from platform_assets.web.request_identity import Asked


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """The predictions of one request.

    Attributes
    ----------
    live
        The model version that scored all rows.
    found
        Output of the model in the order of the rows; see `FittedModel.outputs`.
    """

    live: LiveModel
    found: NDArray[np.float64]

    @property
    def scores(self) -> NDArray[np.float64]:
        """Probability of the positive class, or the predicted value, (n,) float64."""
        return self.found if self.found.ndim == 1 else self.found[:, 0]

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Whether the score reaches the threshold, (n,).

        Raises
        ------
        ArtefactError
            The model makes no decisions.
        """
        decided = self.live.model.output.decide(self.found, self.live.threshold)
        if decided is None:
            raise ArtefactError(
                f"version {self.live.version} of {self.live.name} predicts values, so it makes no decisions"
            )
        return decided

    @property
    def values(self) -> dict[str, NDArray[np.float64]]:
        """The columns of the output by name, (n,) float64 each."""
        return by_column(self.live.model.output, self.found)

    @property
    def outcomes(self) -> Mapping[str, int]:
        """Number of rows by outcome."""
        return self.live.model.output.outcomes(self.found, self.live.threshold)


class Predictor:
    """Scores rows with the live models and logs the predictions.

    Parameters
    ----------
    live_models
        The models in memory.
    log
        The prediction log.
    shadows
        The shadows, which score the same rows later; None if there is no database.
    """

    def __init__(self, live_models: LiveModels, log: PredictionLog, shadows: Shadows | None = None) -> None:
        self._live_models = live_models
        self._log = log
        self._shadows = shadows
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
            (n,) id of the item that each row describes, such as a client, for the log; None if it has no id.
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
        predicted = Predicted(live, live.outputs(rows))
        features = live.model.features
        predictions = Predictions(
            live.name,
            live.version,
            live.approval_id,
            live.threshold,
            asked.caller,
            asked.request_id,
            keys,
            [{feature: row[feature] for feature in features} for row in rows],
            predicted.scores.tolist(),
            datetime.now(UTC),
            [row.read_from if isinstance(row, OnlineRow) else None for row in rows],
        )
        logged = self._log.add(predictions)
        if self._shadows is not None:
            self._shadows.offer(live, predictions, rows)
        if logged is not None:
            asked.logging.append(logged)
        for tell in self._told:
            tell(predicted)
        return predicted
