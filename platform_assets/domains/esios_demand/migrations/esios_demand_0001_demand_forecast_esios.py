"""The table into which the forecast is loaded if the settings name no other database."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "esios_demand_0001"
down_revision = None
branch_labels = ("esios_demand",)
depends_on = None

SCHEMA = "esios_demand"


def upgrade() -> None:
    op.execute(f"create schema if not exists {SCHEMA}")
    op.create_table(
        "demand_forecast_esios",
        sa.Column("name", sa.Text, nullable=False, comment="Spanish name of the series."),
        sa.Column("id", sa.BigInteger, nullable=False, autoincrement=False, comment="Number of the series at ESIOS."),
        sa.Column("datetime", sa.DateTime, nullable=False, comment="Start of the hour, UTC."),
        sa.Column("demand_forecast", sa.Double, nullable=False, comment="Mean demand in the hour, MW."),
        sa.Column("update_timestamp", sa.DateTime, nullable=False, comment="Update of the series at ESIOS, UTC."),
        sa.PrimaryKeyConstraint("id", "datetime"),
        schema=SCHEMA,
        comment="Forecast of the demand of the Spanish peninsula. One row per series and hour.",
    )


def downgrade() -> None:
    op.drop_table("demand_forecast_esios", schema=SCHEMA)
