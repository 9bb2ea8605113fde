"""Traces an issued forecast to the features of each hour, and to the demand that the features were computed from.

A forecast is identified by its local day, for example `2018-01-15`, and has one value for each hour of the day.
"""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.domains.esios_demand.model import MODEL
from platform_assets.domains.esios_demand.schemas import DEMAND_FEATURES, DEMAND_FORECAST, FEATURES, FORECASTS
from platform_assets.monitoring.trace.declarations import AnswerTable, RowsBehind, TracedAnswers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    import ibis.expr.types as ir

LAGS = tuple(timedelta(days=number) for number in (1, 2, 7, 8, 9, 14))
"""Lags of the traced demand: whole days before the forecast hour. Some features equal the demand at one of these lags.

Other features also use other hours of the last weeks. The trace does not list those hours.
"""


def features_of_hour(demand_features: ir.Table, answer: Mapping[str, Any]) -> ir.Table:
    """Return the features of the hour."""
    return demand_features.filter(demand_features.datetime_utc == _hour(answer))


def demand_of_lags(demand_forecast: ir.Table, answer: Mapping[str, Any]) -> ir.Table:
    """Return the demand in the same hour of the earlier days in `LAGS`."""
    return demand_forecast.filter(demand_forecast["datetime"].isin([_hour(answer) - lag for lag in LAGS]))


def _hour(answer: Mapping[str, Any]) -> datetime:
    at: datetime = answer["datetime_utc"]
    return at.astimezone(UTC).replace(tzinfo=None)


ISSUED = TracedAnswers(
    model=MODEL.name,
    stored=AnswerTable(
        name=FORECASTS.name.replace("/", "."),
        id=("local_day",),
        order=("datetime_utc",),
        at="issued_at",
        subject="datetime_utc",
        inputs="inputs",
    ),
    behind=(RowsBehind(DEMAND_FEATURES, features_of_hour), RowsBehind(DEMAND_FORECAST, demand_of_lags)),
    features=tuple(column.name for column in FEATURES),
)
