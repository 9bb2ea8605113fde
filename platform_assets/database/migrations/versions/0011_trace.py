"""Add what `trace` needs: the versions of online tables, the version that each prediction read, and a scope."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def column(name: str, kind: Any, comment: str, *more: Any, **options: Any) -> sa.Column[Any]:
    """Return a NOT NULL column with a comment."""
    return sa.Column(name, kind, *more, comment=comment, **{"nullable": False, **options})


def upgrade() -> None:
    op.add_column(
        "online_tables",
        column("version", sa.BigInteger, "Number of this version of the table, from 1.", server_default="1"),
        schema="platform",
    )
    op.create_table(
        "online_versions",
        column("name", sa.Text, "<domain>/<table>, which is also the asset key.", primary_key=True),
        column("version", sa.BigInteger, "Number of the version, from 1.", primary_key=True),
        column("digest", sa.Text, "Digest of the rows, the same in any order."),
        column("rows", sa.BigInteger, "Number of rows."),
        column("run_id", sa.Text, "The Dagster run that wrote them; null outside of one.", nullable=True),
        column("inputs", postgresql.JSONB, "Version of each table of the lake that the rows were made from."),
        column("published_at", sa.DateTime(timezone=True), "When it was published.", server_default=sa.text("now()")),
        schema="platform",
        comment="Every version of the online tables, with other rows or other inputs than the version before.",
    )
    op.execute(
        "insert into platform.online_versions (name, version, digest, rows, run_id, inputs, published_at)"
        " select name, version, digest, rows, run_id, inputs, updated_at from platform.online_tables"
    )
    op.add_column(
        "predictions",
        column(
            "read_from",
            sa.Text,
            "Online table and version that the features were read from, <table>@<version>; null if the request"
            " contained the features.",
            nullable=True,
        ),
        schema="platform",
    )
    allow_scopes("read", "predict", "label", "trace", "approve")


def allow_scopes(*scopes: str) -> None:
    allowed = ", ".join(f"'{scope}'" for scope in scopes)
    op.execute("alter table platform.api_keys drop constraint api_keys_scopes_check")
    op.execute(
        "alter table platform.api_keys add constraint api_keys_scopes_check"
        f" check (scopes <@ array[{allowed}] and cardinality(scopes) > 0)"
    )


def downgrade() -> None:
    allow_scopes("read", "predict", "label", "approve")
    op.drop_column("predictions", "read_from", schema="platform")
    op.drop_table("online_versions", schema="platform")
    op.drop_column("online_tables", "version", schema="platform")
