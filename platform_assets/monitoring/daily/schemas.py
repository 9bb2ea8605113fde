"""Schemas of the tables of daily measurements, with one row per model or table, day, series and column."""

from __future__ import annotations

from platform_assets.lake.expectations import is_present
from platform_assets.lake.schemas import Column, TableSchema

_COLUMNS = (
    Column("subject", "string", "Name of the model or table."),
    Column("day", "date", "Day (UTC)."),
    Column("series", "string", "Name of the measured quantity, as listed in docs/monitoring.md."),
    Column("column", "string", "The measured column; empty if the series does not measure a single column."),
    Column("value", "float64", "Measured value, in the unit of the series; null if unknown."),
    Column("low", "float64", "Lower bound of the 95 % confidence interval; null if there is none."),
    Column("high", "float64", "Upper bound of the 95 % confidence interval; null if there is none."),
    Column("rows", "int64", "Number of rows from which the value was computed."),
    Column(
        "judged",
        "float64",
        "Transform of `value` (e.g. its logarithm), which is compared with earlier values; null if not compared.",
    ),
    Column("noise", "float64", "Minimum standard deviation that is assumed for `judged`; null if not compared."),
    Column("evidence", "float64", "Test statistic for a change of the value; see docs/monitoring.md.", "days"),
    Column(
        "threshold", "float64", "Smallest `evidence` that raises an alarm; null if the value is not checked.", "days"
    ),
    Column("alarm", "boolean", "Whether an alarm was raised on this day."),
    Column("is_open", "boolean", "Whether an alarm that was raised on this day or earlier is still open."),
    Column("told", "string", "Explanation of the value or alarm; empty if there is none."),
)
_KEY = ("subject", "day", "series", "column")
_EXPECTATIONS = tuple(is_present(name) for name in (*_KEY, "alarm", "is_open"))

MODEL_DAYS = TableSchema("monitoring/model_days", _COLUMNS, _KEY, _EXPECTATIONS, from_itself=True, on_request=True)
TABLE_DAYS = TableSchema("monitoring/table_days", _COLUMNS, _KEY, _EXPECTATIONS, from_itself=True, on_request=True)
