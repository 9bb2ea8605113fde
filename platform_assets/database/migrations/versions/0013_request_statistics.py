"""Requests for predictions, counted per model: their number, failures and duration."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None
# Code at an older revision refuses every database at a newer revision, so no rollback can go back beyond this revision.
oldest_code = "0013"


def column(name: str, kind: Any, comment: str, *more: Any, **options: Any) -> sa.Column[Any]:
    """Return a NOT NULL column with a comment."""
    return sa.Column(name, kind, *more, comment=comment, **{"nullable": False, **options})


def upgrade() -> None:
    op.create_table(
        "request_statistics",
        column("id", sa.BigInteger, "Number of the row.", sa.Identity(always=True), primary_key=True),
        column("model", sa.Text, "Name of the registered model."),
        column("at", sa.DateTime(timezone=True), "When the counts were written, by the service's clock."),
        column("requests", sa.BigInteger, "Requests for predictions since the process wrote its last row."),
        column("failures", sa.BigInteger, "How many of them were answered with a status of 500 or above."),
        column("durations", postgresql.ARRAY(sa.BigInteger), "Requests by class of duration."),
        sa.Index("request_statistics_of_model", "model", "at"),
        schema="platform",
        comment="Requests for predictions, counted by each process of the service about once a minute.",
    )


def downgrade() -> None:
    op.drop_table("request_statistics", schema="platform")
