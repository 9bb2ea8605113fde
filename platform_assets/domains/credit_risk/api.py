"""Credit risk over HTTP: a client's newest features, and the champion's prediction from them."""

from __future__ import annotations

from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field

from platform_assets.base.errors import NotFound
from platform_assets.base.json_values import JSON
from platform_assets.domains.credit_risk.model import MODEL
from platform_assets.domains.credit_risk.schemas import CLIENT_FEATURES, FEATURES
from platform_assets.models.fitted_model import ROWS_AT_ONCE
from platform_assets.serving.prediction_fields import ApprovalId, common_fields, version_of_all
from platform_assets.web.one_or_many import (
    Example,
    Key,
    NothingFound,
    OneOrMany,
    UpTo1000,
    documentation,
    in_their_places,
    respond,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from platform_assets.services import Services
    from platform_assets.web.request_identity import Asked

NAMES = [feature.name for feature in FEATURES]
TOLD = {feature.name: feature.description for feature in FEATURES}
ClientId = Annotated[Key, Field(description="Id of the client.", examples=[5008804])]
_ONE, _NOBODY = 5008804, 9999999


class Features(BaseModel):
    """The features of a client, as of the newest loan."""

    nb_previous_loans: Annotated[int, Field(description=TOLD["nb_previous_loans"])]
    avg_amount_loans_previous: Annotated[float | None, Field(description=TOLD["avg_amount_loans_previous"])]
    age: Annotated[int, Field(description=TOLD["age"])]
    years_on_the_job: Annotated[int | None, Field(description=TOLD["years_on_the_job"])]
    flag_own_car: Annotated[int, Field(description=TOLD["flag_own_car"])]


Missing = Annotated[list[str], Field(description="Names of the features that are null.")]
AsOf = Annotated[date, Field(description="Date of the client's newest loan. The features are computed as of this day.")]


class FeaturesOfClient(Features):
    """The features of one client."""

    client_id: ClientId
    as_of: AsOf
    missing: Missing


class Prediction(BaseModel):
    """The predicted risk of one client, with the features that it was computed from."""

    client_id: ClientId
    probability: Annotated[float, Field(ge=0, le=1, description="Probability that a loan is not repaid on time.")]
    decision: Annotated[
        Literal["high_risk", "low_risk"], Field(description="`high_risk` if the probability is at least the threshold.")
    ]
    threshold: float
    model_version: Annotated[str, version_of_all("clients")]
    approval_id: ApprovalId
    features: Features
    missing: Missing
    as_of: AsOf


class UnknownClient(NothingFound):
    """Returned for an unknown client within a list."""

    client_id: ClientId

    def problem(self) -> NotFound:
        """Return the 404 error, for a request that names only this client."""
        return NotFound(f"There is no client {self.client_id}: no valid loan of this client has been loaded.")


class Predictions(BaseModel):
    """Predictions for several clients, in the order of the request."""

    predictions: list[Prediction | UnknownClient]


class Clients(OneOrMany):
    """Request for the prediction of one client, or of up to 1,000 clients."""

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
_EXAMPLES = (
    Example("one client", {"client_id": _ONE}, _EXAMPLE),
    Example(
        "several clients",
        {"client_ids": [_ONE, _NOBODY]},
        {"predictions": [_EXAMPLE, {"client_id": _NOBODY, "error": "not_found"}]},
    ),
)


def router(services: Services) -> APIRouter:
    """Return the routes of credit risk.

    Parameters
    ----------
    services
        Services that provide the features and the champion.
    """
    routes = APIRouter(tags=["credit risk"])

    @routes.get(
        "/features/credit-risk/{client_id}",
        response_model=FeaturesOfClient,
        responses={200: {"content": {JSON: {"example": _flat(_EXAMPLE)}}}},
    )
    async def show_features_of_client(
        client_id: Annotated[Key, Path(description="Id of the client.", examples=[_ONE])],
    ) -> Response:
        """Return the five features of a client, as of the newest loan."""
        row = await services.online.get(CLIENT_FEATURES.name, client_id=client_id)
        if row is None:
            raise UnknownClient(client_id=client_id).problem()
        return Response(FeaturesOfClient(**row, missing=_missing(row)).model_dump_json(), media_type=JSON)

    @routes.post("/predictions/credit-risk", **documentation(Prediction | Predictions, _EXAMPLES))
    async def predict_credit_risk(clients: Clients, request: Request) -> Response:
        """Predict the probability that a client does not repay a loan on time, for one client or up to 1,000."""
        ids = clients.items
        rows = await services.online.get_many(CLIENT_FEATURES.name, "client_id", ids)
        predict = partial(_predictions, services, request.state.asked)
        answers = partial(in_their_places, ids, rows, predict, lambda client: UnknownClient(client_id=client))
        return await respond(clients, answers, Predictions, few=ROWS_AT_ONCE)

    return routes


def _predictions(
    services: Services, asked: Asked, clients: Sequence[int], rows: Sequence[Mapping[str, Any]]
) -> list[Prediction]:
    predicted = services.predictor.predict(MODEL.name, clients, rows, asked)
    common = common_fields(predicted)
    return [
        Prediction(
            client_id=row["client_id"],
            probability=probability,
            decision="high_risk" if positive else "low_risk",
            features=Features(**{name: row[name] for name in NAMES}),
            missing=_missing(row),
            as_of=row["as_of"],
            **common,
        )
        for row, probability, positive in zip(rows, predicted.scores.tolist(), predicted.positive.tolist(), strict=True)
    ]


def _missing(row: Mapping[str, Any]) -> list[str]:
    return [name for name in NAMES if row[name] is None]


def _flat(prediction: Mapping[str, Any]) -> dict[str, Any]:
    others = {name: prediction[name] for name in ("client_id", "as_of", "missing")}
    return {**others, **prediction["features"]}
