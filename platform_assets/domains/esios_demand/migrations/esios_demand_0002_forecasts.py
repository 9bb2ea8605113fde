"""Table of the issued forecasts. Rows are only added, so a forecast is never rewritten."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "esios_demand_0002"
down_revision = "esios_demand_0001"
branch_labels = None
depends_on = None

SCHEMA = "esios_demand"
TIME = sa.DateTime(timezone=True)


def column(name: str, kind: Any, comment: str, **options: Any) -> sa.Column[Any]:
    """Return a column that is not null, with a comment."""
    return sa.Column(name, kind, comment=comment, **{"nullable": False, **options})


def upgrade() -> None:
    op.create_table(
        "forecasts",
        column("datetime_utc", TIME, "Start of the hour.", primary_key=True),
        column("local_day", sa.Date, "Local day of the hour."),
        column("model_version", sa.BigInteger, "Version of the model that made the forecast."),
        column("approval_id", sa.BigInteger, "Approval request of that version."),
        column("issued_at", TIME, "Time of the forecast, the same for all hours of a day."),
        column("demand_mw", sa.Double, "Forecast of the demand."),
        column("lower_mw", sa.Double, "Lower end of the 90 % prediction interval."),
        column("upper_mw", sa.Double, "Upper end of the 90 % prediction interval."),
        column("interval_factor", sa.Double, "Factor by which the model's interval was widened or narrowed."),
        column("naive_d7_mw", sa.Double, "Naive forecast: the same hour seven days before.", nullable=True),
        column("naive_d1_mw", sa.Double, "Naive forecast from the newest day.", nullable=True),
        sa.CheckConstraint("lower_mw <= demand_mw and demand_mw <= upper_mw", "interval_contains_forecast"),
        sa.Index("forecasts_local_day", "local_day"),
        schema=SCHEMA,
        comment="Issued forecasts of the power demand, one row per hour. Rows are never changed.",
    )
    op.execute(
        f"create trigger append_only before update or delete or truncate on {SCHEMA}.forecasts"
        " for each statement execute function platform.refuse_change()"
    )


def downgrade() -> None:
    op.drop_table("forecasts", schema=SCHEMA)
