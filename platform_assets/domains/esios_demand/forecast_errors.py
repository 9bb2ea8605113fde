"""Errors of the issued forecasts, once the demand of their hours is known."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from platform_assets.domains.esios_demand.features import CUT_OFF
from platform_assets.domains.esios_demand.schemas import FORECAST_ERRORS

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from platform_assets.base.frames import Frame
    from platform_assets.evaluation.judged import Judged
    from platform_assets.monitoring.labels import Label

HOURS = 24
RECENT = timedelta(days=28)
"""Period of the summary and of the checks."""
FEWEST_DAYS = 7
"""Minimum number of days with errors. With fewer days, the checks pass."""
LARGEST_BIAS = 0.02
"""Largest bias, as a share of the mean demand."""
LOWEST_COVERAGE, HIGHEST_COVERAGE = 0.8, 0.97
"""Smallest and largest coverage of the intervals, over the period of the checks. The aim is 0.9."""
NAIVE = ("naive_d7_mw", "naive_d1_mw")
COPIED = ("datetime_utc", "local_hour", "is_holiday", "demand_mw", "updated_at")
"""Columns of `demand_features` that the errors need."""
BREAKDOWNS = ("horizon_hours", "local_hour", "is_holiday", "model_version")
"""Columns by which the summary of the errors is broken down."""
BETTER_THAN_NAIVE, BIAS_IS_SMALL, WITHIN_INTERVALS = (
    "forecasts_are_better_than_naive",
    "bias_is_small",
    "demand_is_within_intervals",
)
CHECKS = {
    BETTER_THAN_NAIVE: "The mean absolute error is smaller than that of the naive forecast (same hour a week before).",
    BIAS_IS_SMALL: f"The bias is at most {LARGEST_BIAS:.0%} of the mean demand.",
    WITHIN_INTERVALS: f"In {LOWEST_COVERAGE:.0%} to {HIGHEST_COVERAGE:.0%} of hours, the demand is in the interval.",
}
"""Checks of the recent forecasts, and their descriptions."""


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

    # Count the hours of the day, because the local hour repeats or skips a number when the clock changes.
    first = forecasts.datetime_utc.min().over(ibis.window(group_by=forecasts.local_day))
    place = (forecasts.datetime_utc.epoch_seconds() - first.epoch_seconds()) // 3_600
    issued = forecasts.mutate(horizon_hours=place + (HOURS - CUT_OFF)).rename(forecast_mw="demand_mw")
    known = demand_features.filter(demand_features.demand_mw.notnull())
    both = issued.inner_join(known.select(*COPIED), "datetime_utc")
    both = both.mutate(
        error_mw=both.forecast_mw - both.demand_mw,
        known_at=ibis.greatest(both.updated_at, both.datetime_utc + ibis.interval(hours=1)),
        is_covered=both.demand_mw.between(both.lower_mw, both.upper_mw),
    )
    return both.select(**{column.name: both[column.name].cast(column.type) for column in FORECAST_ERRORS.columns})


def recent(errors: Frame) -> Frame:
    """Return the errors of the newest `RECENT` days."""
    newest: Frame = errors[errors["local_day"] > errors["local_day"].max() - RECENT]
    return newest


def judged(errors: Frame) -> Judged:
    """Return the forecasts and the demand in the form that evaluations expect.

    Parameters
    ----------
    errors
        Rows of `schemas.FORECAST_ERRORS`.
    """
    from platform_assets.evaluation.judged import Judged

    found = errors[["forecast_mw", "lower_mw", "upper_mw"]].to_numpy(dtype="float64")
    return Judged(errors, "local_day", errors["demand_mw"].to_numpy(dtype="float64"), found)


def labels_of(errors: Frame) -> list[Label]:
    """Return the demand as labels of the forecasts.

    Parameters
    ----------
    errors
        Rows of `schemas.FORECAST_ERRORS`.
    """
    from platform_assets.monitoring.labels import Label

    columns = (
        errors["demand_mw"].tolist(),
        errors["known_at"].dt.tz_localize(UTC).dt.to_pydatetime(),
        errors["local_day"].dt.strftime("%Y-%m-%d"),
        errors["datetime_utc"].dt.tz_localize(UTC).dt.to_pydatetime(),
    )
    return [
        Label(label=demand, observed_at=known_at, subject=day, at=at)
        for demand, known_at, day, at in zip(*columns, strict=True)
    ]


def summary(errors: Frame) -> dict[str, float]:
    """Return the metrics of the given forecasts by name. The names are those of `evaluation/regression_metrics.py`.

    Undefined metrics are NaN.

    Parameters
    ----------
    errors
        Rows of `schemas.FORECAST_ERRORS`.
    """
    from platform_assets.evaluation.regression import errors_of

    return errors_of(judged(errors), NAIVE).metrics()


def by(errors: Frame, column: str) -> dict[str, dict[str, float]]:
    """Return the summary of the errors for each value of a column, in the order of the values."""
    return {str(value): summary(part) for value, part in errors.groupby(column)}


def faults(errors: Frame) -> dict[str, str]:
    """Check the recent forecasts. Return, for each check by name, why it failed; an empty string if it passed.

    Parameters
    ----------
    errors
        Rows of `schemas.FORECAST_ERRORS`.
    """
    newest = recent(errors)
    if newest["local_day"].nunique() < FEWEST_DAYS:
        return dict.fromkeys(CHECKS, "")
    found = summary(newest)
    skill, coverage = found[f"skill_over_{NAIVE[0]}"], found["interval_coverage"]
    bias = found["bias"] / newest["demand_mw"].mean()
    return {
        BETTER_THAN_NAIVE: f"the skill over the naive forecast (same hour a week before) is {skill:.2f}"
        if skill <= 0
        else "",
        BIAS_IS_SMALL: f"the bias is {bias:+.1%} of the mean demand" if abs(bias) > LARGEST_BIAS else "",
        WITHIN_INTERVALS: ""
        if LOWEST_COVERAGE <= coverage <= HIGHEST_COVERAGE
        else f"the demand is within the interval in {coverage:.1%} of the hours",
    }
