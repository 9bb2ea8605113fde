"""Predictions and labels in a real database, for tests of labels."""

from __future__ import annotations

import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.monitoring.labels import Label
from platform_assets.serving.prediction_log import Predictions, TableSink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from platform_assets.database.connections import Database

MODEL = "breakage_model"
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LATER = NOW + HOUR


def predicted(database: Database, request_id: str, subjects: Sequence[str | None], **others: Any) -> None:
    """Log the predictions of a request.

    By default, the predictions come from model version 3, approved by approval request 7. Keyword arguments override
    fields of the predictions.
    """
    fields: dict[str, Any] = {
        "model": MODEL,
        "version": 3,
        "approval_id": 7,
        "threshold": 0.5,
        "caller": "shop",
        "request_id": request_id,
        "subjects": subjects,
        "features": [{}] * len(subjects),
        "scores": [0.25] * len(subjects),
        "at": NOW,
    }
    with closing(TableSink(lambda: database.connect("platform"))) as sink:
        assert sink.write(uuid.uuid4(), [Predictions(**{**fields, **others})]) == 0


def of_subject(subject: str, label: float = 1, observed_at: datetime = LATER, at: datetime = NOW) -> Label:
    """Return a label for the prediction of a subject at the time `at`."""
    return Label(label, observed_at, subject=subject, at=at)
