"""The issued forecasts over HTTP."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator, Field

from platform_assets.base.errors import NotFound
from platform_assets.base.json_values import JSON
from platform_assets.domains.esios_demand.issued_forecasts import IssuedForecasts
from platform_assets.serving.prediction_fields import ApprovalId

if TYPE_CHECKING:
    from platform_assets.services import Services

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _plain_day(value: Any) -> Any:
    # pydantic alone would also accept a number, and interpret it as Unix time.
    if isinstance(value, str) and not _DAY.fullmatch(value):
        raise ValueError("Send a local date as YYYY-MM-DD, for example 2018-01-15.")
    return value


Day = Annotated[
    date,
    Query(description="Local date in Spain, as YYYY-MM-DD.", examples=["2018-01-15"]),
    BeforeValidator(_plain_day),
]


class ForecastHour(BaseModel):
    """The forecast of one hour."""

    datetime_utc: Annotated[datetime, Field(description="Start of the hour, UTC.")]
    demand_mw: Annotated[float, Field(description="Forecast of the peninsula's mean demand in this hour, in MW.")]
    lower_mw: Annotated[float, Field(description="Lower bound of the 90 % prediction interval, in MW.")]
    upper_mw: Annotated[float, Field(description="Upper bound of the 90 % prediction interval, in MW.")]


class DemandForecast(BaseModel):
    """The forecast of one local day. It is never changed."""

    date: Annotated[date, Field(description="Local date in Spain.")]
    model_version: Annotated[str, Field(description="Version of the model that made the forecast.")]
    approval_id: ApprovalId
    issued_at: Annotated[datetime, Field(description="Time at which the forecast was issued, UTC.")]
    hours: Annotated[
        list[ForecastHour],
        Field(description="The hours of the day in order: 24, or 23 or 25 on a day with a clock change."),
    ]


_EXAMPLE = {
    "date": "2018-01-15",
    "model_version": "3",
    "approval_id": 7,
    "issued_at": "2018-01-14T09:00:04Z",
    "hours": [
        {"datetime_utc": "2018-01-14T23:00:00Z", "demand_mw": 26530.2, "lower_mw": 25411.7, "upper_mw": 27648.7},
        {"datetime_utc": "2018-01-15T00:00:00Z", "demand_mw": 24804.6, "lower_mw": 23702.0, "upper_mw": 25907.2},
    ],
}


def router(services: Services) -> APIRouter:
    """Return the routes of the power demand.

    Parameters
    ----------
    services
        Services that provide the database.
    """
    routes = APIRouter(tags=["power demand"])
    issued = IssuedForecasts(lambda: services.database)

    @routes.get("/forecasts/demand", responses={200: {"content": {JSON: {"example": _EXAMPLE}}}})
    def get_demand_forecast(date: Day) -> DemandForecast:
        """Get the forecast that was issued for a day, hour by hour."""
        rows = issued.of_day(date)
        if not rows:
            newest = issued.last_day()
            until = f"the newest forecast is for {newest}" if newest else "no forecast has been issued yet"
            raise NotFound(
                f"There is no forecast for {date}; {until}. The job issue_demand_forecasts issues each forecast on the "
                "day before."
            )
        return DemandForecast(
            date=date,
            model_version=str(rows[0]["model_version"]),
            approval_id=rows[0]["approval_id"],
            issued_at=_utc(rows[0]["issued_at"]),
            hours=[
                ForecastHour(
                    datetime_utc=_utc(row["datetime_utc"]),
                    demand_mw=row["demand_mw"],
                    lower_mw=row["lower_mw"],
                    upper_mw=row["upper_mw"],
                )
                for row in rows
            ],
        )

    return routes


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC)
