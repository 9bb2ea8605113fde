"""Cross-validation of one candidate: its line in the leaderboard, and its calibration.

Only training examples are used. Only the ranking metric selects the best candidate.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pickle import PicklingError
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from platform_assets.training.tasks import OutOfFold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame
    from platform_assets.training.model_spec import ModelSpec
    from platform_assets.training.tasks import Calibrated, Folds


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
        Time for all folds. Preprocessing that the candidate shares with the previous one is cached, and counts only
        in the time of the previous candidate.
    threshold
        Decision threshold, from the calibrated out-of-fold scores; None if the model makes no decisions.
    metrics
        Metrics of the out-of-fold predictions; None if undefined.
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
    threshold: float | None
    metrics: Mapping[str, float | None]
    fit_seconds: float
    microseconds_per_row: float
    artefact_bytes: int | None


@dataclass(frozen=True)
class Attempt:
    """A candidate after cross-validation.

    Attributes
    ----------
    line
        Its line in the leaderboard.
    pipeline
        The unfitted pipeline.
    calibrated
        Its calibration on the out-of-fold predictions.
    """

    line: Tried
    pipeline: Any
    calibrated: Calibrated


class Trial:
    """Cross-validation of pipelines on fixed folds.

    Parameters
    ----------
    spec
        Declaration of the model.
    examples
        All training examples with all their columns.
    inputs
        Features and labels of these examples.
    parts
        Indices of the training and test examples of each fold.
    """

    def __init__(self, spec: ModelSpec, examples: Frame, inputs: tuple[Frame, NDArray[Any]], parts: Folds) -> None:
        from sklearn.metrics import get_scorer

        self._group = spec.group
        self._learner = spec.task.learner
        self._scorer = get_scorer(spec.ranked_by)
        self._examples = examples
        self._rows, self._labels = inputs
        self._parts = parts
        self._prepared: tuple[str, list[_Prepared]] = ("", [])

    def attempt(self, name: str, settings: Mapping[str, Any], pipeline: Any) -> Attempt:
        """Fit and score a pipeline on each fold."""
        import numpy as np
        from sklearn.base import clone

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
            raw.append(self._learner.raw(fitted, seen))
            scoring += time.thread_time() - began
        seconds = time.monotonic() - start
        calibrated = self._learner.calibrate(self._out_of_fold(raw))
        line = Tried(
            candidate=name,
            parameters={key: str(value) for key, value in settings.items()},
            mean=float(np.mean(metric)),
            deviation=float(np.std(metric)),
            seconds=seconds,
            threshold=calibrated.threshold,
            metrics={name: None if math.isnan(value) else value for name, value in calibrated.metrics.items()},
            fit_seconds=fitting / len(self._parts),
            microseconds_per_row=1e6 * scoring / sum(map(len, raw)),
            artefact_bytes=_stored_bytes([prepared[-1].transformers, fitted]),
        )
        return Attempt(line, pipeline, calibrated)

    def forget(self) -> None:
        """Clear the cache of transformed examples."""
        self._prepared = ("", [])

    def _out_of_fold(self, raw: Sequence[NDArray[np.float64]]) -> OutOfFold:
        """Return the out-of-fold predictions and the examples they belong to, in the order of the folds."""
        import numpy as np

        judging = np.concatenate([places for _, places in self._parts])
        fold = np.repeat(np.arange(len(raw)), [len(one) for one in raw])
        return OutOfFold(self._examples.iloc[judging], self._labels[judging], np.concatenate(raw), fold, self._group)

    def _prepare(self, before: Any) -> list[_Prepared]:
        """Return the transformed examples of each fold.

        The result is cached for the next candidate, because candidates often differ only in the estimator, and
        transforming texts takes ten times as long as fitting an estimator.
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
    """Split a pipeline into transformers and estimator. The transformers are None if there are none."""
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
