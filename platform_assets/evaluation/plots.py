"""Pictures of what a classifier does, as PNG bytes: for Dagster's metadata, MLflow and the page of approval.

One look for all: 640 x 440 pixels, the model in blue, what it is compared with in grey, the threshold in
orange; the title says what is seen and the number that matters, the line below it how many rows it comes
from. The numbers themselves are computed in `evaluation.py`.
"""

from __future__ import annotations

import io
import logging
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from platform_assets.evaluation.metrics import Ranking, Tally

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

WIDTH, HEIGHT, DPI = 640, 440, 100
_MODEL, _OTHER, _THRESHOLD = "#1f5fa8", "#8a8f98", "#d9660a"
_INK, _FAINT_INK, _FAINT = "#22262b", "#5a6068", "#e4e6ea"
_DARK = 0.7
_HALF = 0.5
_SMALL = 0.1
_STEADY_RECALL = 0.02
_COLOURS = 96
_MOST_BARS = 15
_MOST_WORDS = 12
_LONGEST_NAME = 32
_SCORE_BINS = (10, 40)
# From here on the smaller bars cannot be told from nothing on a linear axis.
_LOG_FROM = 50


def calibration(labels: ArrayLike, scores: ArrayLike) -> bytes:
    """Whether scores are probabilities: share of positives over mean score, in ten bins of equal size by score.

    Bars are 95 % intervals (Wilson, 1927) of a bin's share, as if its rows were independent.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).

    Raises
    ------
    TrainingError
        Shapes differ, or there are other values.
    """
    import numpy as np

    tally = Ranking(labels, scores).tally()
    metrics = tally.metrics(1.0)
    mean, share, size = tally.bins()
    low, high = _wilson(share, size)
    with _picture("Calibration", f"calibration error {_told(metrics['calibration_error'])}", _rows(metrics)) as axes:
        end = min(1.0, 1.08 * float(np.max(np.concatenate([mean, high])))) if len(size) else 1.0
        axes.plot([0, end], [0, end], color=_OTHER, linestyle="--", label="perfectly calibrated")
        if len(size):
            bars = np.array([np.maximum(share - low, 0), np.maximum(high - share, 0)])
            axes.errorbar(
                mean, share, bars, color=_MODEL, marker="o", markersize=5, capsize=2, label="model, with 95 % intervals"
            )
        else:
            _say(axes, "undefined: rows are needed")
        axes.set(xlabel="mean score of the bin", ylabel="share of positive rows")
        _square(axes, end)
        return _png(axes)


def roc(labels: ArrayLike, scores: ArrayLike) -> bytes:
    """Share of the positive rows found, over the share of negative ones flagged with them.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).

    Raises
    ------
    TrainingError
        Shapes differ, or there are other values.
    """
    tally = Ranking(labels, scores).tally()
    metrics = tally.metrics(1.0)
    above, caught = tally.above()
    negatives = metrics["rows"] - metrics["positives"]
    with _picture("ROC curve", f"AUC {_told(metrics['roc_auc'])}", _rows(metrics)) as axes:
        axes.plot([0, 1], [0, 1], color=_OTHER, linestyle="--", label="chance, AUC 0.5")
        if metrics["positives"] and negatives:
            axes.plot(_from_zero((above - caught) / negatives), _from_zero(caught / caught[-1]), **_line("model"))
        else:
            _say(axes, "undefined: rows of both classes are needed")
        axes.set(xlabel="false alarms: share of the negative rows flagged", ylabel="recall: share of the positive rows")
        _square(axes)
        return _png(axes)


def precision_recall(labels: ArrayLike, scores: ArrayLike, threshold: float) -> bytes:
    """Share of positives among the flagged rows, over the share of the positive rows found; the threshold marked.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).
    threshold
        A row is flagged when its score is equal to it or above.

    Raises
    ------
    TrainingError
        Shapes differ, or there are other values.
    """
    import numpy as np

    tally = Ranking(labels, scores).tally()
    metrics = tally.metrics(threshold)
    above, caught = tally.above()
    number = f"average precision {_told(metrics['average_precision'])}"
    at_threshold = f"recall {_told(metrics['recall'])}, precision {_told(metrics['precision'])} at the threshold"
    with _picture("Precision and recall", number, f"{_rows(metrics)}; {at_threshold}") as axes:
        top = 1.0
        if metrics["positives"]:
            recall, precision = caught / caught[-1], caught / above
            top = _top_of(precision[recall >= _STEADY_RECALL], metrics)
            # Steps, as average precision adds them up.
            axes.step(np.append(0.0, recall), np.append(precision[0], precision), where="pre", **_line("model"))
            base_rate = metrics["base_rate"]
            axes.axhline(base_rate, color=_OTHER, linestyle="--", label=f"base rate {_told(base_rate)}")
            _mark_threshold(axes, metrics, threshold)
        else:
            _say(axes, "undefined: positive rows are needed")
        axes.set(xlabel="recall: share of the positive rows flagged", ylabel="precision: positives among the flagged")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02 * top, 1.03 * top))
        return _png(axes)


def confusion(labels: ArrayLike, scores: ArrayLike, threshold: float) -> bytes:
    """How many rows of each class are flagged, and what share of their class that is.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).
    threshold
        A row is flagged when its score is equal to it or above.

    Raises
    ------
    TrainingError
        Shapes differ, or there are other values.
    """
    import numpy as np

    tally = Ranking(labels, scores).tally()
    metrics = tally.metrics(threshold)
    counts = _confusion(tally, threshold)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    number = f"recall {_told(metrics['recall'])}, precision {_told(metrics['precision'])}"
    with _picture("Confusion", number, f"{_rows(metrics)}, threshold {_told(threshold)}") as axes:
        axes.imshow(shares, cmap=_colour_map(), vmin=0, vmax=1, aspect="auto")
        for row, column in np.ndindex(2, 2):
            share = f"{shares[row, column]:.1%} of them" if totals[row, 0] else "no such rows"
            axes.text(
                column,
                row,
                f"{counts[row, column]:,.0f}\n{share}",
                ha="center",
                va="center",
                fontsize=14,
                color="white" if shares[row, column] > _DARK else _INK,
            )
        axes.set_xticks([0, 1], ["not flagged", "flagged"])
        axes.set_yticks([0, 1], [f"negative\n({totals[0, 0]:,.0f})", f"positive\n({totals[1, 0]:,.0f})"])
        axes.set(xlabel="what the model says", ylabel="what is true (rows)")
        axes.grid(visible=False)
        return _png(axes)


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
    shown = [_short(names[place]) for place in order]
    number = f"most of all {shown[0]} ({_told(loss[order[0]])})" if shown else "undefined"
    below = f"n = {len(order)} of {len(names)} features; each shuffled several times, mean and standard deviation"
    with _picture("Importance", number, below) as axes:
        places = np.arange(len(order))
        axes.barh(places, loss[order], xerr=deviation[order], color=_MODEL, ecolor=_OTHER, capsize=2, height=0.7)
        axes.axvline(0, color=_INK, linewidth=0.8)
        axes.set_yticks(places, shown)
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
        axes.set_ylim(max(len(order), 3) - 0.4, -0.6)
        axes.set_xlabel(f"loss of {metric}")
        axes.grid(visible=False, axis="y")
        if not shown:
            _say(axes, "no features")
        return _png(axes)


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
    number = f"most of all {_short(words[drawn[0]])} ({effect[drawn[0]]:+.3f})" if len(drawn) else "undefined"
    with _picture("Top words", number, below) as axes:
        places = np.arange(len(drawn))
        colours = [_MODEL if value > 0 else _OTHER for value in effect[drawn]]
        axes.barh(places, effect[drawn], color=colours, height=0.75)
        axes.axvline(0, color=_INK, linewidth=0.8)
        axes.set_yticks(places, [_short(words[place]) for place in drawn], fontsize=8)
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
        axes.set_ylim(max(len(drawn), 3) - 0.4, -0.6)
        axes.set_xlabel(f"mean change of the score by the word; to the right, more {_short(positive)}")
        axes.grid(visible=False, axis="y")
        if not len(drawn):
            _say(axes, "no word is in enough texts")
        return _png(axes)


def score_distribution(labels: ArrayLike, scores: ArrayLike, threshold: float) -> bytes:
    """How the scores of each class are spread, as shares of the class, with the threshold.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).
    threshold
        A row is flagged when its score is equal to it or above.

    Raises
    ------
    TrainingError
        Shapes differ, or there are other values.
    """
    import numpy as np

    tally = Ranking(labels, scores).tally()
    metrics = tally.metrics(threshold)
    edges = _score_edges(tally)
    with _picture("Scores", f"share flagged {_told(metrics['flagged'])}", _rows(metrics)) as axes:
        shown = []
        for name, rows, colour in (
            ("negative rows", tally.rows - tally.positives, _OTHER),
            ("positive rows", tally.positives, _MODEL),
        ):
            if rows.sum():
                share = 100 * np.histogram(tally.scores, edges, weights=rows)[0] / rows.sum()
                axes.stairs(share, edges, fill=True, alpha=0.35, color=colour)
                axes.stairs(share, edges, color=colour, linewidth=1.6, label=f"{name} ({rows.sum():,.0f})")
                shown.append(share[share > 0])
        axes.set_xlim(edges[0], edges[-1])
        _threshold_line(axes, threshold, edges)
        _scale_shares(axes, shown)
        if not shown:
            _say(axes, "undefined: rows are needed")
        axes.set(xlabel="score", ylabel="share of the class's rows (%)")
        return _png(axes)


@contextmanager
def _picture(what: str, number: str, below: str) -> Iterator[Axes]:
    with _quiet():
        from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor="white")
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 0.88))
    title = figure.text(0.015, 0.935, f"{what}: {number}", fontsize=12, fontweight="bold", color=_INK)
    title.set_parse_math(False)
    figure.text(0.015, 0.89, below, fontsize=9, color=_FAINT_INK)
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    axes.grid(color=_FAINT, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, colors=_INK)
    yield axes
    figure.clear()


@contextmanager
def _quiet() -> Iterator[None]:
    # On its first import Matplotlib warns where it cannot keep its list of fonts (a home that is read-only),
    # and while it takes more than five seconds to make one. Neither is news to whoever wants a picture.
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _png(axes: Axes) -> bytes:
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure = cast("Figure", axes.figure)
    if axes.get_legend_handles_labels()[1]:
        # Below the axes, where it covers nothing.
        figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    buffer = io.BytesIO()
    # A palette makes a third of the size, and nobody sees it: there are four colours and their edges.
    picture.quantize(_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(buffer, "png")
    return buffer.getvalue()


def _line(label: str) -> dict[str, Any]:
    return {"color": _MODEL, "linewidth": 2, "label": label}


def _rows(metrics: dict[str, float]) -> str:
    return f"n = {metrics['rows']:,.0f} rows, {metrics['positives']:,.0f} of them positive"


def _told(number: float) -> str:
    if math.isnan(number):
        return "undefined"
    # Where positives are rare, scores and shares are small, and three decimals would not tell them apart.
    return f"{number:.3f}" if abs(number) >= _SMALL or number == 0 else f"{number:.3g}"


def _short(name: str) -> str:
    # Matplotlib warns of characters that its font lacks.
    plain = (
        "".join(letter if letter.isprintable() else " " for letter in name)
        .encode("latin-1", "replace")
        .decode("latin-1")
    )
    return plain if len(plain) <= _LONGEST_NAME else f"{plain[: _LONGEST_NAME - 3]}..."


def _say(axes: Axes, text: str) -> None:
    axes.text(
        0.5,
        0.5,
        text,
        ha="center",
        va="center",
        transform=axes.transAxes,
        color=_INK,
        fontsize=11,
        backgroundcolor="white",
    )


def _from_zero(values: Floats) -> Floats:
    import numpy as np

    return np.append(0.0, values)


def _square(axes: Axes, end: float = 1.0) -> None:
    axes.set(xlim=(-0.02 * end, 1.02 * end), ylim=(-0.02 * end, 1.03 * end))


def _top_of(precision: Floats, metrics: dict[str, float]) -> float:
    # The first few rows make the curve jump up to 1 or down to 0; they must not flatten what follows.
    at_threshold = metrics["precision"] if metrics["flagged"] else 0.0
    top = 1.1 * max(float(precision.max()), 2 * metrics["base_rate"], at_threshold)
    return top if top < _HALF else 1.0


def _wilson(share: Floats, size: Floats) -> tuple[Floats, Floats]:
    import numpy as np

    z = 1.96
    middle = (share + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * np.sqrt(share * (1 - share) / size + z**2 / (4 * size**2))
    return middle - half, middle + half


def _confusion(tally: Tally, threshold: float) -> Floats:
    import numpy as np

    flagged = tally.scores >= threshold
    classes = (tally.rows - tally.positives, tally.positives)
    return np.array([[rows[~flagged].sum(), rows[flagged].sum()] for rows in classes])


def _mark_threshold(axes: Axes, metrics: dict[str, float], threshold: float) -> None:
    if metrics["flagged"]:
        look: dict[str, Any] = {"color": _THRESHOLD, "markersize": 8, "zorder": 5, "clip_on": False}
        axes.plot(metrics["recall"], metrics["precision"], "o", label=f"threshold {_told(threshold)}", **look)


def _score_edges(tally: Tally) -> Floats:
    import numpy as np

    low, high = (float(tally.scores[-1]), float(tally.scores[0])) if len(tally.scores) else (0.0, 1.0)
    margin = 0.02 * (high - low) or 0.05
    bins = int(np.clip(np.sqrt(tally.rows.sum()), *_SCORE_BINS))
    return np.linspace(max(0.0, low - margin), min(1.0, high + margin), bins + 1)


def _threshold_line(axes: Axes, threshold: float, edges: Floats) -> None:
    within = edges[0] <= threshold <= edges[-1]
    beyond = "" if within else ", to the right" if threshold > edges[-1] else ", to the left"
    drawn = [threshold] if within else []
    axes.vlines(
        drawn,
        0,
        1,
        transform=axes.get_xaxis_transform(),
        color=_THRESHOLD,
        linewidth=1.6,
        label=f"threshold {_told(threshold)}{beyond}",
    )


def _scale_shares(axes: Axes, shown: list[Floats]) -> None:
    heights = [share for share in shown if len(share)]
    if heights and max(share.max() for share in heights) > _LOG_FROM * min(share.min() for share in heights):
        from matplotlib.ticker import FuncFormatter

        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.set_ylim(bottom=0)


def _colour_map() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shares", ["white", _MODEL])
