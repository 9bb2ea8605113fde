"""By what a fitted model goes, as plots for people: a model's declaration names which of these are made.

Each looks at the model from outside, by what it says of held-out examples, so that any estimator can be explained.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from platform_assets.base.text_cleaning import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame
    from platform_assets.models.fitted_model import FittedModel

    Explain = Callable[["Explained", FittedModel, Frame, NDArray[np.int64]], "Explanation"]
    """From the declaration, the fitted model, and features and labels of held-out examples."""

REPEATS = 5
ROWS = 20_000
"""Most held-out examples that a permutation importance is computed from."""
TEXTS = 2_000
"""Most held-out texts of which words are taken away."""
FEWEST_TEXTS = 10
"""Texts in which a word has to occur; what fewer say of it is chance."""


class Explained(Protocol):
    """What an explanation needs of a model's declaration; see `ModelSpec`, which names its explanations."""

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, in order."""

    @property
    def positive(self) -> str:
        """What the label 1 stands for."""

    @property
    def ranked_by(self) -> str:
        """Name of the scikit-learn scorer by which the search ranks."""

    @property
    def seed(self) -> int:
        """Random seed."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """What was found about a model.

    Attributes
    ----------
    name
        Under which it is recorded.
    found
        The numbers, for JSON.
    draw
        Makes the plots: PNG bytes by file name.
    """

    name: str
    found: Mapping[str, Any]
    draw: Callable[[], Mapping[str, bytes]]


def permutation_importance(spec: Explained, model: FittedModel, rows: Frame, labels: NDArray[np.int64]) -> Explanation:
    """How much the ranking metric loses when the values of one feature are shuffled."""
    import numpy as np
    from sklearn import inspection
    from sklearn.frozen import FrozenEstimator

    from platform_assets.evaluation.explanation_plots import importance
    from platform_assets.models.thread_limits import one_thread

    chosen = _spread(len(rows), ROWS)
    with one_thread():
        shuffled = inspection.permutation_importance(
            FrozenEstimator(model.estimator),
            rows.iloc[chosen],
            labels[chosen],
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
    """By how much single words raise or lower the score of held-out texts.

    Each word is taken out of every text that it is in; its effect is the mean of what the score loses. In a text, not
    alone: `fire` after `under` is another word than `fire` before `evacuation`.

    Parameters
    ----------
    column
        The feature that holds the text.
    """

    def explain(spec: Explained, model: FittedModel, rows: Frame, labels: NDArray[np.int64]) -> Explanation:  # noqa: ARG001 - as all explain
        import numpy as np

        from platform_assets.evaluation.explanation_plots import word_effects

        texts = rows.iloc[_spread(len(rows), TEXTS)].reset_index(drop=True)
        places, removed, without = _without_each([clean(text).split() for text in texts[column].fillna("")])
        found: dict[str, float] = {}
        if places:
            shorter = texts.iloc[places].assign(**{column: without})
            lost = model.scores(texts)[places] - model.scores(shorter)
            words, codes = np.unique(np.array(removed, dtype=object), return_inverse=True)
            means = np.bincount(codes, lost) / np.bincount(codes)
            found = {word: float(mean) for word, mean in zip(words, means, strict=True)}
        below = f"n = {len(found)} words, each in {FEWEST_TEXTS} or more of {len(texts):,} held-out texts"
        return Explanation(
            "top_words",
            found,
            lambda: {"top_words.png": word_effects(list(found), list(found.values()), spec.positive, below)},
        )

    return explain


def _without_each(words: list[list[str]]) -> tuple[list[int], list[str], list[str]]:
    """For each common word of each text: the text's place, the word, and the text without it."""
    holders = defaultdict(set)
    for place, text in enumerate(words):
        for word in text:
            holders[word].add(place)
    common = sorted(word for word, texts in holders.items() if len(texts) >= FEWEST_TEXTS)
    found = [(place, word) for word in common for place in sorted(holders[word])]
    shorter = [" ".join(other for other in words[place] if other != word) for place, word in found]
    return [place for place, _ in found], [word for _, word in found], shorter


def _spread(rows: int, most: int) -> NDArray[np.int64]:
    """Places of at most so many rows, evenly spread."""
    import numpy as np

    return np.linspace(0, rows - 1, min(most, rows)).astype(np.int64)
