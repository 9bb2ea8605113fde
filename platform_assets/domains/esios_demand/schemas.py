"""Tables of the power demand: columns, types, units and expectations."""

from __future__ import annotations

from datetime import timedelta

from platform_assets.domains.esios_demand.months import partition_key
from platform_assets.lake.expectations import is_present, is_unique, is_within, warns
from platform_assets.lake.schemas import Column, TableSchema

LOWEST_MW, HIGHEST_MW = 15_000, 45_000
"""Plausible demand of the peninsula. From 2017 to 2018, the forecast was between 18,015 and 41,103 MW."""
COLUMNS = (
    Column("name", "string", "Spanish name of the series."),
    Column("id", "int64", "Number of the series at ESIOS. It is not the number of the geography."),
    Column("datetime", "timestamp", "Start of the hour.", "UTC"),
    Column("demand_forecast", "float64", "Mean demand in the hour, as the operator forecast it last.", "MW"),
    Column("update_timestamp", "timestamp", "Update of the series at ESIOS with which this value came.", "UTC"),
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
