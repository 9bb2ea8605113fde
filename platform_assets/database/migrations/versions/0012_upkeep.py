"""Records of backups, and of erased persons."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
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
    op.execute(
        "create trigger append_only before update or delete or truncate on platform.backups"
        " for each statement execute function platform.refuse_change()"
    )
    op.create_table(
        "erasures",
        column("id", sa.BigInteger, "The erasure.", sa.Identity(always=True)),
        column("at", sa.DateTime(timezone=True), "When it was asked for.", server_default=sa.text("now()")),
        column("kind", sa.Text, "Kind of person, such as client."),
        column("key", sa.Text, "Secret of the hash, the same for all erasures."),
        column("hash", sa.Text, "Keyed SHA-256 of the person's id."),
        column("found", postgresql.JSONB, "What was erased: numbers by place, and models.", server_default="{}"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("kind", "hash"),
        schema="platform",
        comment="Persons whose data were erased, without personal data. Their rows never land again.",
    )


def downgrade() -> None:
    op.drop_table("erasures", schema="platform")
    op.drop_table("backups", schema="platform")
