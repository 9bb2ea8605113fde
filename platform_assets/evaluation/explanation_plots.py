"""Plots of what a model goes by, as PNG bytes: importances of features, effects of words.

The numbers are computed in `training/explanations.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.evaluation.plot_style import INK, MODEL, OTHER, as_png, new_plot, note, rounded, short_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

_MOST_BARS = 15
_MOST_WORDS = 12


def importance(names: Sequence[str], means: ArrayLike, deviations: ArrayLike, metric: str = "the metric") -> bytes:
    """How much worse a model gets when the values of a feature are shuffled.

    Parameters
    ----------
    names
        Features.
    means
        Mean loss over the repetitions, shape (k,); below 0 where shuffling helped.
    deviations
        Standard deviation of the same, shape (k,).
    metric
        What gets worse, in words and with its unit.
    """
    import numpy as np

    loss, deviation = np.asarray(means, dtype=np.float64), np.asarray(deviations, dtype=np.float64)
    order = np.argsort(-loss, kind="stable")[:_MOST_BARS]
    shown = [short_name(names[place]) for place in order]
    number = f"most of all {shown[0]} ({rounded(loss[order[0]])})" if shown else "undefined"
    below = f"n = {len(order)} of {len(names)} features; each shuffled several times, mean and standard deviation"
    with new_plot("Importance", number, below) as axes:
        places = np.arange(len(order))
        axes.barh(places, loss[order], xerr=deviation[order], color=MODEL, ecolor=OTHER, capsize=2, height=0.7)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(places, shown)
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
        axes.set_ylim(max(len(order), 3) - 0.4, -0.6)
        axes.set_xlabel(f"loss of {metric}")
        axes.grid(visible=False, axis="y")
        if not shown:
            note(axes, "no features")
        return as_png(axes)


def word_effects(words: Sequence[str], effects: ArrayLike, positive: str, below: str) -> bytes:
    """By how much single words raise or lower the score of the texts that they are in.

    Parameters
    ----------
    words
        Words; those that raise or lower it most are drawn.
    effects
        Mean change of the score, above 0 where the word raises it, shape (k,).
    positive
        What a high score stands for, said of a text.
    below
        From how many texts this comes, in words.
    """
    import numpy as np

    effect = np.asarray(effects, dtype=np.float64)
    order = np.argsort(-effect, kind="stable")
    raising = [place for place in order[:_MOST_WORDS] if effect[place] > 0]
    lowering = [place for place in order[-_MOST_WORDS:] if effect[place] < 0]
    drawn = np.array([*raising, *lowering], dtype=np.int64)
    number = f"most of all {short_name(words[drawn[0]])} ({effect[drawn[0]]:+.3f})" if len(drawn) else "undefined"
    with new_plot("Top words", number, below) as axes:
        places = np.arange(len(drawn))
        colours = [MODEL if value > 0 else OTHER for value in effect[drawn]]
        axes.barh(places, effect[drawn], color=colours, height=0.75)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(places, [short_name(words[place]) for place in drawn], fontsize=8)
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
        axes.set_ylim(max(len(drawn), 3) - 0.4, -0.6)
        axes.set_xlabel(f"mean change of the score by the word; to the right, more {short_name(positive)}")
        axes.grid(visible=False, axis="y")
        if not len(drawn):
            note(axes, "no word is in enough texts")
        return as_png(axes)
