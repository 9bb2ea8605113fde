"""Sensor maintenance over HTTP: the champion's predictions for readings, and the stored predictions for files."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from platform_assets.base.errors import NotFound
from platform_assets.base.json_values import JSON
from platform_assets.domains.sensor_maintenance.model import MODEL
from platform_assets.domains.sensor_maintenance.schemas import HIGHEST_READING, PREDICTIONS, READINGS
from platform_assets.domains.sensor_maintenance.sources import INCOMING
from platform_assets.serving.prediction_fields import ApprovalId, common_fields, version_of_all
from platform_assets.serving.stored_predictions import StoredPredictions
from platform_assets.web.one_or_many import Example, OneOrMany, UpTo1000, documentation, no_boolean, respond
from platform_assets.web.paging import ItemsPerPage, Page, PageNumber

if TYPE_CHECKING:
    from collections.abc import Sequence

    from platform_assets.landing.zone_files import LandedFile
    from platform_assets.services import Services
    from platform_assets.web.request_identity import Asked

LONGEST_NAME = 1_024
"""Maximum length of the name of a file in a request."""
Sensor = Annotated[
    float,
    Field(
        ge=-HIGHEST_READING,
        le=HIGHEST_READING,
        allow_inf_nan=False,
        description=f"Reading, from {-HIGHEST_READING:,.0f} to {HIGHEST_READING:,.0f}.",
    ),
    BeforeValidator(no_boolean),
]
Probability = Annotated[float, Field(ge=0, le=1, description="Probability that the device needs maintenance.")]
NeedsMaintenance = Annotated[bool, Field(description="Whether the probability is at least the threshold.")]
Outside = Annotated[
    bool | None,
    Field(
        description="Whether the reading is outside the range of the training readings. If so, the probability is "
        "unreliable. Null if the model does not store that range."
    ),
]


class Reading(BaseModel):
    """One reading of both sensors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    sensor_1: Sensor
    sensor_2: Sensor


class Readings(OneOrMany):
    """A single reading, or a list of up to 1,000 readings."""

    sensor_1: Sensor = 0.0
    sensor_2: Sensor = 0.0
    readings: UpTo1000[Reading] = Field(default_factory=list)


class Prediction(BaseModel):
    """The prediction for one reading."""

    probability: Probability
    needs_maintenance: NeedsMaintenance
    threshold: float
    outside_training_range: Outside
    model_version: Annotated[str, version_of_all("readings")]
    approval_id: ApprovalId


class Predictions(BaseModel):
    """Predictions for several readings, in the order of the request."""

    predictions: list[Prediction]


class StoredPrediction(BaseModel):
    """The stored prediction for one line of a file."""

    file_digest: Annotated[str, Field(description="SHA-256 of the file's content.")]
    line: Annotated[int, Field(description="Line number of the reading in the file.")]
    file_name: Annotated[str, Field(description="Name of the file when it was loaded.")]
    device: Annotated[str, Field(description="Device of the reading; the file's name if the device is unknown.")]
    recorded_at: Annotated[datetime | None, Field(description="Time of the reading; null if the time is unknown.")]
    probability: Probability
    needs_maintenance: NeedsMaintenance
    threshold: float
    outside_training_range: Outside
    model_version: Annotated[str, Field(description="Model version that made the prediction.")]
    approval_id: ApprovalId
    predicted_at: datetime


_STORED = TypeAdapter(list[StoredPrediction])
_OF_MODEL = {"threshold": 0.31, "outside_training_range": False, "model_version": "3", "approval_id": 7}
_YES = {"probability": 0.9312, "needs_maintenance": True, **_OF_MODEL}
_NO = {"probability": 0.0871, "needs_maintenance": False, **_OF_MODEL, "outside_training_range": True}
_FIRST, _SECOND = {"sensor_1": 0.57, "sensor_2": -0.12}, {"sensor_1": -3.8, "sensor_2": 1.02}
EXAMPLES = (
    Example("one reading", _FIRST, _YES),
    Example("several readings", {"readings": [_FIRST, _SECOND]}, {"predictions": [_YES, _NO]}),
)
_EXAMPLE_DIGEST = "9f86d081884c7d65" * 4
_EXAMPLE_STORED = {
    "file_digest": _EXAMPLE_DIGEST,
    "line": 2,
    "file_name": "pump_3/20260228T093000Z.txt",
    "device": "pump_3",
    "recorded_at": "2026-02-28T09:30:00Z",
    **_YES,
    "predicted_at": "2026-02-28T09:31:12Z",
}
File = Annotated[
    str,
    Query(
        min_length=1,
        max_length=LONGEST_NAME,
        # PostgreSQL text cannot contain NUL bytes.
        pattern=r"^[^\x00]*$",
        description="Path of a file in the landing zone, or SHA-256 of its content. If the file at this path was "
        "replaced, the predictions for its earlier contents are returned too, newest content first.",
        examples=["pump_3/20260228T093000Z.txt", _EXAMPLE_DIGEST],
    ),
]


def router(services: Services) -> APIRouter:
    """Return the routes of sensor maintenance.

    Parameters
    ----------
    services
        Services that provide the champion and the stored predictions.
    """
    routes = APIRouter(tags=["sensor maintenance"])
    stored = StoredPredictions(lambda: services.database, PREDICTIONS)

    @routes.post("/predictions/sensor-maintenance", **documentation(Prediction | Predictions, EXAMPLES))
    async def predict_sensor_maintenance(sent: Readings, request: Request) -> Response:
        """Predict whether a device needs maintenance, for one reading or up to 1,000."""
        return await respond(sent, partial(_predictions, services, request.state.asked, sent.items), Predictions)

    @routes.get(
        "/predictions/sensor-maintenance",
        response_model=list[StoredPrediction],
        responses={200: {"content": {JSON: {"example": [_EXAMPLE_STORED]}}}},
    )
    def list_stored_predictions(
        request: Request, file: File, page: PageNumber = 0, items_per_page: ItemsPerPage = 50
    ) -> Response:
        """List the stored predictions for a file, ordered by line."""
        digests = _processed(file, services.zones.files(INCOMING).find(file))
        rows, total = stored.page(digests, page * items_per_page, items_per_page)
        shown = Page(page, items_per_page, total, request.url.path, request.query_params.multi_items())
        found = [StoredPrediction(**_as_answer(row)) for row in rows]
        return Response(_STORED.dump_json(found), media_type=JSON, headers=dict(shown.headers))

    return routes


def _predictions(services: Services, asked: Asked, readings: Sequence[Any]) -> list[Prediction]:
    rows = [{name: getattr(reading, name) for name in READINGS} for reading in readings]
    # A reading in a request has no id to log, so all ids are None.
    predicted = services.predictor.predict(MODEL.name, [None] * len(rows), rows, asked)
    outside = predicted.live.model.outside_training_range(rows)
    common = common_fields(predicted)
    return [
        Prediction(probability=score, needs_maintenance=positive, outside_training_range=out, **common)
        for score, positive, out in zip(
            predicted.scores.tolist(),
            predicted.positive.tolist(),
            [None] * len(rows) if outside is None else outside.tolist(),
            strict=True,
        )
    ]


def _as_answer(row: dict[str, Any]) -> dict[str, Any]:
    times = {name: value.astimezone(UTC) for name, value in row.items() if isinstance(value, datetime)}
    return {**row, **times, "model_version": str(row["model_version"])}


def _processed(asked: str, files: Sequence[LandedFile]) -> list[str]:
    """Return the digests of the given files that have stored predictions.

    Raises
    ------
    NotFound
        None of the files has stored predictions. The message gives the reason.
    """
    processed = [file.digest for file in files if file.state == "processed"]
    if processed:
        return processed
    if not files:
        raise NotFound(
            f"No file {asked!r} was found in the landing zone. Send the path of the file in that folder, or the "
            "SHA-256 of its content. A new file is found only after it has been unchanged for "
            "PLATFORM_SENSOR_SETTLE_SECONDS."
        )
    newest = files[0]
    if newest.state == "set_aside":
        raise NotFound(f"The file {asked!r} has no predictions: {newest.reason}.")
    if newest.state == "landed":
        raise NotFound(
            f"The file {asked!r} was loaded, but has no predictions yet. The next run of predict_sensor_maintenance "
            f"makes them, if {MODEL.name} has a champion."
        )
    told = f" It cannot be read now: {newest.reason}." if newest.reason else ""
    raise NotFound(
        f"The file {asked!r} has no predictions yet. The next run of predict_sensor_maintenance loads it.{told}"
    )
