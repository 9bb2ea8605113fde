"""Errors of the issued forecasts, once the demand of their hours is known."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from platform_assets.domains.esios_demand.features import CUT_OFF
from platform_assets.domains.esios_demand.schemas import FORECAST_ERRORS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import ibis.expr.types as ir

    from platform_assets.base.frames import Frame

HOURS = 24
RECENT = timedelta(days=28)
"""Period of the summary and of the checks."""
FEWEST_DAYS = 7
"""Fewest days with errors for the checks to judge them."""
LARGEST_BIAS = 0.02
"""Largest bias, as a part of the mean demand."""
BEAT_NAIVE, SMALL_BIAS, COVERED = "forecasts_beat_naive", "bias_is_small", "intervals_cover_the_demand"
CHECKS = {
    BEAT_NAIVE: "The recent forecasts have a smaller error than the same hour a week before.",
    SMALL_BIAS: f"The bias of the recent forecasts is at most {LARGEST_BIAS:.0%} of the mean demand.",
    COVERED: "Between 80 % and 97 % of the recent demand is inside the intervals; the aim is 90 %.",
}
COVERAGE_FROM, COVERAGE_TO = 0.8, 0.97
"""Coverage of the intervals over the recent days. The aim is 0.9."""


def errors_by_hour(forecasts: ir.Table, demand_features: ir.Table) -> ir.Table:
    """Compute the error of each forecast whose demand is known.

    Parameters
    ----------
    forecasts
        Rows of `schemas.FORECASTS`.
    demand_features
        Rows of `schemas.DEMAND_FEATURES`, which contain the demand.

    Returns
    -------
    ir.Table
        One row per hour, with the columns of `schemas.FORECAST_ERRORS`.
    """
    import ibis

    # The place in the day, because the local hour repeats or skips a number when the clock changes.
    first = forecasts.datetime_utc.min().over(ibis.window(group_by=forecasts.local_day))
    place = (forecasts.datetime_utc.epoch_seconds() - first.epoch_seconds()) // 3_600
    issued = forecasts.mutate(horizon_hours=place + (HOURS - CUT_OFF)).rename(forecast_mw="demand_mw")
    known = demand_features.filter(demand_features.demand_mw.notnull())
    both = issued.inner_join(known.select("datetime_utc", "local_hour", "is_holiday", "demand_mw"), "datetime_utc")
    both = both.mutate(
        error_mw=both.forecast_mw - both.demand_mw,
        is_covered=both.demand_mw.between(both.lower_mw, both.upper_mw),
    )
    return both.select(**{column.name: both[column.name].cast(column.type) for column in FORECAST_ERRORS.columns})


def recent(errors: Frame) -> Frame:
    """Return the errors of the newest `RECENT` days."""
    newest: Frame = errors[errors["local_day"] > errors["local_day"].max() - RECENT]
    return newest


def summary(errors: Frame) -> dict[str, float]:
    """Return the metrics of some forecasts; NaN where there is nothing to compute.

    Parameters
    ----------
    errors
        Rows of `schemas.FORECAST_ERRORS`.

    Returns
    -------
    dict[str, float]
        `days`, `hours`; `mape` and `wape` as parts of 1; `rmse_mw`, `bias_mw`; `bias_share`, the bias as a part of the
        mean demand; `coverage`; and `skill_over_d7` and `skill_over_d1`, 1 - MAE / MAE of the naive forecast.
    """
    error, demand = errors["error_mw"], errors["demand_mw"]
    return {
        "days": float(errors["local_day"].nunique()),
        "hours": float(len(errors)),
        "mape": (error.abs() / demand).mean(),
        "wape": error.abs().sum() / demand.sum() if len(errors) else float("nan"),
        "rmse_mw": (error**2).mean() ** 0.5,
        "bias_mw": error.mean(),
        "bias_share": error.mean() / demand.mean(),
        "coverage": errors["is_covered"].mean(),
        "skill_over_d7": _skill(errors, "naive_d7_mw"),
        "skill_over_d1": _skill(errors, "naive_d1_mw"),
    }


def _skill(errors: Frame, naive: str) -> float:
    both = errors[errors[naive].notna()]
    skill: float = 1 - both["error_mw"].abs().mean() / (both[naive] - both["demand_mw"]).abs().mean()
    return skill


def by(errors: Frame, column: str) -> Frame:
    """Return the summary of each value of a column, one row per value."""
    import pandas as pd

    rows = [{column: value, **summary(part)} for value, part in errors.groupby(column)]
    return pd.DataFrame(rows)


def faults(found: Mapping[str, float]) -> dict[str, str]:
    """Return what is wrong with the recent forecasts, by the names of the checks; empty texts if nothing is.

    Parameters
    ----------
    found
        The summary of the recent errors.
    """
    if found["days"] < FEWEST_DAYS:
        return dict.fromkeys(CHECKS, "")
    skill, bias, coverage = found["skill_over_d7"], found["bias_share"], found["coverage"]
    return {
        BEAT_NAIVE: f"skill {skill:.2f} over the same hour a week before" if skill <= 0 else "",
        SMALL_BIAS: f"bias {bias:+.1%} of the mean demand" if abs(bias) > LARGEST_BIAS else "",
        COVERED: f"coverage {coverage:.1%}" if not COVERAGE_FROM <= coverage <= COVERAGE_TO else "",
    }
