"""Credit risk over HTTP: a client's features of the most recent date, and the risk that the champion sees in them."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from platform_assets.base.errors import NotFound
from platform_assets.base.json_values import JSON
from platform_assets.domains.credit_risk.model import MODEL
from platform_assets.domains.credit_risk.schemas import CLIENT_FEATURES, FEATURES
from platform_assets.models.fitted_model import ROWS_AT_ONCE
from platform_assets.serving.one_or_many import Key, NothingFound, OneOrMany, UpTo1000

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from platform_assets.services import Services
    from platform_assets.serving.predictor import Asked, Predicted

NAMES = [feature.name for feature in FEATURES]
FEW = ROWS_AT_ONCE
"""Clients who are answered on the event loop."""
TOLD = {feature.name: feature.description for feature in FEATURES}
ClientId = Annotated[Key, Field(description="Number of the client.", examples=[5008804])]
_ONE, _OTHER, _NOBODY = 5008804, 5008806, 9999999


class Features(BaseModel):
    """What is known of a client, as of the newest loan."""

    nb_previous_loans: Annotated[int, Field(description=TOLD["nb_previous_loans"])]
    avg_amount_loans_previous: Annotated[float | None, Field(description=TOLD["avg_amount_loans_previous"])]
    age: Annotated[int, Field(description=TOLD["age"])]
    years_on_the_job: Annotated[int | None, Field(description=TOLD["years_on_the_job"])]
    flag_own_car: Annotated[int, Field(description=TOLD["flag_own_car"])]


Missing = Annotated[list[str], Field(description="Names of the features that are null.")]
AsOf = Annotated[date, Field(description="Date of the client's newest loan, as of which the features hold.")]


class FeaturesOfClient(Features):
    """The features of one client."""

    client_id: ClientId
    as_of: AsOf
    missing: Missing


class Prediction(BaseModel):
    """The risk of one client, and what it was made of."""

    client_id: ClientId
    probability: Annotated[float, Field(ge=0, le=1, description="That a loan is not paid back on time.")]
    decision: Annotated[
        Literal["high_risk", "low_risk"], Field(description="Whether the probability reaches the threshold.")
    ]
    threshold: float
    model_version: Annotated[str, Field(description="The version that answered; one for all clients of a request.")]
    approval_id: Annotated[int, Field(description="The request by which a person approved that version.")]
    features: Features
    missing: Missing
    as_of: AsOf


class UnknownClient(NothingFound):
    """In the place of a client of whom there is nothing."""

    client_id: ClientId


class Predictions(BaseModel):
    """The risks of several clients, in the order in which they were asked for."""

    predictions: list[Prediction | UnknownClient]


class Clients(OneOrMany):
    """One client, or up to 1,000."""

    client_id: ClientId = 0
    client_ids: UpTo1000[ClientId] = Field(default_factory=list)


_EXAMPLE_FEATURES = {
    "nb_previous_loans": 14,
    "avg_amount_loans_previous": 123.25,
    "age": 38,
    "years_on_the_job": 9,
    "flag_own_car": 1,
}
_EXAMPLE = {
    "client_id": _ONE,
    "probability": 0.0421,
    "decision": "low_risk",
    "threshold": 0.0655,
    "model_version": "3",
    "approval_id": 7,
    "features": _EXAMPLE_FEATURES,
    "missing": [],
    "as_of": "2021-04-30",
}
_EXAMPLES_ASKED = {
    "one client": {"value": {"client_id": _ONE}},
    "several clients": {"value": {"client_ids": [_ONE, _NOBODY]}},
}
_EXAMPLES_ANSWERED = {
    "one client": {"value": _EXAMPLE},
    "several clients": {"value": {"predictions": [_EXAMPLE, {"client_id": _NOBODY, "error": "not_found"}]}},
}


def router(services: Services) -> APIRouter:
    """The routes.

    Parameters
    ----------
    services
        Where features and the champion are.
    """
    routes = APIRouter(tags=["credit risk"])

    @routes.get(
        "/features/credit-risk/{client_id}",
        response_model=FeaturesOfClient,
        responses={200: {"content": {JSON: {"example": _flat(_EXAMPLE)}}}},
    )
    async def show_features_of_client(
        client_id: Annotated[Key, Path(description="Number of the client.", examples=[_ONE])],
    ) -> Response:
        """The five features of a client, as of the newest loan."""
        row = await services.online.get(CLIENT_FEATURES.name, client_id=client_id)
        if row is None:
            raise _unknown(client_id)
        return _json(FeaturesOfClient(**row, missing=_missing(row)))

    @routes.post(
        "/predictions/credit-risk",
        response_model=Prediction | Predictions,
        responses={200: {"content": {JSON: {"examples": _EXAMPLES_ANSWERED}}}},
        openapi_extra={"requestBody": {"content": {JSON: {"examples": _EXAMPLES_ASKED}}}},
    )
    async def predict_credit_risk(clients: Clients, request: Request) -> Response:
        """How likely it is that a client does not pay a loan back on time: for one client, or for many at once."""
        ids = clients.client_ids if clients.is_many else [clients.client_id]
        rows = await services.online.get_many(CLIENT_FEATURES.name, "client_id", ids)
        # A thread costs a third of what few rows take, and would hold the interpreter just as long; many would keep all
        # others waiting.
        if len(ids) <= FEW:
            answers = _predictions(services, ids, rows, request.state.asked)
        else:
            answers = await run_in_threadpool(_predictions, services, ids, rows, request.state.asked)
        if clients.is_many:
            return _json(Predictions(predictions=answers))
        [answer] = answers
        if isinstance(answer, UnknownClient):
            raise _unknown(answer.client_id)
        return _json(answer)

    return routes


def _predictions(
    services: Services, ids: Sequence[int], rows: Mapping[int, Mapping[str, Any]], asked: Asked
) -> list[Prediction | UnknownClient]:
    known = [client for client in ids if client in rows]
    if not known:
        return [UnknownClient(client_id=client) for client in ids]
    predicted = services.predictor.predict(MODEL.name, known, [rows[client] for client in known], asked)
    scores = iter(range(len(known)))
    return [
        _prediction(rows[client], predicted, next(scores)) if client in rows else UnknownClient(client_id=client)
        for client in ids
    ]


def _prediction(row: Mapping[str, Any], predicted: Predicted, place: int) -> Prediction:
    live = predicted.live
    return Prediction(
        client_id=row["client_id"],
        probability=float(predicted.scores[place]),
        decision="high_risk" if predicted.positive[place] else "low_risk",
        threshold=live.threshold,
        model_version=str(live.version),
        approval_id=live.approval_id,
        features=Features(**{name: row[name] for name in NAMES}),
        missing=_missing(row),
        as_of=row["as_of"],
    )


def _missing(row: Mapping[str, Any]) -> list[str]:
    return [name for name in NAMES if row[name] is None]


def _unknown(client_id: int) -> NotFound:
    return NotFound(f"There is no client {client_id}: no loan of such a client is among those that were delivered.")


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type=JSON)


def _flat(prediction: Mapping[str, Any]) -> dict[str, Any]:
    others = {name: prediction[name] for name in ("client_id", "as_of", "missing")}
    return {**others, **prediction["features"]}
