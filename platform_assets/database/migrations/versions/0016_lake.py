"""The lake that belongs to the database, so that two homes with different lakes cannot share a database by mistake."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def column(name: str, kind: Any, comment: str, *more: Any, **options: Any) -> sa.Column[Any]:
    """Return a NOT NULL column with a comment."""
    return sa.Column(name, kind, *more, comment=comment, **{"nullable": False, **options})


def upgrade() -> None:
    op.create_table(
        "lake",
        column("id", sa.SmallInteger, "Always 1, because a database has one lake.", primary_key=True),
        column("identity", sa.Text, "Content of the file models/lake_id.txt of the lake."),
        column("place", sa.Text, "Location of the lake when a process last found it at a new place."),
        column("is_marked", sa.Boolean, "Whether the identity was written into the lake."),
        column("bound_at", sa.DateTime(timezone=True), "When the lake was bound.", server_default=sa.func.now()),
        sa.CheckConstraint("id = 1", name="lake_is_one"),
        schema="platform",
        comment="The lake that belongs to this database.",
    )


def downgrade() -> None:
    op.drop_table("lake", schema="platform")
