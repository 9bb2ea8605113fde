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
        sa.Column("symbol", sa.Text, primary_key=True, comment="The share."),
        sa.Column(
            "as_of", sa.Date, nullable=False, comment="The share's newest trading day, as of which the features hold."
        ),
        sa.Column("return_1d", sa.Double, comment="Change of the price since the trading day before."),
        sa.Column("return_3d", sa.Double, comment="Change of the price since three trading days before."),
        sa.Column("volume_ratio", sa.Double, comment="Volume, divided by the mean of the three days before."),
        schema="stocks",
        comment="Features of each share's newest trading day.",
    )


def downgrade() -> None:
    op.drop_table("newest_features", schema="stocks")
    op.execute("drop schema stocks")
