"""Labels of predictions, the scope of the API keys that may send labels, and indexes that find a label's prediction."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def column(name: str, kind: Any, comment: str, *more: Any, **options: Any) -> sa.Column[Any]:
    """Return a NOT NULL column with a comment."""
    return sa.Column(name, kind, *more, comment=comment, **{"nullable": False, **options})


def upgrade() -> None:
    of_prediction, of_subject = sa.text("batch is not null"), sa.text("subject is not null")
    op.create_table(
        "labels",
        column("id", sa.BigInteger, "Number of the label.", sa.Identity(always=True), primary_key=True),
        column("model", sa.Text, "Name of the registered model."),
        column("request_id", sa.Text, "Request that was labelled; null for a subject.", nullable=True),
        column("batch", sa.Uuid, "The labelled row of the prediction log, with `place`.", nullable=True),
        column("place", sa.Integer, "See `batch`.", nullable=True),
        column("subject", sa.Text, "Subject that was labelled; null for a request.", nullable=True),
        column("at", TIME, "Time that the label of a subject is about.", nullable=True),
        column("label", sa.Double, "The label; 1 is the positive class."),
        column("observed_at", TIME, "When the label was observed."),
        column("arrived_at", TIME, "When it was stored, by the database's clock.", server_default=sa.text("now()")),
        column("sender", sa.Text, "Name of the key that sent it, or the file; empty if no key was needed."),
        sa.CheckConstraint(
            "(request_id is null) = (batch is null) and (batch is null) = (place is null)"
            " and (subject is null) = (at is null) and (batch is null) <> (subject is null)",
            "labels_have_one_target",
        ),
        # A unique index, so that a label that is sent twice is stored once.
        sa.Index(
            "labels_of_prediction",
            *("batch", "place", "observed_at", "label"),
            unique=True,
            postgresql_where=of_prediction,
        ),
        sa.Index(
            "labels_of_subject",
            *("model", "subject", "at", "observed_at", "label"),
            unique=True,
            postgresql_where=of_subject,
        ),
        sa.Index("labels_of_request", "request_id", postgresql_where=of_prediction),
        schema="platform",
        comment="Labels of predictions as they were observed. A label is never changed; a later label supersedes it.",
    )
    op.create_table(
        "refused_labels",
        column("file_digest", sa.Text, "SHA-256 of the file."),
        column("line", sa.BigInteger, "Line of the file."),
        column("file_name", sa.Text, "Name of the file."),
        column("model", sa.Text, "Name of the model in the line."),
        column("reason", sa.Text, "Why the label was not stored."),
        column("at", TIME, "When it was refused, by the database's clock.", server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("file_digest", "line"),
        schema="platform",
        comment="Labels in files that name no prediction. The table label_files/labels_incoming has their rows.",
    )
    for table in ("labels", "refused_labels"):
        op.execute(
            f"create trigger append_only before update or delete or truncate on platform.{table}"
            " for each statement execute function platform.refuse_change()"
        )
    op.create_index("predictions_of_request", "predictions", ["request_id"], schema="platform")
    # Use a hash index, because the size of an entry in a B-tree is limited, and a subject may be long.
    op.create_index("predictions_of_subject", "predictions", ["subject"], schema="platform", postgresql_using="hash")
    allow_scopes("read", "predict", "label", "approve")


def allow_scopes(*scopes: str) -> None:
    allowed = ", ".join(f"'{scope}'" for scope in scopes)
    op.execute("alter table platform.api_keys drop constraint api_keys_scopes_check")
    op.execute(
        "alter table platform.api_keys add constraint api_keys_scopes_check"
        f" check (scopes <@ array[{allowed}] and cardinality(scopes) > 0)"
    )


def downgrade() -> None:
    allow_scopes("read", "predict", "approve")
    op.drop_index("predictions_of_subject", "predictions", schema="platform")
    op.drop_index("predictions_of_request", "predictions", schema="platform")
    for table in ("refused_labels", "labels"):
        op.drop_table(table, schema="platform")
