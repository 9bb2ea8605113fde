"""Plots of issued forecasts and their errors, as PNG bytes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from platform_assets.domains.esios_demand.forecast_errors import summary
from platform_assets.evaluation.plot_style import INK, MODEL, OTHER, THRESHOLD, as_png, new_plot, rounded

if TYPE_CHECKING:
    from platform_assets.base.frames import Frame

WEEK = timedelta(days=7)


def newest_week(errors: Frame) -> bytes:
    """Draw forecast, interval and demand of the newest seven days."""
    rows = errors[errors["local_day"] > errors["local_day"].max() - WEEK].sort_values("datetime_utc")
    found = summary(rows)
    below = f"MAPE {found['mape']:.2%}, {found['coverage']:.0%} inside the interval, {len(rows):,} hours, UTC"
    with new_plot("newest week", f"{rows['local_day'].max():%Y-%m-%d}", below) as axes:
        at = rows["datetime_utc"].to_numpy()
        axes.fill_between(at, rows["lower_mw"], rows["upper_mw"], color=MODEL, alpha=0.2, label="90 % interval")
        axes.plot(at, rows["forecast_mw"], color=MODEL, label="forecast")
        axes.plot(at, rows["demand_mw"], color=INK, linewidth=1, label="demand")
        axes.set_ylabel("MW")
        axes.tick_params(axis="x", rotation=30)
        return as_png(axes)


def errors_by_horizon(errors: Frame) -> bytes:
    """Draw the mean absolute error by horizon, of the forecasts and of the two naive forecasts."""
    absolute = {
        "forecast": errors["error_mw"].abs(),
        "same hour a week before": (errors["naive_d7_mw"] - errors["demand_mw"]).abs(),
        "newest day, weekday corrected": (errors["naive_d1_mw"] - errors["demand_mw"]).abs(),
    }
    below = f"{errors['local_day'].nunique():,} days, {len(errors):,} hours"
    with new_plot("mean absolute error", f"{rounded(absolute['forecast'].mean())} MW", below) as axes:
        for (name, values), colour in zip(absolute.items(), (MODEL, OTHER, THRESHOLD), strict=True):
            line = values.groupby(errors["horizon_hours"]).mean()
            axes.plot(line.index.to_numpy(), line.to_numpy(), color=colour, label=name)
        axes.set_xlabel("hours after the cut-off")
        axes.set_ylabel("MW")
        axes.set_ylim(bottom=0)
        return as_png(axes, columns=2)
