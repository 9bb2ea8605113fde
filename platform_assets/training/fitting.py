"""Fitting: from training examples to the best candidate, with its calibration or prediction intervals.

Only training examples are used here. `trainer.py` evaluates the result on the holdout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TrainingError
from platform_assets.models.fitted_model import GOLDEN_ROWS, FittedModel, library_versions
from platform_assets.models.thread_limits import one_thread
from platform_assets.training.cross_validation import Trial
from platform_assets.training.learning_curves import learning_curve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame
    from platform_assets.training.cross_validation import Attempt, Tried
    from platform_assets.training.learning_curves import CurvePoint
    from platform_assets.training.model_spec import Candidate, ModelSpec


@dataclass(frozen=True)
class Fitted:
    """The best candidate, fitted.

    Attributes
    ----------
    model
        The best candidate, fitted on all training examples, with its calibration or prediction intervals.
    threshold
        Decision threshold. Scores at or above it count as positive. None if the model makes no decisions.
    best
        Leaderboard line of the best candidate.
    leaderboard
        All candidates and the baseline, best first.
    curve
        Learning curve of the best hyperparameters of each candidate; empty if the model declares none.
    """

    model: FittedModel
    threshold: float | None
    best: Tried
    leaderboard: tuple[Tried, ...]
    curve: tuple[CurvePoint, ...]


def demand_sound(spec: ModelSpec, examples: Frame) -> None:
    """Reject invalid examples.

    Raises
    ------
    TrainingError
        A column is missing, an id is repeated, a label does not fit the task, or a feature is infinite.
    """
    import numpy as np

    told = f"{spec.key}: {spec.examples.__name__} of {', '.join(spec.tables)}"
    wanted = [
        spec.id,
        *spec.feature_names,
        spec.label,
        *spec.split.columns,
        *spec.task.columns,
        *spec.subgroups,
        *spec.error_columns,
    ]
    if missing := [name for name in dict.fromkeys(wanted) if name not in examples.columns]:
        raise TrainingError(
            f"{told} does not return these columns: {', '.join(map(repr, missing))}. It returns: "
            f"{', '.join(map(repr, examples.columns))}. Add the missing columns to the function"
        )
    if twins := int(examples[spec.id].duplicated().sum()):
        raise TrainingError(
            f"{told}: {twins} examples have the same {spec.id} as another example; return one row per {spec.id}"
        )
    try:
        labels_of(spec, examples)
    except TrainingError as error:
        raise TrainingError(f"{told}: {error}") from None
    numbers = feature_frame(examples, spec).select_dtypes("number")
    if infinite := [name for name in numbers if np.isinf(numbers[name]).any()]:
        raise TrainingError(f"{told} returns infinite values of {', '.join(map(str, infinite))}; replace or drop them")


def labels_of(spec: ModelSpec, examples: Frame) -> NDArray[Any]:
    """Return the labels as the task converts them, (n,)."""
    return spec.task.labels(examples[spec.label])


def feature_frame(frame: Frame, spec: ModelSpec) -> Frame:
    """Return the feature columns for estimators: numbers as float64, text as str, missing values as NaN."""
    forms = {
        feature.name: "str" if feature.type == "string" else "float64"
        for feature in spec.features
        if feature.type.startswith(("int", "uint", "float", "string"))
    }
    return frame[spec.feature_names].astype(forms)


def training_ranges(rows: Frame) -> dict[str, tuple[float, float]]:
    """Return the smallest and largest value of each float64 column that has values."""
    numbers = rows.select_dtypes("float64").dropna(axis="columns", how="all")
    return {str(name): (float(numbers[name].min()), float(numbers[name].max())) for name in numbers}


def fit(spec: ModelSpec, examples: Frame, progress: Callable[[str], None]) -> Fitted:
    """Find the best candidate by cross-validation, and calibrate it.

    The split rule in the declaration defines the folds. The out-of-fold predictions of the best candidate calibrate it,
    and determine its threshold or its prediction intervals. The returned model is fitted on all examples. Fitting uses
    one thread, so that equal examples give equal models.

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
        There are too few examples, or the labels are invalid or too uniform for training.
    """
    import numpy as np

    learner = spec.task.learner
    rows, labels = feature_frame(examples, spec), labels_of(spec, examples)
    parts = spec.split.folds(examples, labels, spec.folds)
    try:
        learner.demand_fittable(labels, parts)
    except TrainingError as error:
        raise TrainingError(f"{spec.key}: {error}") from None
    with one_thread():
        trial = Trial(spec, examples, (rows, labels), parts)
        tried = list(_search(spec, trial, progress))
        trial.forget()
        best = max(tried, key=lambda one: one.line.mean)
        progress(f"best candidate: {best.line.candidate}; {best.calibrated.told}")
        estimator = best.calibrated.complete(best.pipeline.fit(rows, labels), spec.feature_names)
        reference = trial.attempt(learner.reference, {}, learner.build_reference())
        golden = rows.iloc[np.linspace(0, len(rows) - 1, min(GOLDEN_ROWS, len(rows))).astype(int)]
        model = FittedModel(
            estimator=estimator,
            features=tuple(spec.feature_names),
            golden_rows=golden.reset_index(drop=True),
            golden_scores=learner.output.ask(estimator, golden),
            libraries=library_versions(),
            training_ranges=training_ranges(rows),
            output=learner.output,
        )
        curve = tuple(learning_curve(spec, _best_of_each(tried), (rows, labels, parts), progress))
    leaderboard = sorted((one.line for one in [*tried, reference]), key=lambda line: -line.mean)
    return Fitted(model, best.line.threshold, best.line, tuple(leaderboard), curve)


def _best_of_each(tried: list[Attempt]) -> list[Attempt]:
    """Return each candidate with its best hyperparameters, in the order of the declaration."""
    best: dict[str, Attempt] = {}
    for one in tried:
        if one.line.candidate not in best or one.line.mean > best[one.line.candidate].line.mean:
            best[one.line.candidate] = one
    return list(best.values())


def settings_of(candidate: Candidate) -> list[dict[str, Any]]:
    """Return all combinations of the hyperparameters in a candidate's grid."""
    from sklearn.model_selection import ParameterGrid

    return list(ParameterGrid({name: list(values) for name, values in candidate.grid.items()}))


def _search(spec: ModelSpec, trial: Trial, progress: Callable[[str], None]) -> Iterator[Attempt]:
    attempts = [(candidate, settings) for candidate in spec.candidates for settings in settings_of(candidate)]
    for number, (candidate, settings) in enumerate(attempts, 1):
        tried = trial.attempt(candidate.name, settings, candidate.build(spec.seed).set_params(**settings))
        line, told = tried.line, ", ".join(f"{name}={value}" for name, value in settings.items()) or "as it is"
        progress(
            f"{number} of {len(attempts)}: {candidate.name} ({told}): "
            f"{spec.ranked_by} {line.mean:.4f} ± {line.deviation:.4f}, {line.seconds:.1f} s"
        )
        yield tried
