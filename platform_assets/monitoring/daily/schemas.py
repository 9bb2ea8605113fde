"""The tables of daily measurements: one row per model or table, day, series and column."""

from __future__ import annotations

from platform_assets.lake.expectations import is_present
from platform_assets.lake.schemas import Column, TableSchema

_COLUMNS = (
    Column("subject", "string", "Name of the model or table."),
    Column("day", "date", "Day (UTC)."),
    Column("series", "string", "What was measured; docs/monitoring.md lists the series."),
    Column("column", "string", "Column of the table that was measured; empty if the series is not about one column."),
    Column("value", "float64", "The value, in the unit of the series; null if it is not known."),
    Column("low", "float64", "Lower end of the 95 % interval; null without an interval."),
    Column("high", "float64", "Upper end of the 95 % interval; null without an interval."),
    Column("rows", "int64", "Number of rows from which the value was computed."),
    Column("judged", "float64", "The value on the scale on which it is judged; null if it is not judged."),
    Column("noise", "float64", "Smallest standard deviation on this scale that is assumed."),
    Column("evidence", "float64", "Evidence that the value is unlike earlier ones.", "days"),
    Column("threshold", "float64", "Evidence that raises an alarm; null if the value is not judged.", "days"),
    Column("alarm", "boolean", "Whether an alarm was raised on this day."),
    Column("is_open", "boolean", "Whether an alarm was raised and the values have not become usual since."),
    Column("told", "string", "Explanation for people; empty if there is nothing to explain."),
)
_KEY = ("subject", "day", "series", "column")
_EXPECTATIONS = tuple(is_present(name) for name in (*_KEY, "alarm", "is_open"))

MODEL_DAYS = TableSchema("monitoring/model_days", _COLUMNS, _KEY, _EXPECTATIONS, from_itself=True, on_request=True)
TABLE_DAYS = TableSchema("monitoring/table_days", _COLUMNS, _KEY, _EXPECTATIONS, from_itself=True, on_request=True)
