"""Plots of model explanations, as PNG bytes: permutation importance and top words.

`training/explanations.py` computes the numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.evaluation.plot_style import INK, MODEL, OTHER, as_png, new_plot, note, rounded, short_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

_MOST_BARS = 15
_MOST_WORDS = 12


def importance(names: Sequence[str], means: ArrayLike, deviations: ArrayLike, metric: str = "the metric") -> bytes:
    """Draw permutation importance: the drop in a metric when the values of one feature are shuffled.

    Parameters
    ----------
    names
        Names of the features, k of them.
    means
        Mean drop over the repetitions, shape (k,); negative if shuffling improved the metric.
    deviations
        Standard deviation of the drop over the repetitions, shape (k,).
    metric
        Name of the metric.
    """
    import numpy as np

    loss, deviation = np.asarray(means, dtype=np.float64), np.asarray(deviations, dtype=np.float64)
    order = np.argsort(-loss, kind="stable")[:_MOST_BARS]
    shown = [short_name(names[place]) for place in order]
    number = f"highest for {shown[0]} ({rounded(loss[order[0]])})" if shown else "undefined"
    below = f"{len(order)} of {len(names)} features; mean and standard deviation over repeated shuffles"
    with new_plot("Permutation importance", number, below) as axes:
        places = np.arange(len(order))
        axes.barh(places, loss[order], xerr=deviation[order], color=MODEL, ecolor=OTHER, capsize=2, height=0.7)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(places, shown)
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
        axes.set_ylim(max(len(order), 3) - 0.4, -0.6)
        axes.set_xlabel(f"drop in {metric}\nwhen the feature is shuffled")
        axes.grid(visible=False, axis="y")
        if not shown:
            note(axes, "no features")
        return as_png(axes)


def word_effects(words: Sequence[str], effects: ArrayLike, positive: str, below: str) -> bytes:
    """Draw the words that raise or lower the scores of texts most.

    Parameters
    ----------
    words
        Words, k of them.
    effects
        Mean change in score caused by the word, shape (k,); positive if the word raises the score.
    positive
        Name of the positive class.
    below
        Subtitle, with the number of texts.
    """
    import numpy as np

    effect = np.asarray(effects, dtype=np.float64)
    order = np.argsort(-effect, kind="stable")
    raising = [place for place in order[:_MOST_WORDS] if effect[place] > 0]
    lowering = [place for place in order[-_MOST_WORDS:] if effect[place] < 0]
    drawn = np.array([*raising, *lowering], dtype=np.int64)
    with new_plot("Top words", _strongest(words, effect), below) as axes:
        places = np.arange(len(drawn))
        colours = [MODEL if value > 0 else OTHER for value in effect[drawn]]
        axes.barh(places, effect[drawn], color=colours, height=0.75)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(places, [short_name(words[place]) for place in drawn], fontsize=8)
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
        axes.set_ylim(max(len(drawn), 3) - 0.4, -0.6)
        axes.set_xlabel(f"mean change in score caused by the word (above 0: towards {short_name(positive)})")
        axes.grid(visible=False, axis="y")
        if not len(drawn):
            note(axes, "no word occurs in enough texts")
        return as_png(axes)


def _strongest(words: Sequence[str], effect: NDArray[np.float64]) -> str:
    if not effect.any():
        return "no effect"
    place = max(range(len(effect)), key=lambda at: (abs(effect[at]), effect[at]))
    return f"strongest is {short_name(words[place])} ({effect[place]:+.3f})"
