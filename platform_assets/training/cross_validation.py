"""Cross-validation of one candidate: its line in the leaderboard, its calibration, and its decision threshold.

Only training examples are used. Only the ranking metric selects the best candidate.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pickle import PicklingError
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from platform_assets.evaluation.binary_classification import measure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame
    from platform_assets.training.model_spec import ModelSpec

    Folds = Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]

LEADERBOARD_METRICS = ("recall", "precision", "f2", "roc_auc", "average_precision", "brier")
"""Metrics of the leaderboard, on the out-of-fold scores at the candidate's own threshold."""


@dataclass(frozen=True)
class Tried:
    """One line of the leaderboard.

    Attributes
    ----------
    candidate
        Name of the candidate.
    parameters
        Hyperparameters, as text.
    mean, deviation
        Mean and standard deviation of the ranking metric over the folds.
    seconds
        Time for all folds. Preprocessing shared with the previous candidate is cached and counted only once, there.
    threshold
        Threshold that the model's rule chooses on the calibrated out-of-fold scores.
    metrics
        `LEADERBOARD_METRICS` at this threshold; None if undefined.
    fit_seconds
        Mean CPU time to fit the estimator on a fold, on one thread, without preprocessing.
    microseconds_per_row
        Mean CPU time to score a test row, on one thread, without preprocessing.
    artefact_bytes
        Size of the pipeline as fitted on the last fold, stored like an artefact; None if it cannot be stored.
    """

    candidate: str
    parameters: Mapping[str, str]
    mean: float
    deviation: float
    seconds: float
    threshold: float
    metrics: Mapping[str, float | None]
    fit_seconds: float
    microseconds_per_row: float
    artefact_bytes: int | None


@dataclass(frozen=True)
class Attempt:
    """A tried candidate.

    Attributes
    ----------
    line
        Its line in the leaderboard.
    pipeline
        The unfitted pipeline.
    slope, intercept
        Parameters of the calibrating sigmoid, fitted on the out-of-fold scores. A slope of 0 predicts the base rate.
    """

    line: Tried
    pipeline: Any
    slope: float
    intercept: float


class Trial:
    """Cross-validation of pipelines on fixed folds.

    Parameters
    ----------
    spec
        Declaration of the model.
    rows, labels
        Features and labels of all training examples.
    parts
        Indices of the training and test examples of each fold.
    """

    def __init__(self, spec: ModelSpec, rows: Frame, labels: NDArray[np.int64], parts: Folds) -> None:
        import numpy as np
        from sklearn.metrics import get_scorer

        self._spec = spec
        self._scorer = get_scorer(spec.ranked_by)
        self._rows = rows
        self._labels = labels
        self._parts = parts
        self._truth = np.concatenate([labels[judging] for _, judging in parts])
        self._prepared: tuple[str, list[_Prepared]] = ("", [])

    def attempt(self, name: str, settings: Mapping[str, Any], pipeline: Any) -> Attempt:
        """Fit and score a pipeline on each fold."""
        import numpy as np
        from sklearn.base import clone

        from platform_assets.models.calibration import raw_scores

        start = time.monotonic()
        before, estimator = _divided(pipeline)
        metric, raw, fitting, scoring = [], [], 0.0, 0.0
        prepared, fitted = self._prepare(before), None
        for (training, judging), fold in zip(self._parts, prepared, strict=True):
            # Copy the examples, because an estimator may modify its input in place.
            learned, seen = fold.learned.copy(), fold.seen.copy()
            began = time.thread_time()
            fitted = clone(estimator).fit(learned, self._labels[training])
            fitting += time.thread_time() - began
            metric.append(self._scorer(fitted, fold.seen.copy(), self._labels[judging]))
            began = time.thread_time()
            raw.append(raw_scores(fitted, seen))
            scoring += time.thread_time() - began
        seconds = time.monotonic() - start
        scores = np.concatenate(raw)
        slope, intercept = _calibration(scores, self._truth)
        threshold, metrics = self._measured(scores, slope, intercept)
        line = Tried(
            candidate=name,
            parameters={key: str(value) for key, value in settings.items()},
            mean=float(np.mean(metric)),
            deviation=float(np.std(metric)),
            seconds=seconds,
            threshold=threshold,
            metrics=metrics,
            fit_seconds=fitting / len(self._parts),
            microseconds_per_row=1e6 * scoring / len(scores),
            artefact_bytes=_stored_bytes([prepared[-1].transformers, fitted]),
        )
        return Attempt(line, pipeline, slope, intercept)

    def forget(self) -> None:
        """Clear the cached examples."""
        self._prepared = ("", [])

    def _measured(
        self, raw: NDArray[np.float64], slope: float, intercept: float
    ) -> tuple[float, dict[str, float | None]]:
        """Return the threshold that the model's rule chooses, and the metrics at it."""
        from platform_assets.models.calibration import sigmoid

        scores = sigmoid(raw, slope, intercept)
        threshold = self._spec.threshold.choose(self._truth, scores)
        found = measure(self._truth, scores, threshold)
        numbers = {name: found[name] for name in LEADERBOARD_METRICS}
        return threshold, {name: None if math.isnan(value) else value for name, value in numbers.items()}

    def _prepare(self, before: Any) -> list[_Prepared]:
        """Return the transformed examples of each fold.

        The result is cached for the next candidate, because candidates often differ only in the estimator, and
        transforming texts takes ten times as long as fitting one.
        """
        from sklearn.base import clone

        key = _identity(before)
        if key != self._prepared[0]:
            self.forget()
            prepared = []
            for training, judging in self._parts:
                learned, seen, fitted = self._rows.iloc[training], self._rows.iloc[judging], None
                if before is not None:
                    fitted = clone(before)
                    learned, seen = fitted.fit_transform(learned, self._labels[training]), fitted.transform(seen)
                prepared.append(_Prepared(learned, seen, fitted))
            self._prepared = key, prepared
        return self._prepared[1]


@dataclass(frozen=True)
class _Prepared:
    """Transformed training and test examples of a fold, and the fitted transformers (None if there are none)."""

    learned: Any
    seen: Any
    transformers: Any


def _identity(transformers: Any) -> str:
    """Return a cache key of transformers. Transformers that cannot be hashed get a new key each time."""
    import joblib

    try:
        return str(joblib.hash(transformers))
    except PicklingError:
        return uuid4().hex


def _divided(pipeline: Any) -> tuple[Any, Any]:
    """Split a pipeline into its transformers, None if it has none, and its estimator."""
    from sklearn.pipeline import Pipeline

    if isinstance(pipeline, Pipeline) and len(pipeline) > 1:
        return pipeline[:-1], pipeline[-1]
    return None, pipeline


def _stored_bytes(parts: Any) -> int | None:
    from skops.io import dumps
    from skops.io.exceptions import UnsupportedTypeException

    from platform_assets.models.artefact_format import COMPRESSION

    try:
        return len(dumps(parts, compression=COMPRESSION))
    except (UnsupportedTypeException, PicklingError):
        return None


def _calibration(raw: NDArray[np.float64], truth: NDArray[np.int64]) -> tuple[float, float]:
    """Fit the slope and intercept of the calibrating sigmoid on out-of-fold scores."""
    import numpy as np
    from scipy.special import logit
    from sklearn.linear_model import LogisticRegression

    # No penalty, because only two parameters are fitted on hundreds of examples.
    line = LogisticRegression(C=np.inf).fit(raw[:, None], truth)
    slope, intercept = float(line.coef_[0, 0]), float(line.intercept_[0])
    # Predict the base rate instead of using a negative slope, which would reverse the order of the scores.
    return (slope, intercept) if slope > 0 else (0.0, float(logit(truth.mean())))
