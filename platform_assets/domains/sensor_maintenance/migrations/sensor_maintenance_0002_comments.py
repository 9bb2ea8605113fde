"""Reword comments on the stored predictions and the devices in plain English."""

from __future__ import annotations

from alembic import op

revision = "sensor_maintenance_0002"
down_revision = "sensor_maintenance_0001"
branch_labels = None
depends_on = None

SCHEMA = "sensor_maintenance"
BOTH = {
    "file_digest": "SHA-256 of the content of the file that contained the reading.",
    "line": "Line number of the reading in the file.",
    "file_name": "Path in the landing zone from which the file was read.",
    "device": "Device of the reading; the name of the file if the device is unknown.",
    "model_version": "Version of the model that made the prediction.",
    "outside_training_range": "Whether a feature is outside its range in the training data; null if that range is "
    "unknown.",
}
"""Comments on columns of both tables."""


def upgrade() -> None:
    comment = "Newest prediction for each device, copied from the lake."
    op.create_table_comment("devices", comment, schema=SCHEMA)
    for table in ("devices", "predictions"):
        for column, comment in BOTH.items():
            op.alter_column(table, column, comment=comment, schema=SCHEMA)


def downgrade() -> None:
    """Keep the comments, because they describe the tables of the older revision too."""
