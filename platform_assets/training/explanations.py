"""Model explanations: permutation importance, top words and decision surface. `ModelSpec.explanations` selects them.

They use only the model's scores on held-out examples, so they work for any estimator.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from platform_assets.base.errors import TrainingError
from platform_assets.base.text_cleaning import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame
    from platform_assets.models.fitted_model import FittedModel

    Explain = Callable[["Explained", FittedModel, "HeldOut"], "Explanation"]
    """Function that returns an explanation, given the declaration, the fitted model and held-out examples."""

REPEATS = 5
"""Shuffles per feature."""
ROWS = 20_000
"""Maximum number of held-out examples used for permutation importance."""
TEXTS = 2_000
"""Maximum number of held-out texts used for top words."""
GRID = 80
"""Number of values per feature in the decision surface."""
MARGIN = 0.25
"""Length by which the grid of the decision surface extends beyond the held-out examples on each side.

The length is given as a share of the examples' range.
"""
FEWEST_TEXTS = 10
"""A word is explained if at least this many texts contain it. The effect of a rarer word is mostly noise."""


class Explainable(Protocol):
    """The attribute of a task that explanations use."""

    @property
    def outcome(self) -> str:
        """Meaning of a higher score."""


class Explained(Protocol):
    """The attributes of `ModelSpec` that explanations use."""

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, in order."""

    @property
    def task(self) -> Explainable:
        """Task of the model."""

    @property
    def ranked_by(self) -> str:
        """Name of the scikit-learn scorer that ranks candidates."""

    @property
    def seed(self) -> int:
        """Random seed."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Examples that the model was not fitted on.

    Attributes
    ----------
    rows
        Features, one row per example.
    labels
        Labels as the task converts them, (n,).
    threshold
        Decision threshold. Scores at or above it count as positive. None if the model makes no decisions.
    """

    rows: Frame
    labels: NDArray[Any]
    threshold: float | None


@dataclass(frozen=True, eq=False)
class Explanation:
    """Result of explaining a model.

    Attributes
    ----------
    name
        Key of the result in the training's record.
    found
        Numbers, as JSON values.
    draw
        Function that draws the plots and returns them as PNG bytes by file name.
    """

    name: str
    found: Mapping[str, Any]
    draw: Callable[[], Mapping[str, bytes]]


def permutation_importance(spec: Explained, model: FittedModel, held_out: HeldOut) -> Explanation:
    """Compute permutation importance: the drop in the ranking metric when one feature is shuffled."""
    import numpy as np
    from sklearn import inspection
    from sklearn.frozen import FrozenEstimator

    from platform_assets.evaluation.explanation_plots import importance
    from platform_assets.models.thread_limits import one_thread

    rows = held_out.rows
    chosen = _spread(len(rows), ROWS)
    with one_thread():
        shuffled = inspection.permutation_importance(
            FrozenEstimator(model.estimator),
            rows.iloc[chosen],
            held_out.labels[chosen],
            scoring=spec.ranked_by,
            n_repeats=REPEATS,
            random_state=spec.seed,
        )
    names, means, deviations = spec.feature_names, shuffled.importances_mean, shuffled.importances_std
    found = {name: [float(means[at]), float(deviations[at])] for at, name in enumerate(names)}
    return Explanation(
        "importance",
        found,
        lambda: {"importance.png": importance(names, np.array(means), np.array(deviations), spec.ranked_by)},
    )


def top_words(column: str) -> Explain:
    """Return a function that computes the occlusion importance of words.

    The effect of a word is the mean drop in score when the word is removed from each held-out text that contains it.
    The effect includes the context: `fire` has different effects in `under fire` and `fire evacuation`.

    Parameters
    ----------
    column
        Name of the text feature.
    """

    def explain(spec: Explained, model: FittedModel, held_out: HeldOut) -> Explanation:
        import numpy as np

        from platform_assets.evaluation.explanation_plots import word_effects

        rows = held_out.rows
        texts = rows.iloc[_spread(len(rows), TEXTS)].reset_index(drop=True)
        places, removed, without = _without_each([clean(text).split() for text in texts[column].fillna("")])
        found: dict[str, float] = {}
        if places:
            shorter = texts.iloc[places].assign(**{column: without})
            lost = model.scores(texts)[places] - model.scores(shorter)
            words, codes = np.unique(np.array(removed, dtype=object), return_inverse=True)
            means = np.bincount(codes, lost) / np.bincount(codes)
            found = {word: float(mean) for word, mean in zip(words, means, strict=True)}
        below = f"{len(found)} words that occur in {FEWEST_TEXTS} or more of {len(texts):,} held-out texts"
        return Explanation(
            "top_words",
            found,
            lambda: {"top_words.png": word_effects(list(found), list(found.values()), spec.task.outcome, below)},
        )

    return explain


def decision_surface(spec: Explained, model: FittedModel, held_out: HeldOut) -> Explanation:
    """Score a grid of values of the model's two features. The grid extends beyond the range of the held-out examples.

    Examples with a missing feature are not drawn.

    Raises
    ------
    TrainingError
        The model makes no decisions.
    """
    import numpy as np
    import pandas as pd

    from platform_assets.evaluation.decision_surface_plot import decision_surface as draw

    if held_out.threshold is None:
        raise TrainingError("decision_surface is only for classifiers; remove it from `explanations`")
    first, second = spec.feature_names
    threshold = held_out.threshold
    complete = held_out.rows[[first, second]].notna().all(axis=1).to_numpy()
    points = held_out.rows[[first, second]].to_numpy()[complete]
    low, high = (points.min(axis=0), points.max(axis=0)) if len(points) else (np.zeros(2), np.ones(2))
    beyond = np.where(high > low, MARGIN * (high - low), 1.0)
    across, up = np.linspace(low - beyond, high + beyond, GRID).T
    grid = pd.DataFrame({first: np.tile(across, GRID), second: np.repeat(up, GRID)})
    scores = model.scores(grid).reshape(GRID, GRID)
    ranges = {name: [float(low[place]), float(high[place])] for place, name in enumerate((first, second))}
    return Explanation(
        "decision_surface",
        {"share_flagged": float((scores >= threshold).mean()), "ranges": ranges},
        lambda: {
            "decision_surface.png": draw(
                (first, second), (across, up, scores), points, held_out.labels[complete], threshold
            )
        },
    )


def _without_each(words: list[list[str]]) -> tuple[list[int], list[str], list[str]]:
    """Return, for each common word of each text: the text's index, the word, and the text without it."""
    holders = defaultdict(set)
    for place, text in enumerate(words):
        for word in text:
            holders[word].add(place)
    common = sorted(word for word, texts in holders.items() if len(texts) >= FEWEST_TEXTS)
    found = [(place, word) for word in common for place in sorted(holders[word])]
    shorter = [" ".join(other for other in words[place] if other != word) for place, word in found]
    return [place for place, _ in found], [word for _, word in found], shorter


def _spread(rows: int, most: int) -> NDArray[np.int64]:
    """Return the indices of at most `most` rows, evenly spaced."""
    import numpy as np

    return np.linspace(0, rows - 1, min(most, rows)).astype(np.int64)
