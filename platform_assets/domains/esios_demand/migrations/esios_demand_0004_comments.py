"""Reword comments on the forecasts in plain English, with units."""

from __future__ import annotations

from alembic import op

revision = "esios_demand_0004"
down_revision = "esios_demand_0003"
branch_labels = None
depends_on = None

SCHEMA = "esios_demand"
COMMENTS: dict[str, dict[str, str]] = {
    "demand_forecast_esios": {
        "id": "Indicator id of the series at ESIOS.",
        "demand_forecast": "Mean demand in the hour, from the operator's newest forecast, in MW.",
        "update_timestamp": "Update time of the series at ESIOS when this value was first read, in UTC.",
    },
    "forecasts": {
        "issued_at": "Time at which the forecast was issued. All hours of a day have the same time.",
        "demand_mw": "Forecast demand, in MW.",
        "lower_mw": "Lower bound of the 90 % prediction interval, in MW.",
        "upper_mw": "Upper bound of the 90 % prediction interval, in MW.",
        "interval_factor": "Factor by which the model's interval was widened (above 1) or narrowed (below 1).",
        "naive_d7_mw": "Naive forecast: demand in the same hour seven days before, in MW; null if unknown.",
        "naive_d1_mw": "Naive forecast, in MW: `naive_d7_mw`, plus the latest known week-on-week change of the demand "
        "in the same hour; null if unknown.",
        "inputs": "Version of each lake table that the features came from, by table name; null if not recorded.",
    },
}


def upgrade() -> None:
    for table, comments in COMMENTS.items():
        for column, comment in comments.items():
            op.alter_column(table, column, comment=comment, schema=SCHEMA)


def downgrade() -> None:
    """Keep the comments, because they describe the tables of the older revision too."""
