"""Plots of a binary classifier's performance, as PNG bytes, for Dagster metadata, MLflow and the approval page.

`metrics.py` computes the metrics shown in them, and `plot_style.py` defines their shared style.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.evaluation.intervals import wilson
from platform_assets.evaluation.metrics import Ranking, Tally
from platform_assets.evaluation.plot_style import INK, MODEL, OTHER, THRESHOLD, as_png, new_plot, note, rounded

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

    from platform_assets.evaluation.costs import Costs

    Floats = NDArray[np.float64]

_DARK = 0.7
_HALF = 0.5
_STEADY_RECALL = 0.02
_SCORE_BINS = (10, 40)
# Ratio of tallest to shortest bar above which the axis is logarithmic, so that short bars remain visible.
_LOG_FROM = 50


def calibration(labels: ArrayLike, scores: ArrayLike) -> bytes:
    """Draw the reliability diagram: share of positive rows against mean score, in ten equal-sized bins by score.

    Error bars are 95 % Wilson intervals (Wilson, 1927), which treat rows as independent.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).

    Raises
    ------
    TrainingError
        Shapes differ, or a label or score is out of range.
    """
    import numpy as np

    tally = Ranking(labels, scores).tally()
    metrics = tally.metrics(1.0)
    mean, share, size = tally.bins()
    low, high = wilson(share, size)
    with new_plot("Calibration", f"calibration error {rounded(metrics['calibration_error'])}", _rows(metrics)) as axes:
        end = min(1.0, 1.08 * float(np.max(np.concatenate([mean, high])))) if len(size) else 1.0
        axes.plot([0, end], [0, end], color=OTHER, linestyle="--", label="perfectly calibrated")
        if len(size):
            bars = np.array([np.maximum(share - low, 0), np.maximum(high - share, 0)])
            axes.errorbar(
                mean, share, bars, color=MODEL, marker="o", markersize=5, capsize=2, label="model, with 95 % intervals"
            )
        else:
            note(axes, "undefined: no rows")
        axes.set(xlabel="mean score in the bin", ylabel="share of positive rows in the bin")
        _square(axes, end)
        return as_png(axes)


def roc(labels: ArrayLike, scores: ArrayLike) -> bytes:
    """Draw the ROC curve: true positive rate against false positive rate.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).

    Raises
    ------
    TrainingError
        Shapes differ, or a label or score is out of range.
    """
    tally = Ranking(labels, scores).tally()
    metrics = tally.metrics(1.0)
    above, caught = tally.above()
    negatives = metrics["rows"] - metrics["positives"]
    with new_plot("ROC curve", f"AUC {rounded(metrics['roc_auc'])}", _rows(metrics)) as axes:
        axes.plot([0, 1], [0, 1], color=OTHER, linestyle="--", label="chance, AUC 0.5")
        if metrics["positives"] and negatives:
            axes.plot(_from_zero((above - caught) / negatives), _from_zero(caught / caught[-1]), **_line("model"))
        else:
            note(axes, "undefined: rows of both classes are required")
        axes.set(
            xlabel="false positive rate: share of negative rows flagged",
            ylabel="recall: share of positive rows flagged",
        )
        _square(axes)
        return as_png(axes)


def precision_recall(labels: ArrayLike, scores: ArrayLike, threshold: float) -> bytes:
    """Draw the precision-recall curve, with the threshold marked.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).
    threshold
        A row is flagged when its score is at or above this value.

    Raises
    ------
    TrainingError
        Shapes differ, or a label or score is out of range.
    """
    import numpy as np

    tally = Ranking(labels, scores).tally()
    metrics = tally.metrics(threshold)
    above, caught = tally.above()
    number = f"average precision {rounded(metrics['average_precision'])}"
    at_threshold = f"recall {rounded(metrics['recall'])}, precision {rounded(metrics['precision'])} at the threshold"
    with new_plot("Precision and recall", number, f"{_rows(metrics)}; {at_threshold}") as axes:
        top = 1.0
        if metrics["positives"]:
            recall, precision = caught / caught[-1], caught / above
            top = _top_of(precision[recall >= _STEADY_RECALL], metrics)
            # Draw the curve in steps, because average precision is a sum over steps.
            axes.step(np.append(0.0, recall), np.append(precision[0], precision), where="pre", **_line("model"))
            base_rate = metrics["base_rate"]
            axes.axhline(base_rate, color=OTHER, linestyle="--", label=f"base rate {rounded(base_rate)}")
            _mark_threshold(axes, metrics, threshold)
        else:
            note(axes, "undefined: no positive rows")
        axes.set(xlabel="recall: share of positive rows flagged", ylabel="precision: share of flagged rows positive")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02 * top, 1.03 * top))
        return as_png(axes)


def confusion(labels: ArrayLike, scores: ArrayLike, threshold: float) -> bytes:
    """Draw the confusion matrix, with counts and shares per class.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).
    threshold
        A row is flagged when its score is at or above this value.

    Raises
    ------
    TrainingError
        Shapes differ, or a label or score is out of range.
    """
    import numpy as np

    tally = Ranking(labels, scores).tally()
    metrics = tally.metrics(threshold)
    counts = _confusion(tally, threshold)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    number = f"recall {rounded(metrics['recall'])}, precision {rounded(metrics['precision'])}"
    with new_plot("Confusion matrix", number, f"{_rows(metrics)}, threshold {rounded(threshold)}") as axes:
        axes.imshow(shares, cmap=_colour_map(), vmin=0, vmax=1, aspect="auto")
        for row, column in np.ndindex(2, 2):
            share = f"{shares[row, column]:.1%} of the class" if totals[row, 0] else "no rows"
            axes.text(
                column,
                row,
                f"{counts[row, column]:,.0f}\n{share}",
                ha="center",
                va="center",
                fontsize=14,
                color="white" if shares[row, column] > _DARK else INK,
            )
        axes.set_xticks([0, 1], ["not flagged", "flagged"])
        axes.set_yticks([0, 1], [f"negative\n({totals[0, 0]:,.0f})", f"positive\n({totals[1, 0]:,.0f})"])
        axes.set(xlabel="prediction", ylabel="label (number of rows)")
        axes.grid(visible=False)
        return as_png(axes)


def score_distribution(labels: ArrayLike, scores: ArrayLike, threshold: float) -> bytes:
    """Draw the histogram of scores per class, with the threshold marked.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).
    threshold
        A row is flagged when its score is at or above this value.

    Raises
    ------
    TrainingError
        Shapes differ, or a label or score is out of range.
    """
    import numpy as np

    tally = Ranking(labels, scores).tally()
    metrics = tally.metrics(threshold)
    edges = _score_edges(tally)
    with new_plot("Score distribution", f"share flagged {rounded(metrics['flagged'])}", _rows(metrics)) as axes:
        shown = []
        for name, rows, colour in (
            ("negative rows", tally.rows - tally.positives, OTHER),
            ("positive rows", tally.positives, MODEL),
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
            note(axes, "undefined: no rows")
        axes.set(xlabel="score", ylabel="share of rows in the class (%)")
        return as_png(axes)


def costs(labels: ArrayLike, scores: ArrayLike, threshold: float, assumed: Costs) -> bytes:
    """Draw the cost of missed positive rows and false alarms at each threshold, with the chosen threshold marked.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    scores
        Between 0 and 1, shape (n,).
    threshold
        A row is flagged when its score is at or above this value.
    assumed
        The assumed cost of a missed positive row.

    Raises
    ------
    TrainingError
        Shapes differ, or a label or score is out of range.
    """
    import numpy as np

    thresholds, curve = assumed.curve(labels, scores)
    found = assumed.found(labels, scores, threshold)
    number = f"{rounded(found['per_100_rows'])} false alarms per 100 rows"
    below = f"a missed positive row costs {assumed.missed:g} false alarms (assumption)"
    metrics = Ranking(labels, scores).tally().metrics(threshold)
    with new_plot("Cost of errors", number, f"{_rows(metrics)}; {below}") as axes:
        if metrics["rows"]:
            # Extend the curve to both ends of the axis: above 1, no row is flagged; at 0, all rows are.
            places = np.concatenate([[1.0], thresholds[1:], [0.0]])
            axes.step(places, np.append(curve, curve[-1]), where="pre", **_line("model"))
            lowest = f"lowest: {rounded(found['lowest_per_100_rows'])}"
            axes.axhline(found["lowest_per_100_rows"], color=OTHER, linestyle="--", label=lowest)
            axes.axvline(min(threshold, 1.0), color=THRESHOLD, label=f"threshold {rounded(threshold)}")
        else:
            note(axes, "undefined: no rows")
        axes.set(xlabel="threshold", ylabel="cost per 100 rows, in false alarms", xlim=(-0.02, 1.02))
        # Use a logarithmic axis, because the cost of flagging no row is many times the lowest cost.
        axes.set_yscale("symlog", linthresh=max(float(curve.max()) / _LOG_FROM, 1.0))
        axes.set_ylim(bottom=0)
        return as_png(axes)


def _line(label: str) -> dict[str, Any]:
    return {"color": MODEL, "linewidth": 2, "label": label}


def _rows(metrics: dict[str, float]) -> str:
    return f"n = {metrics['rows']:,.0f} rows, {metrics['positives']:,.0f} positive"


def _from_zero(values: Floats) -> Floats:
    import numpy as np

    return np.append(0.0, values)


def _square(axes: Axes, end: float = 1.0) -> None:
    axes.set(xlim=(-0.02 * end, 1.02 * end), ylim=(-0.02 * end, 1.03 * end))


def _top_of(precision: Floats, metrics: dict[str, float]) -> float:
    # `precision` excludes the first few rows, because the curve jumps to 0 or 1 there. They must not set the scale.
    at_threshold = metrics["precision"] if metrics["flagged"] else 0.0
    top = 1.1 * max(float(precision.max()), 2 * metrics["base_rate"], at_threshold)
    return top if top < _HALF else 1.0


def _confusion(tally: Tally, threshold: float) -> Floats:
    import numpy as np

    flagged = tally.scores >= threshold
    classes = (tally.rows - tally.positives, tally.positives)
    return np.array([[rows[~flagged].sum(), rows[flagged].sum()] for rows in classes])


def _mark_threshold(axes: Axes, metrics: dict[str, float], threshold: float) -> None:
    if metrics["flagged"]:
        look: dict[str, Any] = {"color": THRESHOLD, "markersize": 8, "zorder": 5, "clip_on": False}
        axes.plot(metrics["recall"], metrics["precision"], "o", label=f"threshold {rounded(threshold)}", **look)


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
        color=THRESHOLD,
        linewidth=1.6,
        label=f"threshold {rounded(threshold)}{beyond}",
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

    return LinearSegmentedColormap.from_list("shares", ["white", MODEL])
