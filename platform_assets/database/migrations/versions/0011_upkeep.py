"""Backups that were made."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0008"
branch_labels = None
depends_on = None


def column(name: str, kind: Any, comment: str, *more: Any, **options: Any) -> sa.Column[Any]:
    """Return a NOT NULL column with a comment."""
    return sa.Column(name, kind, *more, comment=comment, **{"nullable": False, **options})


def upgrade() -> None:
    op.create_table(
        "backups",
        column("id", sa.BigInteger, "The backup.", sa.Identity(always=True)),
        column("at", sa.DateTime(timezone=True), "When its databases were read."),
        column("place", sa.Text, "Folder that it was written to, and the machine."),
        column("digest", sa.Text, "SHA-256 of its manifest."),
        column("bytes", sa.BigInteger, "Size of all its files."),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("bytes >= 0"),
        schema="platform",
        comment="Backups that were written and checked.",
    )


def downgrade() -> None:
    op.drop_table("backups", schema="platform")
