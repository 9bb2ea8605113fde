"""The issued forecasts. The id of an answer is the local day, for example `2018-01-15`."""

from __future__ import annotations

from platform_assets.domains.esios_demand.model import MODEL
from platform_assets.domains.esios_demand.schemas import FORECASTS
from platform_assets.monitoring.trace.declarations import AnswerTable, TracedAnswers

ISSUED = TracedAnswers(
    model=MODEL.name,
    stored=AnswerTable(
        name=FORECASTS.name.replace("/", "."), id=("local_day",), order=("datetime_utc",), at="issued_at"
    ),
)
