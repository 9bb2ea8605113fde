"""The online table of stocks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "stocks_0001"
down_revision = None
branch_labels = ("stocks",)
depends_on = None


def upgrade() -> None:
    op.execute("create schema if not exists stocks")
    op.create_table(
        "newest_features",
        sa.Column("symbol", sa.Text, primary_key=True, comment="Symbol of the share at its exchange."),
        sa.Column(
            "as_of",
            sa.Date,
            nullable=False,
            comment="Newest trading day of the share. The features are as of its close.",
        ),
        sa.Column("return_1d", sa.Double, comment="Relative change of the price since the previous trading day."),
        sa.Column("return_3d", sa.Double, comment="Relative change of the price over the last three trading days."),
        sa.Column("volume_ratio", sa.Double, comment="Volume, divided by the mean of the previous three trading days."),
        schema="stocks",
        comment="Features of each share's newest trading day.",
    )


def downgrade() -> None:
    op.drop_table("newest_features", schema="stocks")
    op.execute("drop schema stocks")
