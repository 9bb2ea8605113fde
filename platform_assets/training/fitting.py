"""Fitting: from training examples to the best candidate, calibrated and with its decision threshold.

Only training examples are used here. `trainer.py` evaluates the result on the holdout.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pickle import PicklingError
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.splits import folds
from platform_assets.models.fitted_model import GOLDEN_ROWS, FittedModel, library_versions
from platform_assets.models.thread_limits import one_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame
    from platform_assets.training.model_spec import Candidate, ModelSpec

    Folds = Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]

REFERENCE = "always the base rate"
"""Name of the no-feature baseline in the leaderboard."""


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
    """

    candidate: str
    parameters: Mapping[str, str]
    mean: float
    deviation: float
    seconds: float


@dataclass(frozen=True)
class Fitted:
    """The best candidate, fitted.

    Attributes
    ----------
    model
        The best candidate, fitted on all training examples and calibrated.
    threshold
        Decision threshold. Scores at or above it count as positive.
    best
        Leaderboard line of the best candidate.
    leaderboard
        All candidates and the baseline, best first.
    """

    model: FittedModel
    threshold: float
    best: Tried
    leaderboard: tuple[Tried, ...]


def demand_sound(spec: ModelSpec, examples: Frame) -> None:
    """Reject invalid examples.

    Raises
    ------
    TrainingError
        A column is missing, an id is repeated, a label is neither 0 nor 1, or a feature is infinite.
    """
    import numpy as np

    told = f"{spec.key}: {spec.examples.__name__} of {', '.join(spec.tables)}"
    wanted = [
        spec.id,
        *spec.feature_names,
        spec.label,
        spec.group,
        *([spec.time] if spec.time else []),
        *spec.subgroups,
        *spec.error_columns,
    ]
    if missing := [name for name in wanted if name not in examples.columns]:
        raise TrainingError(
            f"{told} returns no column {', '.join(missing)}; it returns {', '.join(map(str, examples.columns))}"
        )
    if twins := int(examples[spec.id].duplicated().sum()):
        raise TrainingError(
            f"{told}: {twins} examples repeat the {spec.id} of another example; return one row per {spec.id}"
        )
    if strange := int((~examples[spec.label].isin([0, 1])).sum()):
        raise TrainingError(f"{told}: {strange} examples have a {spec.label} that is neither 0 nor 1; drop them")
    numbers = feature_frame(examples, spec).select_dtypes("number")
    if infinite := [name for name in numbers if np.isinf(numbers[name]).any()]:
        raise TrainingError(f"{told} returns infinite values of {', '.join(map(str, infinite))}; replace or drop them")


def feature_frame(frame: Frame, spec: ModelSpec) -> Frame:
    """Return the feature columns for estimators: numbers as float64, text as str, missing values as NaN."""
    forms = {
        feature.name: "str" if feature.type == "string" else "float64"
        for feature in spec.features
        if feature.type.startswith(("int", "uint", "float", "string"))
    }
    return frame[spec.feature_names].astype(forms)


def training_ranges(rows: Frame) -> dict[str, tuple[float, float]]:
    """Return the smallest and largest value of each float64 column that has one."""
    numbers = rows.select_dtypes("float64").dropna(axis="columns", how="all")
    return {str(name): (float(numbers[name].min()), float(numbers[name].max())) for name in numbers}


def fit(spec: ModelSpec, examples: Frame, progress: Callable[[str], None]) -> Fitted:
    """Find the best candidate by cross-validation, calibrate it, and choose its threshold.

    Folds are split by group and time: test examples are of other groups and later than training examples. The
    out-of-fold scores of the best candidate calibrate its probabilities and choose the threshold. The returned model
    is fitted on all examples. Fitting uses one thread, so that equal examples give equal models.

    Parameters
    ----------
    spec
        Declaration of the model.
    examples
        Training examples, one row each, in a stable order, with the columns that `spec` names.
    progress
        Callback that receives progress messages.

    Raises
    ------
    TrainingError
        There are too few examples, or a fold has only one class.
    """
    import numpy as np
    from sklearn.dummy import DummyClassifier

    from platform_assets.models.calibration import CalibratedEstimator, sigmoid

    rows, labels = feature_frame(examples, spec), examples[spec.label].to_numpy(dtype=np.int64)
    parts = folds(examples[spec.group], examples[spec.time] if spec.time else None, spec.folds, spec.holdout.newest)
    _demand_both_classes(spec, labels, parts)
    truth = np.concatenate([labels[judging] for _, judging in parts])
    with one_thread():
        trial = _Trial(spec.ranked_by, rows, labels, parts)
        tried = list(_search(spec, trial, progress))
        trial.forget()
        best = max(tried, key=lambda one: one.line.mean)
        slope, intercept = _calibration(best, truth, progress)
        scores = sigmoid(best.raw, slope, intercept)
        threshold = spec.threshold.choose(truth, scores)
        progress(f"best candidate: {best.line.candidate}; threshold {threshold:.4f}. {spec.threshold.description}")
        estimator = CalibratedEstimator(best.pipeline.fit(rows, labels), slope, intercept)
        reference = trial.attempt(REFERENCE, {}, DummyClassifier(strategy="prior"))
        golden = rows.iloc[np.linspace(0, len(rows) - 1, min(GOLDEN_ROWS, len(rows))).astype(int)]
        model = FittedModel(
            estimator=estimator,
            features=tuple(spec.feature_names),
            golden_rows=golden.reset_index(drop=True),
            golden_scores=estimator.predict_proba(golden)[:, 1],
            libraries=library_versions(),
            training_ranges=training_ranges(rows),
        )
    leaderboard = sorted((one.line for one in [*tried, reference]), key=lambda line: -line.mean)
    return Fitted(model, threshold, best.line, tuple(leaderboard))


def settings_of(candidate: Candidate) -> list[dict[str, Any]]:
    """Return all combinations of a candidate's grid."""
    from sklearn.model_selection import ParameterGrid

    return list(ParameterGrid({name: list(values) for name, values in candidate.grid.items()}))


@dataclass(frozen=True)
class _Attempt:
    """A tried candidate: its leaderboard line, its unfitted pipeline, and its out-of-fold scores before calibration."""

    line: Tried
    pipeline: Any
    raw: NDArray[np.float64]


class _Trial:
    """Cross-validation of pipelines on fixed folds.

    Parameters
    ----------
    ranked_by
        Name of the scikit-learn scorer.
    rows, labels
        Features and labels of all training examples.
    parts
        Indices of the training and test examples of each fold.
    """

    def __init__(self, ranked_by: str, rows: Frame, labels: NDArray[np.int64], parts: Folds) -> None:
        from sklearn.metrics import get_scorer

        self._scorer = get_scorer(ranked_by)
        self._rows = rows
        self._labels = labels
        self._parts = parts
        self._prepared: tuple[str, list[tuple[Any, Any]]] = ("", [])

    def attempt(self, name: str, settings: Mapping[str, Any], pipeline: Any) -> _Attempt:
        """Fit and score a pipeline on each fold."""
        import numpy as np
        from sklearn.base import clone

        from platform_assets.models.calibration import raw_scores

        start = time.monotonic()
        before, estimator = _divided(pipeline)
        metric, raw = [], []
        for (training, judging), (learned, seen) in zip(self._parts, self._prepare(before), strict=True):
            # Copies, because an estimator may modify its input in place.
            fitted = clone(estimator).fit(learned.copy(), self._labels[training])
            metric.append(self._scorer(fitted, seen.copy(), self._labels[judging]))
            raw.append(raw_scores(fitted, seen.copy()))
        texts = {key: str(value) for key, value in settings.items()}
        line = Tried(name, texts, float(np.mean(metric)), float(np.std(metric)), time.monotonic() - start)
        return _Attempt(line, pipeline, np.concatenate(raw))

    def _prepare(self, before: Any) -> list[tuple[Any, Any]]:
        """Return the transformed training and test examples of each fold.

        The result is cached for the next candidate, because candidates often differ only in the estimator, and
        transforming texts takes ten times as long as fitting one.
        """
        from sklearn.base import clone

        key = _identity(before)
        if key != self._prepared[0]:
            self.forget()
            prepared = []
            for training, judging in self._parts:
                learned, seen = self._rows.iloc[training], self._rows.iloc[judging]
                if before is not None:
                    fitted = clone(before)
                    learned, seen = fitted.fit_transform(learned, self._labels[training]), fitted.transform(seen)
                prepared.append((learned, seen))
            self._prepared = key, prepared
        return self._prepared[1]

    def forget(self) -> None:
        """Clear the cached examples."""
        self._prepared = ("", [])


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


def _search(spec: ModelSpec, trial: _Trial, progress: Callable[[str], None]) -> Iterator[_Attempt]:
    attempts = [(candidate, settings) for candidate in spec.candidates for settings in settings_of(candidate)]
    for number, (candidate, settings) in enumerate(attempts, 1):
        tried = trial.attempt(candidate.name, settings, candidate.build(spec.seed).set_params(**settings))
        line, told = tried.line, ", ".join(f"{name}={value}" for name, value in settings.items()) or "as it is"
        progress(
            f"{number} of {len(attempts)}: {candidate.name} ({told}): "
            f"{spec.ranked_by} {line.mean:.4f} ± {line.deviation:.4f}, {line.seconds:.1f} s"
        )
        yield tried


def _calibration(best: _Attempt, truth: NDArray[np.int64], progress: Callable[[str], None]) -> tuple[float, float]:
    """Fit the slope and intercept of the calibrating sigmoid on out-of-fold scores."""
    import numpy as np
    from scipy.special import logit
    from sklearn.linear_model import LogisticRegression

    # No penalty, because only two parameters are fitted on hundreds of examples.
    line = LogisticRegression(C=np.inf).fit(best.raw[:, None], truth)
    slope, intercept = float(line.coef_[0, 0]), float(line.intercept_[0])
    if slope > 0:
        return slope, intercept
    # Predict the base rate, because a negative slope would reverse the order of the scores.
    progress("calibration slope is not positive; predicting the base rate for every row")
    return 0.0, float(logit(truth.mean()))


def _demand_both_classes(spec: ModelSpec, labels: NDArray[np.int64], parts: Folds) -> None:
    """Require both classes in the training and the test examples of every fold."""
    for indices in (indices for fold in parts for indices in fold):
        positives = int(labels[indices].sum())
        if not 0 < positives < len(indices):
            raise TrainingError(
                f"{spec.key}: {int(labels.sum())} of {len(labels)} training examples are {spec.positive}, and one of "
                f"{spec.folds} folds has {positives} of {len(indices)}. Each fold needs both classes; load more data"
            )
