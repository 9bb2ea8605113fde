"""Plots of a regression model's performance, as PNG bytes, for Dagster metadata, MLflow and the approval page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.evaluation.intervals import wilson
from platform_assets.evaluation.judged import subgroup_rows
from platform_assets.evaluation.plot_style import (
    INK,
    MODEL,
    OTHER,
    THRESHOLD,
    as_png,
    new_plot,
    note,
    rounded,
    short_name,
)
from platform_assets.evaluation.regression import errors_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from platform_assets.evaluation.conformal import Intervals
    from platform_assets.evaluation.judged import Judged

    Floats = NDArray[np.float64]

WEEK = "7D"
_MOST_POINTS = 3_000
_MOST_GROUPS = 40


def draw(judged: Judged, unit: str, intervals: Intervals, time: str | None) -> dict[str, bytes]:
    """Draw all plots, and return their PNG bytes by file name.

    Parameters
    ----------
    judged
        The rows, with labels and predictions.
    unit
        Unit of the label.
    intervals
        Declaration of the prediction intervals. If `by` is set, errors and coverage are drawn for each of its values.
    time
        Column of a row's time; None to omit plots over time.
    """
    plots = {}
    if time is not None and time in judged.examples.columns:
        plots["last_week.png"] = last_week(judged, unit, time)
        plots["residuals.png"] = residuals(judged, unit, time)
    plots["values.png"] = values(judged, unit)
    if intervals.by is not None and intervals.by in judged.examples.columns:
        plots["error_by_group.png"] = error_by_group(judged, unit, intervals.by)
        if judged.found.ndim > 1:
            plots["coverage_by_group.png"] = coverage_by_group(judged, intervals)
    return plots


def last_week(judged: Judged, unit: str, time: str) -> bytes:
    """Draw predictions, prediction intervals and true values of the last seven days."""
    import pandas as pd

    times = _times(judged, time)
    order = times.argsort(kind="stable")
    recent = order[(times[order] > times[order[-1]] - pd.Timedelta(WEEK))] if len(order) else order
    shown, at = judged.only(recent), times[recent]
    metrics = errors_of(shown, ()).metrics()
    number = f"MAE {_number(metrics['mae'])} {unit}"
    with new_plot("Last week", number, _rows(shown, f"{_span(at)}, UTC")) as axes:
        if shown.found.ndim > 1:
            label = f"interval, {metrics['interval_coverage']:.0%} of labels inside" if len(at) else "interval"
            low, high = shown.found[:, 1], shown.found[:, 2]
            axes.fill_between(at, low, high, color=MODEL, alpha=0.2, linewidth=0, label=label)
        axes.plot(at, shown.labels, color=INK, linewidth=1.4, label="truth")
        axes.plot(at, shown.scores, color=MODEL, linewidth=1.6, label="prediction")
        _label_times(axes)
        axes.set_ylabel(unit)
        return as_png(axes)


def residuals(judged: Judged, unit: str, time: str) -> bytes:
    """Draw the errors of all rows over time, with the mean error per day."""
    import pandas as pd

    times = _times(judged, time)
    errors = judged.scores - judged.labels
    number = f"bias {_number(float(errors.mean()) if len(errors) else float('nan'), '+')} {unit}"
    with new_plot("Errors over time", number, _rows(judged, f"{_span(times)}, UTC")) as axes:
        places = _spread(len(errors))
        axes.plot(times[places], errors[places], ".", color=OTHER, markersize=2.5, label="one row")
        by_day = pd.Series(errors, index=times).groupby(times.floor("D")).mean()
        axes.plot(by_day.index, by_day.to_numpy(), color=MODEL, linewidth=1.6, label="mean per day")
        axes.axhline(0, color=INK, linewidth=0.8)
        _label_times(axes)
        axes.set_ylabel(f"prediction minus truth ({unit})")
        return as_png(axes)


def values(judged: Judged, unit: str) -> bytes:
    """Draw predicted against true values."""
    metrics = errors_of(judged, ()).metrics()
    number = f"R² {rounded(metrics['r2'])}"
    with new_plot("Predicted and true values", number, _rows(judged)) as axes:
        if len(judged.labels):
            places = _spread(len(judged.labels))
            ends = [min(judged.labels.min(), judged.scores.min()), max(judged.labels.max(), judged.scores.max())]
            axes.plot(ends, ends, color=OTHER, linestyle="--", label="no error")
            look: dict[str, Any] = {"color": MODEL, "markersize": 3, "alpha": 0.4}
            axes.plot(judged.labels[places], judged.scores[places], ".", label="one row", **look)
        else:
            note(axes, "undefined: no rows")
        axes.set(xlabel=f"truth ({unit})", ylabel=f"prediction ({unit})")
        return as_png(axes)


def error_by_group(judged: Judged, unit: str, column: str) -> bytes:
    """Draw the mean absolute error and the bias for each value of a column."""
    found = _by_group(judged, column, lambda part: errors_of(part, ()).metrics())
    worst = max(found, key=lambda name: found[name]["mae"], default=None)
    number = f"highest for {short_name(worst)} ({_number(found[worst]['mae'])} {unit})" if worst else "undefined"
    with new_plot(f"MAE by {column}", number, _rows(judged, _cut(judged, column, found))) as axes:
        places = range(len(found))
        axes.bar(places, [one["mae"] for one in found.values()], color=MODEL, width=0.7, label="MAE")
        look: dict[str, Any] = {"color": THRESHOLD, "markersize": 5, "label": "bias, prediction minus truth"}
        axes.plot(places, [one["bias"] for one in found.values()], "o", **look)
        axes.axhline(0, color=INK, linewidth=0.8)
        _label_groups(axes, list(found), column)
        axes.set_ylabel(unit)
        return as_png(axes)


def coverage_by_group(judged: Judged, intervals: Intervals) -> bytes:
    """Draw the share of labels inside the prediction interval for each value of the column `by`.

    Error bars are 95 % Wilson intervals, which treat rows as independent.
    """
    import numpy as np

    column = str(intervals.by)
    found = _by_group(judged, column, lambda part: errors_of(part, ()).metrics())
    of_all = errors_of(judged, ()).metrics()["interval_coverage"]
    number = f"{of_all:.1%} of rows, {intervals.level:.0%} declared"
    with new_plot(f"Coverage by {column}", number, _rows(judged, _cut(judged, column, found))) as axes:
        places = range(len(found))
        axes.axhline(100 * intervals.level, color=OTHER, linestyle="--", label=f"declared {intervals.level:.0%}")
        shares, rows = (np.array([one[name] for one in found.values()]) for name in ("interval_coverage", "rows"))
        low, high = wilson(shares, rows)
        bars = 100 * np.array([np.maximum(shares - low, 0), np.maximum(high - shares, 0)])
        look: dict[str, Any] = {"color": MODEL, "markersize": 6, "capsize": 2, "label": "inside, with 95 % intervals"}
        axes.errorbar(places, 100 * shares, bars, fmt="o", **look)
        _label_groups(axes, list(found), column)
        axes.set(ylabel="rows inside their interval (%)", ylim=(min([50.0, *(100 * low)]) - 3, 103))
        return as_png(axes)


def _by_group(
    judged: Judged, column: str, measure: Callable[[Judged], dict[str, float]]
) -> dict[str, dict[str, float]]:
    """Return the metrics for each value of a column, or only for the most frequent values, sorted by value."""
    rows = subgroup_rows(judged.examples[column])
    largest = sorted(rows, key=lambda name: -len(rows[name]))[:_MOST_GROUPS]
    return {name: measure(judged.only(rows[name])) for name in sorted(largest, key=_natural)}


def _natural(name: str) -> tuple[int, float, str]:
    try:
        return 0, float(name), ""
    except ValueError:
        return 1, 0.0, name


def _cut(judged: Judged, column: str, found: dict[str, dict[str, float]]) -> str:
    count = judged.examples[column].nunique(dropna=False)
    return f"the {len(found)} most frequent of {count} values" if count > len(found) else ""


def _times(judged: Judged, time: str) -> Any:
    """Return the times of the rows as an index without time zone, in UTC."""
    import pandas as pd

    times = pd.DatetimeIndex(pd.to_datetime(judged.examples[time]))
    return times if times.tz is None else times.tz_convert("UTC").tz_localize(None)


def _span(times: Any) -> str:
    return f"{times.min():%Y-%m-%d} to {times.max():%Y-%m-%d}" if len(times) else "no rows"


def _rows(judged: Judged, told: str = "") -> str:
    return f"n = {len(judged.labels):,} rows{told and f', {told}'}"


def _number(value: float, sign: str = "") -> str:
    """Format a number with about three digits and no exponent."""
    return f"{value:{sign},.0f}" if abs(value) >= 100 else f"{value:{sign}.3g}"  # noqa: PLR2004 - three digits


def _spread(rows: int) -> NDArray[np.int64]:
    import numpy as np

    return np.linspace(0, max(rows - 1, 0), min(rows, _MOST_POINTS)).astype(np.int64)


def _label_times(axes: Axes) -> None:
    from matplotlib import dates

    untyped: Any = dates
    locator = untyped.AutoDateLocator(minticks=3, maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(untyped.ConciseDateFormatter(locator))


def _label_groups(axes: Axes, names: list[str], column: str) -> None:
    if not names:
        note(axes, "undefined: no rows")
    step = max(1, len(names) // 24 + (len(names) > 24))  # noqa: PLR2004 - as many labels as fit
    places = list(range(0, len(names), step))
    axes.set_xticks(places, [short_name(names[place]) for place in places])
    axes.set_xlabel(column)
