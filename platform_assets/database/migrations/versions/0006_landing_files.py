"""The files of landing zones: what has landed, and what a zone lists."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
STATES = "state in ('found', 'landed', 'processed', 'set_aside')"


def column(name: str, kind: Any, comment: str, *more: Any, **options: Any) -> sa.Column[Any]:
    """Return a column that is not null, with a comment."""
    return sa.Column(name, kind, *more, comment=comment, **{"nullable": False, **options})


def upgrade() -> None:
    op.create_table(
        "landing_files",
        column("zone", sa.Text, "Name of the landing zone.", primary_key=True),
        column("digest", sa.Text, "SHA-256 of the file's bytes.", primary_key=True),
        column("names", postgresql.ARRAY(sa.Text), "Every file name with this content, in the order of discovery."),
        column("size", sa.BigInteger, "Size in bytes; null if only the lake knows the file.", nullable=True),
        column("first_seen_at", TIME, "When the content was first read.", server_default=sa.text("clock_timestamp()")),
        column(
            "state",
            sa.Text,
            "found: waiting for a run; landed: its rows are in the lake; processed: the domain has stored its results; "
            "set_aside: none of its rows can be used.",
            server_default="found",
        ),
        column("reason", sa.Text, "Why the file was set aside, or why a found file cannot be read.", nullable=True),
        column("run", sa.Text, "Dagster run that last changed the state.", nullable=True),
        column("batch", sa.BigInteger, "Batch in which its rows are added to the lake.", nullable=True),
        column("batch_at", TIME, "When the batch was created; `landed_at` of its rows.", nullable=True),
        sa.CheckConstraint(STATES, "landing_files_state"),
        sa.CheckConstraint("state <> 'set_aside' or reason is not null", "landing_files_reason"),
        sa.Index("landing_files_batch", "zone", "batch"),
        sa.Index("landing_files_names", "names", postgresql_using="gin"),
        sa.Index(
            "landing_files_waiting", "zone", "state", "first_seen_at", postgresql_where=sa.text("state <> 'processed'")
        ),
        schema="platform",
        comment="One row per landing zone and content, regardless of the names of the files.",
    )
    op.create_table(
        "landing_names",
        column("zone", sa.Text, "Name of the landing zone.", primary_key=True),
        column("name", sa.Text, "Path of the file in the zone.", primary_key=True),
        column("size", sa.BigInteger, "Size in bytes."),
        column("marks", postgresql.JSONB, "Modification time, entity tag and similar metadata from the store."),
        column("seen_at", TIME, "When this size and these marks were first listed, by the database's clock."),
        column("digest", sa.Text, "SHA-256 of the content with these marks; null until it was read.", nullable=True),
        column("problem", sa.Text, "Why the file cannot be read.", nullable=True),
        sa.Index("landing_names_digest", "zone", "digest"),
        schema="platform",
        comment="The files that a landing zone lists now. A cache: if it is lost, each file is read once more.",
    )


def downgrade() -> None:
    op.drop_table("landing_names", schema="platform")
    op.drop_table("landing_files", schema="platform")
