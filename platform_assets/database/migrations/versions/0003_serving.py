"""The log of predictions, and the notification of a new champion."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ANNOUNCE = """
create function platform.announce_champion() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform pg_notify('platform_champions', new.request_id::text);
    return null;
end
$$;

create trigger announce_champion after insert on platform.approval_events
for each row when (new.kind in ('promote', 'roll_back')) execute function platform.announce_champion();
"""


def column(name: str, kind: Any, comment: str, *more: Any, **options: Any) -> sa.Column[Any]:
    """Return a NOT NULL column with a comment."""
    return sa.Column(name, kind, *more, comment=comment, **{"nullable": False, **options})


def upgrade() -> None:
    op.execute(ANNOUNCE)
    op.create_table(
        "predictions",
        column("batch", sa.Uuid, "One write of the log; tells one that was sent twice."),
        column("place", sa.Integer, "Place in the batch, from 0."),
        column("at", sa.DateTime(timezone=True), "When it was answered, by the service's clock."),
        column("model", sa.Text, "Name of the registered model."),
        column("version", sa.Integer, "Its version in the registry."),
        column("approval_id", sa.BigInteger, "The request by which that version became champion."),
        column("caller", sa.Text, "Name of the key that asked; empty where none was needed."),
        column("request_id", sa.Text, "The HTTP request."),
        column("subject", sa.Text, "Whom or what it is about, e.g. a client; null without a name.", nullable=True),
        column("features", postgresql.JSONB, "What the answer was made of, by name."),
        column("score", sa.Double, "Probability of the positive class."),
        column("positive", sa.Boolean, "Whether the score reached the threshold."),
        column("threshold", sa.Double, "The threshold."),
        sa.PrimaryKeyConstraint("batch", "place"),
        sa.Index("predictions_of_model", "model", "at"),
        # A BRIN index is small, and it finds old rows because rows are inserted in the order of time.
        sa.Index("predictions_at", "at", postgresql_using="brin"),
        schema="platform",
        comment="Every prediction that the service answered, until it is too old.",
    )


def downgrade() -> None:
    op.drop_table("predictions", schema="platform")
    op.execute("drop function platform.announce_champion cascade")
