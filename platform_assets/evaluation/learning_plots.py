"""Plots of learning curves and of fit times, as PNG bytes.

`training/learning_curves.py` computes the numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.evaluation.plot_style import MODEL, OTHER, THRESHOLD, as_png, new_plot, note, rounded, short_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    Points = Sequence[Mapping[str, Any]]

_COLOURS = (MODEL, THRESHOLD, "#2b8a57", "#8a4fa3", "#b8923a", OTHER)
_MARKERS = "osD^vX"
_FEWEST = 2


def learning_curve(points: Points, metric: str) -> bytes:
    """Draw the ranking metric of each candidate against the number of training examples.

    Parameters
    ----------
    points
        `CurvePoint`s as mappings, in ascending order of `examples` for each candidate.
    metric
        Name of the metric.
    """
    curves = _by_candidate(points)
    best = max(points, key=lambda point: (point["examples"], point["mean"]), default=None)
    number = f"{metric} {rounded(best['mean'])} with {best['examples']:,} examples" if best else "undefined"
    below = "mean and standard deviation over the folds, with the best hyperparameters of each candidate"
    with new_plot("Learning curve", number, below) as axes:
        for name, curve, style in _styled(curves):
            means, deviations = ([point[key] for point in curve] for key in ("mean", "deviation"))
            axes.errorbar(_sizes(curve), means, deviations, capsize=2, label=short_name(name), **style)
        _label_sizes(axes, curves)
        axes.set_ylabel(metric)
        return as_png(axes)


def fit_times(points: Points) -> bytes:
    """Draw the CPU time of one fit per candidate against the number of training examples, with the fitted exponent.

    Parameters
    ----------
    points
        `CurvePoint`s as mappings, in ascending order of `examples` for each candidate.
    """
    curves = _by_candidate(points)
    # Fit the power law to the larger half of the sizes, because constant costs dominate the times for few examples.
    large = {name: curve[len(curve) // 2 :] if len(curve) > _FEWEST else curve for name, curve in curves.items()}
    exponents = {name: exponent(_sizes(curve), _seconds(curve)) for name, curve in large.items()}
    steepest = max(exponents, key=lambda name: exponents[name], default=None)
    number = f"grows fastest for {short_name(steepest)}" if steepest else "undefined"
    below = "fastest fold; in n^k, k is the slope on the log-log axes over the larger half of the sizes"
    with new_plot("Training time", number, below) as axes:
        for name, curve, style in _styled(curves):
            label = f"{short_name(name)}: n^{exponents[name]:.1f}"
            axes.plot(_sizes(curve), _seconds(curve), label=label, **style)
        _label_sizes(axes, curves)
        if curves:
            axes.set_yscale("log")
        axes.set_ylabel("CPU seconds")
        return as_png(axes, columns=2)


def exponent(sizes: ArrayLike, seconds: ArrayLike) -> float:
    """Return the exponent k of the power law c n^k that fits best (least squares on logarithms).

    Parameters
    ----------
    sizes
        Numbers of examples, above 0, shape (m,).
    seconds
        Times, above 0, shape (m,).

    Returns
    -------
    float
        The exponent; NaN for fewer than two points.
    """
    import numpy as np

    if len(np.atleast_1d(sizes)) < _FEWEST:
        return float("nan")
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def _by_candidate(points: Points) -> dict[str, list[Mapping[str, Any]]]:
    curves: dict[str, list[Mapping[str, Any]]] = {}
    for point in points:
        curves.setdefault(point["candidate"], []).append(point)
    return curves


def _styled(curves: Mapping[str, list[Mapping[str, Any]]]) -> Any:
    for place, (name, curve) in enumerate(curves.items()):
        colour, marker = _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]
        yield name, curve, {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.6}


def _sizes(curve: Points) -> list[int]:
    return [point["examples"] for point in curve]


def _seconds(curve: Points) -> list[float]:
    return [point["fit_seconds"] for point in curve]


def _label_sizes(axes: Any, curves: Mapping[str, list[Mapping[str, Any]]]) -> None:
    if not curves:
        note(axes, "undefined: no fold has enough training examples")
        return
    sizes = sorted({size for curve in curves.values() for size in _sizes(curve)})
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("number of training examples")
