"""Tables of stored predictions and of the devices."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "sensor_maintenance_0001"
down_revision = None
branch_labels = ("sensor_maintenance",)
depends_on = None

SCHEMA = "sensor_maintenance"
TIME = sa.DateTime(timezone=True)


def column(name: str, kind: Any, comment: str, *more: Any, **options: Any) -> sa.Column[Any]:
    """Return a column that is not null, with a comment."""
    return sa.Column(name, kind, *more, comment=comment, **{"nullable": False, **options})


def decision_columns() -> list[sa.Column[Any]]:
    """Return the columns that describe a reading and its prediction."""
    return [
        column("recorded_at", TIME, "Time of the reading; null if it is unknown.", nullable=True),
        column("probability", sa.Double, "Probability that the device needs maintenance."),
        column("needs_maintenance", sa.Boolean, "Whether the probability reaches the threshold."),
        column("threshold", sa.Double, "Threshold of the model version."),
        column("model_version", sa.BigInteger, "Version of the model that predicted."),
        column("approval_id", sa.BigInteger, "Approval request of that version."),
        column(
            "outside_training_range",
            sa.Boolean,
            "Whether a feature lies outside the values of training; null if these are unknown.",
            nullable=True,
        ),
        column("predicted_at", TIME, "Time of the prediction. All rows of a batch have the same time."),
    ]


def upgrade() -> None:
    op.execute(f"create schema if not exists {SCHEMA}")
    op.create_table(
        "predictions",
        column("file_digest", sa.Text, "SHA-256 of the file's content.", primary_key=True),
        column("line", sa.BigInteger, "Line of the reading in the file.", primary_key=True),
        column("file_name", sa.Text, "Name of the file when it was landed."),
        column("device", sa.Text, "Device that was read."),
        *decision_columns(),
        sa.CheckConstraint("probability between 0 and 1", "probability_is_between_0_and_1"),
        sa.CheckConstraint("needs_maintenance = (probability >= threshold)", "threshold_decides"),
        sa.Index("predictions_predicted_at", "predicted_at"),
        sa.Index("predictions_device", "device"),
        schema=SCHEMA,
        comment="Stored predictions, one row per reading. Rows are never changed.",
    )
    op.execute(
        f"create trigger append_only before update or delete or truncate on {SCHEMA}.predictions"
        " for each statement execute function platform.refuse_change()"
    )
    op.create_table(
        "devices",
        column("device", sa.Text, "Device that was read.", primary_key=True),
        *decision_columns(),
        column("file_digest", sa.Text, "File of the reading."),
        column("line", sa.BigInteger, "Line of the reading in the file."),
        column("file_name", sa.Text, "Name of the file when it was landed."),
        schema=SCHEMA,
        comment="The newest decision of each device, copied from the lake.",
    )


def downgrade() -> None:
    for table in ("devices", "predictions"):
        op.drop_table(table, schema=SCHEMA)
    op.execute(f"drop schema {SCHEMA}")
