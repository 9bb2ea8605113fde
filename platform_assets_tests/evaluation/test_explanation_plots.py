"""Plots of permutation importance and top words, for ordinary and degenerate values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from platform_assets.evaluation.explanation_plots import _strongest, importance, word_effects
from platform_assets_tests.evaluation.pictures import MODEL, demand_good, near

if TYPE_CHECKING:
    from collections.abc import Callable

    Picture = Callable[[Any, Any, float], bytes]

IMPORTANCES: dict[str, tuple[Any, Any, Any]] = {
    "five": (["amount", "age", "job", "car", "previous"], [0.02, 0.04, 0.001, -0.001, 0.01], [0.002] * 5),
    "one": (["age"], [0.1], [0.0]),
    "none": ([], [], []),
    "no loss": (["a", "b"], [0.0, 0.0], [0.0, 0.0]),
    "only gains": (["a", "b"], [-0.1, -0.2], [0.01, 0.01]),
    "more than fit in the plot": ([f"word {place}" for place in range(200)], np.arange(200) / 200, np.ones(200)),
    "odd names": ([r"$\no{$", "x^$", "日本", "é", "a\nb\t", "n" * 300], np.arange(6), np.ones(6)),
}
WORDS: dict[str, tuple[Any, Any]] = {
    "both ways": (["fire", "love", "the", "killed"], [0.2, -0.1, 0.0, 0.1]),
    "none": ([], []),
    "no effect": (["a", "b"], [0.0, 0.0]),
    "only up": (["a", "b"], [0.1, 0.2]),
    "more than fit in the plot": ([f"word{place}" for place in range(200)], np.arange(200) / 200 - 0.4),
    "odd": ([r"$\no{$", "n" * 300], [0.1, -0.1]),
}


@pytest.mark.requirement("PRO-1")
@pytest.mark.parametrize("case", IMPORTANCES)
def test_permutation_importance_can_be_drawn_for_ordinary_and_degenerate_values(case: str) -> None:
    demand_good(importance(*IMPORTANCES[case]))


def test_the_most_important_features_are_shown() -> None:
    names, means, deviations = np.array([f"f{place}" for place in range(40)]), np.arange(40) / 40, np.zeros(40)
    picture = importance(names.tolist(), means, deviations)
    order = np.random.default_rng(0).permutation(40)
    assert importance(names[order].tolist(), means[order], deviations[order]) == picture
    # The 25 least important features are not shown.
    assert importance(names.tolist(), np.where(np.arange(40) < 25, -9.0, means), deviations) == picture
    assert importance(names.tolist(), np.where(np.arange(40) < 26, -9.0, means), deviations) != picture


@pytest.mark.requirement("REL-2")
@pytest.mark.parametrize("case", WORDS)
def test_the_plot_of_top_words_does_not_depend_on_the_order_of_the_words(case: str) -> None:
    words, effects = WORDS[case]
    picture = word_effects(words, effects, "relevant", "n = 3 words")
    demand_good(picture)
    assert word_effects(words[::-1], effects[::-1], "relevant", "n = 3 words") == picture
    assert (near(picture, MODEL) > 1_000) == any(np.array(effects) > 0)


@pytest.mark.parametrize(
    ("effects", "title"),
    [
        ([0.1, -0.2, 0.0], "strongest is love (-0.200)"),
        ([0.3, -0.2, 0.0], "strongest is fire (+0.300)"),
        ([-0.1, -0.2, 0.0], "strongest is love (-0.200)"),
        ([0.0, 0.0, 0.0], "no effect"),
        ([], "no effect"),
    ],
)
def test_the_title_names_the_word_with_the_strongest_effect(effects: list[float], title: str) -> None:
    assert _strongest(["fire", "love", "the"], np.array(effects)) == title
