"""Allow requests and predictions without a threshold, for models that make no decisions."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_COLUMNS = (("approval_requests", "threshold"), ("predictions", "positive"), ("predictions", "threshold"))


def upgrade() -> None:
    for table, column in _COLUMNS:
        op.alter_column(table, column, nullable=True, schema="platform")


def downgrade() -> None:
    for table, column in _COLUMNS:
        op.alter_column(table, column, nullable=False, schema="platform")
