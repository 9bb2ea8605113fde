"""The table versions that the rows of an online table were made from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "online_tables",
        sa.Column(
            "inputs",
            postgresql.JSONB,
            nullable=False,
            server_default=sa.text("'{}'::jsonb"),
            comment="Version of each table of the lake that the rows were made from, by name.",
        ),
        schema="platform",
    )


def downgrade() -> None:
    op.drop_column("online_tables", "inputs", schema="platform")
