"""Dagster metadata of measured series: the newest values, which Dagster plots over time, and plots by day."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.evaluation.plot_style import MODEL, as_png, new_plot
from platform_assets.training.metadata import image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from platform_assets.base.frames import Frame
    from platform_assets.monitoring.daily.series import Check, Series

_MOST_VALUES = 20


def of_series(days: Frame, check: Check, known: Mapping[str, Series]) -> dict[str, Any]:
    """Return the newest values of a check's series, and a plot of each series that is not measured by column.

    Parameters
    ----------
    days
        Daily measurements of one model or table, one row per day, series and column.
    check
        The check.
    known
        The series by name.
    """
    names = [name for name, one in known.items() if one.check == check.name]
    found = days[days["series"].isin(names) & days["value"].notna()]
    newest = found.sort_values("day").groupby(["series", "column"]).tail(1)
    open_first = newest.sort_values("is_open", ascending=False, kind="stable").head(_MOST_VALUES)
    metadata: dict[str, Any] = {
        f"{row['series']} {row['column']}".strip(): float(row["value"]) for row in open_first.to_dict("records")
    }
    for name in names:
        one = found[(found["series"] == name) & (found["column"] == "")]
        if len(one) > 1:
            metadata[f"plot of {name}"] = dg.MetadataValue.md(image(f"{name}.png", over_time(one, known[name])))
    return metadata


def over_time(days: Frame, series: Series) -> bytes:
    """Draw the values of a series over time, with their intervals, as PNG."""
    last = days["value"].iloc[-1]
    below = f"{len(days):,} days to {days['day'].max()}{', ' + series.unit if series.unit else ''}"
    with new_plot(series.title, f"{last:,.4g}" if math.isfinite(last) else "unknown", below) as axes:
        axes.plot(days["day"], days["value"], color=MODEL, marker=".")
        axes.fill_between(days["day"], days["low"], days["high"], color=MODEL, alpha=0.2, linewidth=0)
        axes.tick_params("x", rotation=30)
        return as_png(axes)
