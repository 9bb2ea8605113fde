"""Fitting: labelled examples in, the best candidate out, calibrated, with its decision threshold.

Sees the training examples only. What the result is worth on the holdout, `evaluation.py` says.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.core.artefacts import GOLDEN_ROWS, FittedModel, library_versions
from platform_assets.core.errors import TrainingError
from platform_assets.core.splits import folds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.core.frames import Frame
    from platform_assets.core.models import Candidate, ModelSpec

    Folds = Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]

REFERENCE = "always the base rate"
"""A row of the leaderboard, not a candidate: what is known without looking at any feature."""


@dataclass(frozen=True)
class Tried:
    """One line of the leaderboard.

    Attributes
    ----------
    candidate
        Its name.
    parameters
        The settings tried.
    mean, deviation
        The metric over the folds, mean and standard deviation.
    seconds
        How long the folds took.
    """

    candidate: str
    parameters: Mapping[str, Any]
    mean: float
    deviation: float
    seconds: float


@dataclass(frozen=True)
class Fitted:
    """The best candidate.

    Attributes
    ----------
    model
        Fitted on all training examples, and calibrated.
    threshold
        A score at or above it counts as positive.
    best
        Its line of the leaderboard.
    leaderboard
        All lines, best first, with the reference.
    """

    model: FittedModel
    threshold: float
    best: Tried
    leaderboard: tuple[Tried, ...]


def feature_frame(frame: Frame, spec: ModelSpec) -> Frame:
    """The features alone, in the forms that estimators take: numbers as float64, missing ones as NaN."""
    numbers = {
        feature.name: "float64" for feature in spec.features if feature.type.startswith(("int", "uint", "float"))
    }
    return frame[spec.feature_names].astype(numbers)


def fit(spec: ModelSpec, examples: Frame, progress: Callable[[str], None]) -> Fitted:
    """Find the best candidate by cross-validation, calibrate it, and choose its threshold.

    Groups and time are respected: what a fold is judged on is of other groups, and later, than what it was
    fitted on. The same out-of-fold predictions of the best candidate calibrate its probabilities and choose the
    threshold. What is returned was fitted once on all examples, with one thread: the same examples give the same model.

    Parameters
    ----------
    spec
        The model.
    examples
        Training examples, one row each, with the columns that `spec` names; in a stable order.
    progress
        Told what was tried, line by line.

    Raises
    ------
    TrainingError
        The examples are too few, or some fold has but one class.
    """
    import numpy as np

    rows, labels = feature_frame(examples, spec), examples[spec.label].to_numpy(dtype=np.int64)
    parts = folds(examples[spec.group], examples[spec.time] if spec.time else None, spec.folds, spec.holdout.newest)
    _demand_both_classes(spec, labels, parts)
    with _one_thread():
        tried = list(_search(spec, (rows, labels), parts, progress))
        best = max(tried, key=lambda one: one.mean)
        estimator, scores, truth = _calibrated(_pipeline(spec, best), (rows, labels), parts)
        threshold = spec.threshold.choose(truth, scores)
        progress(f"{best.candidate} is best; threshold {threshold:.4f}. {spec.threshold.description}")
        reference = _try(_reference(), spec, (rows, labels), parts)
        golden = rows.iloc[np.linspace(0, len(rows) - 1, min(GOLDEN_ROWS, len(rows))).astype(int)]
        model = FittedModel(
            estimator=estimator,
            features=tuple(spec.feature_names),
            golden_rows=golden.reset_index(drop=True),
            golden_scores=estimator.predict_proba(golden)[:, 1],
            libraries=library_versions(),
        )
    leaderboard = sorted([*tried, reference], key=lambda one: -one.mean)
    return Fitted(model, threshold, best, tuple(leaderboard))


def settings_of(candidate: Candidate) -> list[dict[str, Any]]:
    """Every combination of a candidate's grid."""
    from sklearn.model_selection import ParameterGrid

    return list(ParameterGrid({name: list(values) for name, values in candidate.grid.items()}))


def _search(
    spec: ModelSpec, examples: tuple[Frame, NDArray[np.int64]], comparison: Folds, progress: Callable[[str], None]
) -> Iterator[Tried]:
    attempts = [(candidate, settings) for candidate in spec.candidates for settings in settings_of(candidate)]
    for number, (candidate, settings) in enumerate(attempts, 1):
        build = candidate.build(spec.seed).set_params(**settings)
        tried = _try((candidate.name, settings, build), spec, examples, comparison)
        settings_told = ", ".join(f"{name}={value}" for name, value in settings.items()) or "as it is"
        progress(
            f"{number} of {len(attempts)}: {candidate.name} ({settings_told}): "
            f"{spec.ranked_by} {tried.mean:.4f} ± {tried.deviation:.4f}, {tried.seconds:.1f} s"
        )
        yield tried


def _try(
    attempt: tuple[str, Mapping[str, Any], Any],
    spec: ModelSpec,
    examples: tuple[Frame, NDArray[np.int64]],
    comparison: Folds,
) -> Tried:
    from sklearn.model_selection import cross_val_score

    name, settings, estimator = attempt
    start = time.monotonic()
    scores = cross_val_score(estimator, *examples, cv=comparison, scoring=spec.ranked_by, error_score="raise")
    return Tried(name, dict(settings), float(scores.mean()), float(scores.std()), time.monotonic() - start)


def _reference() -> tuple[str, Mapping[str, Any], Any]:
    from sklearn.dummy import DummyClassifier

    return REFERENCE, {}, DummyClassifier(strategy="prior")


def _pipeline(spec: ModelSpec, best: Tried) -> Any:
    [candidate] = [candidate for candidate in spec.candidates if candidate.name == best.candidate]
    return candidate.build(spec.seed).set_params(**best.parameters)


def _calibrated(
    pipeline: Any, examples: tuple[Frame, NDArray[np.int64]], parts: Folds
) -> tuple[Any, NDArray[np.float64], NDArray[np.int64]]:
    """The pipeline fitted on everything, behind a sigmoid; and the out-of-fold probabilities, with their labels."""
    import numpy as np
    from sklearn.base import clone
    from sklearn.linear_model import LogisticRegression

    from platform_assets.core.calibration import CalibratedEstimator, raw_scores

    rows, labels = examples
    raw = np.concatenate(
        [raw_scores(clone(pipeline).fit(rows.iloc[fit], labels[fit]), rows.iloc[judge]) for fit, judge in parts]
    )
    truth = np.concatenate([labels[judge] for _, judge in parts])
    # Without a penalty: two numbers from hundreds of examples need none.
    sigmoid = LogisticRegression(C=np.inf).fit(raw[:, None], truth)
    return CalibratedEstimator(pipeline.fit(rows, labels), sigmoid), sigmoid.predict_proba(raw[:, None])[:, 1], truth


def _demand_both_classes(spec: ModelSpec, labels: NDArray[np.int64], parts: Folds) -> None:
    """Every fold, on either side, needs examples of both: nothing can be fitted or measured on one."""
    for indices in (indices for fold in parts for indices in fold):
        positives = int(labels[indices].sum())
        if not 0 < positives < len(indices):
            raise TrainingError(
                f"{spec.key}: {int(labels.sum())} of {len(labels)} training examples are {spec.positive}; in one of "
                f"{spec.folds} folds {positives} of {len(indices)}; each fold needs examples of both. Load more data"
            )


@contextmanager
def _one_thread() -> Iterator[None]:
    """BLAS and OpenMP with one thread: on few cores several fight each other, and sums depend on their number."""
    # Only libraries that are loaded can be limited.
    import sklearn.ensemble
    import sklearn.linear_model  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield
