"""Measured drift and estimated performance of batches of new rows."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def column(name: str, kind: Any, comment: str, **options: Any) -> sa.Column[Any]:
    """Return a NOT NULL column with a comment."""
    return sa.Column(name, kind, comment=comment, **{"nullable": False, **options})


def batch_columns() -> list[sa.Column[Any]]:
    """Return the columns that identify a batch."""
    return [
        column("model", sa.Text, "Name of the registered model."),
        column("stream", sa.Text, "Table that collects the rows."),
        column("unit", sa.Text, "`batch`: rows that arrived together; `day`: all rows of a day."),
        column("batch", sa.Text, "Id of the batch, such as a file's digest, or the day."),
    ]


def upgrade() -> None:
    op.create_table(
        "drift_batches",
        *batch_columns(),
        column("name", sa.Text, "Name of the batch for people."),
        column("version", sa.Integer, "Model version with whose training rows it was compared."),
        column("n", sa.BigInteger, "Number of rows."),
        column("alarm", sa.Boolean, "Whether a column raised an alarm; for a day: in one of its batches."),
        column("outside", sa.Double, "Share of rows outside the training range; null if unknown.", nullable=True),
        column("arrived_at", sa.DateTime(timezone=True), "When the batch arrived."),
        column("measured_at", sa.DateTime(timezone=True), "When it was measured."),
        column("run", sa.Text, "The Dagster run."),
        sa.PrimaryKeyConstraint("model", "stream", "unit", "batch"),
        sa.Index("drift_batches_arrived", "model", "stream", "unit", "arrived_at"),
        sa.Index("drift_batches_measured", "model", "stream", "unit", "measured_at"),
        schema="platform",
        comment="Batches of new rows that were compared with the training rows of a model.",
    )
    op.create_table(
        "drift",
        *batch_columns(),
        column("feature", sa.Text, "The feature, all numeric features together, or the predicted probability."),
        column("version", sa.Integer, "Model version with whose training rows it was compared."),
        column("n", sa.BigInteger, "Number of rows."),
        column("statistic", sa.Double, "Evidence against the training distribution, in days."),
        column("threshold", sa.Double, "Evidence that raises an alarm, in days."),
        column("effect", sa.Double, "Distance from the training distribution, from 0 to 1."),
        column("alarm", sa.Boolean, "Whether the evidence reached the threshold; for a day: in one of its batches."),
        column("deviation", sa.Text, "The deviation with the most evidence."),
        sa.PrimaryKeyConstraint("model", "stream", "unit", "batch", "feature"),
        schema="platform",
        comment="Drift of each feature in each batch.",
    )
    op.create_table(
        "estimated_performance",
        *batch_columns(),
        column("metric", sa.Text, "recall, precision, f2 or accuracy."),
        column("version", sa.Integer, "Model version that would predict the rows."),
        column("value", sa.Double, "Expected value; null if not known.", nullable=True),
        column("low", sa.Double, "Lower end of the 95 % interval; null if not known.", nullable=True),
        column("high", sa.Double, "Upper end of the 95 % interval; null if not known.", nullable=True),
        sa.PrimaryKeyConstraint("model", "stream", "unit", "batch", "metric"),
        schema="platform",
        comment="Performance on each batch, estimated before its labels are known.",
    )
    op.create_table(
        "drift_evidence",
        column("model", sa.Text, "Name of the registered model."),
        column("stream", sa.Text, "Table that collects the rows."),
        column("feature", sa.Text, "As in the table drift."),
        column("reference", sa.Text, "Training rows, rulers and budget that the evidence belongs to."),
        column("capital", sa.LargeBinary, "Logarithm of the capital of each bet, float64."),
        sa.PrimaryKeyConstraint("model", "stream", "feature"),
        schema="platform",
        comment="Evidence so far, which the next batch continues.",
    )


def downgrade() -> None:
    for table in ("drift_evidence", "estimated_performance", "drift", "drift_batches"):
        op.drop_table(table, schema="platform")
