"""Tables of the power demand: columns, types, units and expectations."""

from __future__ import annotations

from datetime import timedelta

from platform_assets.domains.esios_demand.months import partition_key
from platform_assets.lake.expectations import (
    has_rows,
    is_at_least,
    is_one_of,
    is_positive,
    is_present,
    is_unique,
    is_within,
    warns,
)
from platform_assets.lake.schemas import Column, TableSchema

LOWEST_MW, HIGHEST_MW = 15_000, 45_000
"""Plausible demand of the peninsula. From 2017 to 2018, the forecast was between 18,015 and 41,103 MW."""
COLUMNS = (
    Column("name", "string", "Spanish name of the series."),
    Column("id", "int64", "Indicator id of the series at ESIOS, not the id of the geography."),
    Column("datetime", "timestamp", "Start of the hour.", "UTC"),
    Column("demand_forecast", "float64", "Mean demand in the hour, from the operator's newest forecast.", "MW"),
    Column(
        "update_timestamp", "timestamp", "Update time of the series at ESIOS when this value was first read.", "UTC"
    ),
)

DEMAND_FORECAST = TableSchema(
    name="esios_demand/demand_forecast",
    columns=COLUMNS,
    key=("datetime",),
    fresh_within=timedelta(days=2),
    expectations=(
        is_unique("datetime"),
        *(is_present(column.name) for column in COLUMNS),
        warns(is_within("demand_forecast", LOWEST_MW, HIGHEST_MW)),
    ),
    partition_by=partition_key,
)

DEMAND_FORECAST_CSV = TableSchema(
    name="esios_demand/demand_forecast_csv",
    columns=COLUMNS,
    key=("datetime",),
)

DEMAND_FORECAST_ESIOS = TableSchema(
    name="esios_demand/demand_forecast_esios",
    columns=COLUMNS,
    key=("id", "datetime"),
)

MW, SHARE = "MW", "share, 0 to 1"
LEVEL = Column("mean_24h_mw", "float64", "Mean demand in the 24 hours before the cut-off.", MW)
RELATIVE = (
    Column(
        "lag_newest_mw",
        "float64",
        "Demand in the same hour one day before if that is before the cut-off, else two days before.",
        MW,
    ),
    Column("lag_2d_mw", "float64", "Demand in the same hour two days before.", MW),
    Column("lag_7d_mw", "float64", "Demand in the same hour seven days before, the seasonal naive forecast.", MW),
    Column("lag_14d_mw", "float64", "Demand in the same hour fourteen days before.", MW),
    Column(
        "lag_day_type_mw",
        "float64",
        "Demand in the same hour of the newest complete day with the same `day_type`.",
        MW,
    ),
    Column(
        "lag_day_type_mean_3_mw",
        "float64",
        "Mean demand in the same hour of the three newest complete days with the same `day_type`.",
        MW,
    ),
    Column("newest_hour_mw", "float64", "Demand in the last hour before the cut-off (09:00 to 10:00).", MW),
    Column("morning_1d_mw", "float64", "Mean demand in the hours 0 to 9 of the day before.", MW),
    Column("morning_2d_mw", "float64", "Mean demand in the hours 0 to 9, two days before.", MW),
    Column("morning_8d_mw", "float64", "Mean demand in the hours 0 to 9, eight days before.", MW),
    Column("mean_24h_week_before_mw", "float64", "Mean of the same 24 hours as `mean_24h_mw`, a week earlier.", MW),
    Column("mean_7d_mw", "float64", "Mean demand in the 168 hours before the cut-off.", MW),
)
"""Lags and rolling means. The model uses them relative to `LEVEL`."""
CALENDAR = (
    Column("local_hour", "int32", "Hour of the local day, 0 to 23."),
    Column("weekday", "int32", "Day of the week, from 1 (Monday) to 7 (Sunday)."),
    Column("is_summer_time", "int32", "1 in daylight saving time, 0 in winter time."),
    Column("is_holiday", "int32", "1 on a national holiday, else 0."),
    Column("is_bridge", "int32", "1 on a working day between two days off, else 0."),
    Column("holiday_share", "float64", "Share of the peninsula's population with a public holiday.", SHARE),
    Column("day_off_before", "float64", "Share of the population with a day off on the day before.", SHARE),
    Column("day_off_after", "float64", "Share of the population with a day off on the day after.", SHARE),
    Column("day_off_2d_before", "float64", "Share of the population with a day off two days before.", SHARE),
    Column("day_off_7d_before", "float64", "Share of the population with a day off seven days before.", SHARE),
)
FEATURES = (*CALENDAR, LEVEL, *RELATIVE)
NAIVE_D1 = Column(
    "naive_d1_mw",
    "float64",
    "Naive forecast: `lag_newest_mw`, plus `lag_7d_mw`, minus `lag_newest_week_before_mw`.",
    MW,
)
DEMAND_FEATURES = TableSchema(
    name="esios_demand/demand_features",
    columns=(
        Column("datetime_utc", "timestamp", "Start of the hour.", "UTC"),
        Column("local_day", "date", "Local day of the hour."),
        Column(
            "day_type",
            "string",
            "workday, saturday or sunday. A day on which most people have a public holiday counts as sunday.",
        ),
        *FEATURES,
        NAIVE_D1,
        Column("demand_mw", "float64", "The label: demand as last published; null for future hours.", MW),
        Column("updated_at", "timestamp", "Update time of the series for `demand_mw`; null for future hours.", "UTC"),
        Column("harvested_at", "timestamp", "Newest update time of the hours that the table was computed from.", "UTC"),
    ),
    key=("datetime_utc",),
    expectations=(
        has_rows(),
        is_unique("datetime_utc"),
        *(is_present(name) for name in ("datetime_utc", "local_day", "day_type", "harvested_at")),
        *(is_present(column.name) for column in CALENDAR),
        is_within("local_hour", 0, 23),
        is_within("weekday", 1, 7),
        is_one_of("day_type", ("workday", "saturday", "sunday")),
        is_within("holiday_share", 0.0, 1.0),
        *(warns(is_within(column.name, LOWEST_MW, HIGHEST_MW)) for column in (LEVEL, *RELATIVE)),
    ),
)

ISSUED = (
    Column("datetime_utc", "timestamp", "Start of the hour.", "UTC"),
    Column("local_day", "date", "Local day of the hour."),
    Column("model_version", "int64", "Version of the model that made the forecast."),
    Column("approval_id", "int64", "Approval request of that version."),
    Column("issued_at", "timestamp", "Time at which the forecast was issued, equal for all hours of a day.", "UTC"),
    Column("demand_mw", "float64", "Forecast demand.", MW),
    Column("lower_mw", "float64", "Lower bound of the 90 % prediction interval.", MW),
    Column("upper_mw", "float64", "Upper bound of the 90 % prediction interval.", MW),
    Column("interval_factor", "float64", "Factor by which the model's interval was widened or narrowed."),
    Column("naive_d7_mw", "float64", "Naive forecast: the same hour seven days before; null if unknown.", MW),
    Column("naive_d1_mw", "float64", "Naive forecast from the newest known day; null if unknown.", MW),
)
FORECASTS = TableSchema(
    name="esios_demand/forecasts",
    columns=ISSUED,
    key=("datetime_utc",),
    accumulates=True,
    expectations=(
        is_unique("datetime_utc"),
        *(is_present(column.name) for column in ISSUED if not column.name.startswith("naive")),
        is_at_least("demand_mw", "lower_mw"),
        is_at_least("upper_mw", "demand_mw"),
        is_positive("interval_factor", at_most=10.0),
        warns(is_within("demand_mw", LOWEST_MW, HIGHEST_MW)),
    ),
)

FORECAST_ERRORS = TableSchema(
    name="esios_demand/forecast_errors",
    columns=(
        *(column for column in ISSUED if column.name not in {"demand_mw", "interval_factor"}),
        Column("local_hour", "int32", "Hour of the local day, 0 to 23."),
        Column("is_holiday", "int32", "1 on a national holiday, else 0."),
        Column(
            "horizon_hours", "int32", "Hours from the cut-off, 10:00 on the day before, to the start of the hour.", "h"
        ),
        Column("forecast_mw", "float64", "Forecast demand.", MW),
        Column("demand_mw", "float64", "Demand as last published.", MW),
        Column("known_at", "timestamp", "End of the hour, or update time of the demand if that is later.", "UTC"),
        Column("error_mw", "float64", "Forecast minus demand.", MW),
        Column("is_covered", "boolean", "Whether the demand is inside the interval."),
    ),
    key=("datetime_utc",),
    expectations=(
        is_unique("datetime_utc"),
        *(is_present(name) for name in ("datetime_utc", "forecast_mw", "demand_mw", "error_mw", "is_covered")),
        is_within("horizon_hours", 13, 40),
    ),
)
