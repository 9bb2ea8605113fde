"""Learning curves: the ranking metric and the time of a fit against the number of training examples."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame
    from platform_assets.training.cross_validation import Attempt
    from platform_assets.training.model_spec import ModelSpec
    from platform_assets.training.tasks import Folds


TEST_EXAMPLES = 1_000
"""Approximate number of test examples scored per fold, evenly spaced. Scoring more would take longer than the fits."""


@dataclass(frozen=True)
class CurvePoint:
    """One point of a learning curve.

    Attributes
    ----------
    candidate
        Name of the candidate, with its best hyperparameters.
    examples
        Number of training examples.
    mean, deviation
        Mean and standard deviation of the ranking metric over the folds.
    fit_seconds
        CPU time of the fastest fit among the folds, on one thread, including preprocessing.
    """

    candidate: str
    examples: int
    mean: float
    deviation: float
    fit_seconds: float


def learning_curve(
    spec: ModelSpec,
    attempts: Iterable[Attempt],
    examples: tuple[Frame, NDArray[Any], Folds],
    progress: Callable[[str], None],
) -> Iterator[CurvePoint]:
    """Fit each candidate on a growing number of training examples, and score it on the test examples of each fold.

    Parameters
    ----------
    spec
        Declaration of the model. A number in `learning_curve` is skipped if a fold has fewer training examples.
    attempts
        The candidates, unfitted.
    examples
        Features, labels and folds of the training examples.
    progress
        Callback that receives progress messages.
    """
    import numpy as np
    from sklearn.base import clone
    from sklearn.metrics import get_scorer

    rows, labels, parts = examples
    scorer = get_scorer(spec.ranked_by)
    sizes = [size for size in spec.learning_curve if size <= min(len(training) for training, _ in parts)]
    for attempt in attempts:
        for size in sizes:
            metric, seconds = [], []
            for training, judging in parts:
                chosen = np.sort(np.random.default_rng(spec.seed).permutation(training)[:size])
                tested = judging[:: max(1, len(judging) // TEST_EXAMPLES)]
                start = time.thread_time()
                fitted = clone(attempt.pipeline).fit(rows.iloc[chosen], labels[chosen])
                seconds.append(time.thread_time() - start)
                metric.append(scorer(fitted, rows.iloc[tested], labels[tested]))
            name = attempt.line.candidate
            yield CurvePoint(name, size, float(np.mean(metric)), float(np.std(metric)), min(seconds))
    if sizes:
        progress(f"learning curve: {', '.join(f'{size:,}' for size in sizes)} training examples")
