"""The stored predictions of sensor maintenance, and the reading that each was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.domains.sensor_maintenance.model import MODEL
from platform_assets.domains.sensor_maintenance.schemas import PREDICTIONS, READINGS, READINGS_INCOMING
from platform_assets.monitoring.trace.declarations import AnswerTable, RowsBehind, TracedAnswers
from platform_assets.serving.stored_predictions import DIGEST, LINE

if TYPE_CHECKING:
    from collections.abc import Mapping

    import ibis.expr.types as ir


def reading_of(readings: ir.Table, answer: Mapping[str, Any]) -> ir.Table:
    """Return the reading that a stored prediction was made from."""
    return readings.filter((readings[DIGEST] == answer[DIGEST]) & (readings[LINE] == answer[LINE]))


STORED = TracedAnswers(
    model=MODEL.name,
    stored=AnswerTable(
        name=PREDICTIONS.name.replace("/", "."), id=(DIGEST, LINE), order=(DIGEST, LINE), subject="device"
    ),
    behind=(RowsBehind(READINGS_INCOMING, reading_of),),
    features=READINGS,
)
