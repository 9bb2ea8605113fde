"""Table `demand_forecast_esios`, into which the forecast is loaded unless another database is configured."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "esios_demand_0001"
down_revision = None
branch_labels = ("esios_demand",)
depends_on = None

SCHEMA = "esios_demand"
TABLE = "demand_forecast_esios"


def upgrade() -> None:
    op.execute(f"create schema if not exists {SCHEMA}")
    op.create_table(
        TABLE,
        sa.Column("name", sa.Text, nullable=False, comment="Spanish name of the series."),
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False, comment="Number of the series at ESIOS."),
        sa.Column("datetime", sa.DateTime, primary_key=True, comment="Start of the hour, in UTC."),
        sa.Column("demand_forecast", sa.Float(53), nullable=False, comment="Mean demand in the hour, in MW."),
        sa.Column("update_timestamp", sa.DateTime, nullable=False, comment="Update of the value at ESIOS, in UTC."),
        schema=SCHEMA,
        comment="Forecast of the Spanish power demand, one row per series and hour.",
    )


def downgrade() -> None:
    op.drop_table(TABLE, schema=SCHEMA)
    op.execute(f"drop schema {SCHEMA}")
