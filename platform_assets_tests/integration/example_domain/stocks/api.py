"""HTTP endpoints of stocks: a share's newest features, and the champion's prediction from these features."""

from __future__ import annotations

from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field

from platform_assets.base.errors import NotFound
from platform_assets.base.json_values import JSON
from platform_assets.domains.stocks.model import MODEL
from platform_assets.domains.stocks.schemas import NEWEST_FEATURES
from platform_assets.serving.prediction_fields import ApprovalId, common_fields, version_of_all
from platform_assets.web.one_or_many import (
    Example,
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

PATTERN = r"^[A-Z0-9.]{1,12}$"
Symbol = Annotated[str, Field(pattern=PATTERN, description=NEWEST_FEATURES.columns[0].description, examples=["AAA"])]


class Features(BaseModel):
    """The features of one share, as of its newest trading day."""

    symbol: Symbol
    as_of: date
    return_1d: float | None
    return_3d: float | None
    volume_ratio: float | None


class Prediction(BaseModel):
    """The prediction for one share."""

    symbol: Symbol
    as_of: date
    probability: Annotated[float, Field(ge=0, le=1, description="Probability that the next close is higher.")]
    rises: Annotated[bool, Field(description="Whether the probability reaches the threshold.")]
    threshold: float
    model_version: Annotated[str, version_of_all("shares")]
    approval_id: ApprovalId


class UnknownShare(NothingFound):
    """Result for an unknown share in a request for several shares."""

    symbol: Symbol

    def problem(self) -> NotFound:
        """Return the error for a request for one share."""
        return NotFound(f"Unknown share {self.symbol}: the source has no prices for it.")


class Predictions(BaseModel):
    """Predictions for several shares, in the order of the request."""

    predictions: list[Prediction | UnknownShare]


class Shares(OneOrMany):
    """Request for one share, or for a list of up to 1,000."""

    symbol: Symbol = ""
    symbols: UpTo1000[Symbol] = Field(default_factory=list)


_EXAMPLE = {
    "symbol": "AAA",
    "as_of": "2026-01-30",
    "probability": 0.61,
    "rises": True,
    "threshold": 0.45,
    "model_version": "3",
    "approval_id": 7,
}
_EXAMPLES = (
    Example("one share", {"symbol": "AAA"}, _EXAMPLE),
    Example("several shares", {"symbols": ["AAA"]}, {"predictions": [_EXAMPLE]}),
)


def router(services: Services) -> APIRouter:
    """Return the routes.

    Parameters
    ----------
    services
        Services that provide the features and the champion.
    """
    routes = APIRouter(tags=["stocks"])

    @routes.get("/features/stocks/{symbol}", response_model=Features)
    async def show_features_of_share(symbol: Annotated[str, Path(pattern=PATTERN, examples=["AAA"])]) -> Response:
        """Return the features of a share, as of its newest trading day."""
        row = await services.online.get(NEWEST_FEATURES.name, symbol=symbol)
        if row is None:
            raise UnknownShare(symbol=symbol).problem()
        return Response(Features(**row).model_dump_json(), media_type=JSON)

    @routes.post("/predictions/stocks", **documentation(Prediction | Predictions, _EXAMPLES))
    async def predict_stocks(shares: Shares, request: Request) -> Response:
        """Predict the probability that a share rises on its next trading day, for one share or up to 1,000."""
        rows = await services.online.get_many(NEWEST_FEATURES.name, "symbol", shares.items)
        predict = partial(_predictions, services, request.state.asked)
        answers = partial(in_their_places, shares.items, rows, predict, lambda symbol: UnknownShare(symbol=symbol))
        return await respond(shares, answers, Predictions)

    return routes


def _predictions(
    services: Services, asked: Asked, symbols: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> list[Prediction]:
    predicted = services.predictor.predict(MODEL.name, symbols, rows, asked)
    common = common_fields(predicted)
    return [
        Prediction(symbol=row["symbol"], as_of=row["as_of"], probability=probability, rises=rises, **common)
        for row, probability, rises in zip(rows, predicted.scores.tolist(), predicted.positive.tolist(), strict=True)
    ]
