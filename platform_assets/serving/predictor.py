"""From rows to answers: one live model scores all rows of a request, and each answer is logged and counted."""

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
    """The answer to one request, of one version.

    Attributes
    ----------
    live
        What answered.
    scores
        (n,) float64, probability of the positive class, in the order of the rows.
    positive
        (n,) bool, whether the score reaches the threshold.
    """

    live: LiveModel
    scores: NDArray[np.float64]
    positive: NDArray[np.bool_]


class Predictor:
    """Answers with the live models.

    Parameters
    ----------
    live_models
        What answers.
    log
        Where every answer goes.
    """

    def __init__(self, live_models: LiveModels, log: PredictionLog) -> None:
        self._live_models = live_models
        self._log = log
        self._told: tuple[Callable[[Predicted], None], ...] = ()

    def tell(self, told: Callable[[Predicted], None]) -> None:
        """Call this with every answer from now on, in the thread that asked."""
        self._told = (*self._told, told)

    def predict(
        self, name: str, keys: Sequence[str | int | None], rows: Sequence[Mapping[str, Any]], asked: Asked
    ) -> Predicted:
        """Score rows with the live model.

        Parameters
        ----------
        name
            The model.
        keys
            (n,) of whom or what each row is, for the log; None where that has no name.
        rows
            (n,) the features of each by name, as plain values, None where there is none; others are ignored.
        asked
            Whose request it is.

        Raises
        ------
        NoChampion
            No version of the model can answer.
        ArtefactError
            A feature is missing, or a value is not of its type.
        """
        live = self._live_models.live(name)
        scores = live.scores(rows)
        predicted = Predicted(live, scores, scores >= live.threshold)
        features = live.model.features
        self._log.add(
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
        for tell in self._told:
            tell(predicted)
        return predicted
