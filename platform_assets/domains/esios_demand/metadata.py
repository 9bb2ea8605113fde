"""Dagster check results and metadata of the power demand."""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from platform_assets.base.frames import Frame
from platform_assets.domains.esios_demand import forecast_errors, quality
from platform_assets.domains.esios_demand.issuing import Issue
from platform_assets.domains.esios_demand.schemas import DEMAND_FORECAST, FORECAST_ERRORS, MW
from platform_assets.evaluation.conformal import Intervals
from platform_assets.evaluation.regression_plots import draw
from platform_assets.lake.sql_loader import Loaded
from platform_assets.serving.assets import WAITS
from platform_assets.training.metadata import image, table

MOST_NAMED = 20
"""Maximum number of hours that a check lists."""
ASSET = DEMAND_FORECAST.name.split("/")
_PERIOD = (
    f"Computed over the last {forecast_errors.RECENT.days} days. "
    f"Passes if errors are known for fewer than {forecast_errors.FEWEST_DAYS} days."
)
EVERY_HOUR = dg.AssetCheckSpec(
    "every_hour_is_present",
    asset=ASSET,
    description="Each month has all hours of its local days. A day with a clock change has 23 or 25 hours. In the "
    "current month, the hours until the end of yesterday are required. The next run requests missing hours again.",
)
NO_JUMP = dg.AssetCheckSpec(
    "no_hour_jumps",
    asset=ASSET,
    description=f"No hour differs from the hour before by more than {quality.LARGEST_JUMP_MW:,} MW.",
)
NO_FLAT_LINE = dg.AssetCheckSpec(
    "no_line_is_flat",
    asset=ASSET,
    description=f"No {quality.FLAT_HOURS} consecutive hours have the same value.",
)
HOUR_CHECKS = [EVERY_HOUR, NO_JUMP, NO_FLAT_LINE]
ERROR_CHECKS = {
    name: dg.AssetCheckSpec(name, asset=FORECAST_ERRORS.name.split("/"), description=f"{description} {_PERIOD}")
    for name, description in forecast_errors.CHECKS.items()
}


def results(found: quality.Findings) -> Iterator[dg.AssetCheckResult]:
    """Yield the result of each check. Failures are only warnings, because the API's rows are published anyway."""
    missing = {month: hours for month, hours in found.missing.items() if hours}
    yield _result(
        EVERY_HOUR,
        [
            f"{month.first:%Y-%m}: {len(hours)} of {found.expected[month]} hours missing: {_named(hours)}"
            for month, hours in missing.items()
        ],
        months={
            month.key: {"expected_hours": expected, "missing_hours": len(found.missing[month])}
            for month, expected in found.expected.items()
        },
    )
    jumps = [f"{jump:+,.0f} MW at {_text(at)}" for at, jump in found.jumps]
    yield _result(NO_JUMP, [f"jumps ({len(jumps)}): {_listed(jumps)}"] if jumps else [])
    flat = [f"{hours} hours from {_text(at)}" for at, hours in found.flat]
    yield _result(NO_FLAT_LINE, [f"flat lines ({len(flat)}): {_listed(flat)}"] if flat else [])


def of_load(loaded: Loaded, place: str) -> dict[str, Any]:
    """Return the metadata of a load into an SQL table."""
    return {
        "dagster/row_count": loaded.rows,
        "rows_inserted": loaded.inserted,
        "rows_updated": loaded.updated,
        "rows_unchanged": loaded.unchanged,
        "rows_per_second": round(loaded.rate),
        "target": place,
    }


def of_issue(issue: Issue) -> dict[str, Any]:
    """Return the metadata of an attempt to issue a forecast."""
    facts: dict[str, Any] = {"local_day": str(issue.day), "issued_hours": issue.hours}
    if issue.live is None:
        return facts | ({WAITS: issue.reason} if issue.reason else {})
    facts |= {"model_version": issue.live.version, "approval_id": issue.live.approval_id}
    return facts | {"interval_factor": issue.factor, "incomplete_features": list(issue.incomplete)}


def of_errors(errors: Frame) -> dict[str, Any]:
    """Return the metrics of the recent forecasts, their errors broken down by hour and other columns, and the plots."""
    newest = forecast_errors.recent(errors)
    if newest.empty:
        return {}
    found = forecast_errors.summary(newest)
    plots = draw(forecast_errors.judged(newest), MW, Intervals(by="horizon_hours"), "datetime_utc")
    return {
        # Use plain numbers, because Dagster plots them over time.
        **{f"recent {name}": value for name, value in found.items() if not math.isnan(value)},
        **{
            f"recent errors by {column}": dg.MetadataValue.md(_breakdown(forecast_errors.by(newest, column), column))
            for column in forecast_errors.BREAKDOWNS
        },
        **{f"plot_{name.removesuffix('.png')}": dg.MetadataValue.md(image(name, png)) for name, png in plots.items()},
    }


def error_checks(errors: Frame) -> Iterator[dg.AssetCheckResult]:
    """Yield the result of each check of the recent forecasts. Failures are warnings."""
    for name, fault in forecast_errors.faults(errors).items():
        yield _result(ERROR_CHECKS[name], [fault] if fault else [])


def _breakdown(found: Mapping[str, Mapping[str, float]], column: str) -> str:
    names = list(next(iter(found.values())))
    cells = [[value, *(f"{metrics[name]:,.4g}" for name in names)] for value, metrics in found.items()]
    return table([column, *names], cells)


def _result(spec: dg.AssetCheckSpec, problems: Sequence[str], **facts: Any) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=not problems,
        asset_key=spec.asset_key,
        check_name=spec.name,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(problems) or None,
        metadata={name: dg.MetadataValue.json(value) for name, value in facts.items()},
    )


def _named(hours: Sequence[datetime]) -> str:
    return f"{_listed([_text(at) for at in hours])} UTC"


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - MOST_NAMED} more" if len(texts) > MOST_NAMED else ""
    return ", ".join(texts[:MOST_NAMED]) + more


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"
