"""Tables of landed rows and of their predictions, for tests of batch predictions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from platform_assets.lake.schemas import Column, TableSchema
from platform_assets.serving.stored_predictions import prediction_table

DAY = datetime(2026, 3, 1, tzinfo=UTC)
LANDED = TableSchema(
    name="sensor_maintenance/readings_incoming",
    columns=(
        Column("file_digest", "string", "SHA-256 of the file's content."),
        Column("line", "int64", "Line of the reading."),
        Column("file_name", "string", "Name of the file."),
        Column("device", "string", "Device."),
        Column("recorded_at", "timestamp('UTC')", "Time of the reading."),
        Column("heat", "float64", "Heat."),
        Column("noise", "float64", "Noise."),
    ),
    key=("file_digest", "line"),
)
# Use the table of a domain, because the test databases contain only tables that a migration creates.
PREDICTIONS = prediction_table(
    "sensor_maintenance/predictions",
    LANDED,
    copied=("file_name", "device", "recorded_at"),
    positive=Column("needs_maintenance", "boolean", "Whether the probability reaches the threshold."),
)


def prediction(digest: str, line: int, probability: float = 0.25, **others: Any) -> tuple[Any, ...]:
    """Return a row of `PREDICTIONS` without the time of the prediction."""
    row = {
        "file_digest": digest,
        "line": line,
        "file_name": f"{digest}.txt",
        "device": "pump",
        "recorded_at": DAY,
        "probability": probability,
        "needs_maintenance": probability >= 0.5,
        "threshold": 0.5,
        "model_version": 1,
        "approval_id": 7,
        "outside_training_range": False,
        **others,
    }
    return tuple(row.values())
