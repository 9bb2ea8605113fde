"""Sentence relevance over HTTP: the champion's prediction for a sentence."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, BaseModel, Field

from platform_assets.base.printable_text import VISIBLE, is_visible
from platform_assets.domains.sentence_relevance.model import MODEL
from platform_assets.domains.sentence_relevance.schemas import NOT_RELEVANT, RELEVANT, TEXT
from platform_assets.serving.prediction_fields import ApprovalId, common_fields, version_of_all
from platform_assets.web.one_or_many import Example, OneOrMany, UpTo1000, documentation, respond

if TYPE_CHECKING:
    from collections.abc import Sequence

    from platform_assets.services import Services
    from platform_assets.web.request_identity import Asked

LONGEST = 10_000
"""Maximum length of a sentence, in characters."""


def _with_text(sentence: str) -> str:
    if not is_visible(sentence):
        raise ValueError("The sentence has no visible characters; send some text.")
    try:
        sentence.encode()
    except UnicodeEncodeError:
        raise ValueError("The sentence contains an unpaired surrogate, which UTF-8 cannot encode; remove it.") from None
    return sentence


Sentence = Annotated[
    str,
    AfterValidator(_with_text),
    Field(
        min_length=1,
        max_length=LONGEST,
        # The OpenAPI schema only documents the pattern. `_with_text` enforces it, with a clearer message.
        json_schema_extra={"pattern": VISIBLE},
        description="The original sentence. The model cleans it.",
        examples=["Forest fire near La Ronge, hundreds evacuated http://t.co/x1"],
    ),
]


class Sentences(OneOrMany):
    """A single sentence, or a list of up to 1,000 sentences."""

    sentence: Sentence = ""
    sentences: UpTo1000[Sentence] = Field(default_factory=list)


class Prediction(BaseModel):
    """The champion's prediction for a sentence."""

    relevant: Annotated[bool, Field(description="True if the score is at least the threshold.")]
    label: Annotated[Literal["Relevant", "Not Relevant"], Field(description="The decision as a label.")]
    score: Annotated[float, Field(ge=0, le=1, description="Probability that the sentence is relevant.")]
    threshold: float
    model_version: Annotated[str, version_of_all("sentences")]
    approval_id: ApprovalId


class Predictions(BaseModel):
    """Predictions for several sentences, in the order of the request."""

    predictions: list[Prediction]


_ANSWER = {"threshold": 0.434, "model_version": "3", "approval_id": 7}
_YES = {"relevant": True, "label": RELEVANT, "score": 0.9312, **_ANSWER}
_NO = {"relevant": False, "label": NOT_RELEVANT, "score": 0.0871, **_ANSWER}
_FIRE, _PARTY = "Forest fire near La Ronge, hundreds evacuated", "This party is on fire!!! @you"
EXAMPLES = (
    Example("one sentence", {"sentence": _FIRE}, _YES),
    Example("several sentences", {"sentences": [_FIRE, _PARTY]}, {"predictions": [_YES, _NO]}),
)


def router(services: Services) -> APIRouter:
    """Return the route of sentence relevance.

    Parameters
    ----------
    services
        Services that provide the champion.
    """
    routes = APIRouter(tags=["sentence relevance"])

    @routes.post("/predictions/sentence-relevance", **documentation(Prediction | Predictions, EXAMPLES))
    async def predict_sentence_relevance(sent: Sentences, request: Request) -> Response:
        """Predict whether a sentence is about a real disaster, for one sentence or up to 1,000."""
        return await respond(sent, partial(_predictions, services, request.state.asked, sent.items), Predictions)

    return routes


def _predictions(services: Services, asked: Asked, sentences: Sequence[str]) -> list[Prediction]:
    rows = [{TEXT.name: sentence} for sentence in sentences]
    # A sentence has no id to log, so all ids are None.
    predicted = services.predictor.predict(MODEL.name, [None] * len(rows), rows, asked)
    common = common_fields(predicted)
    return [
        Prediction(relevant=relevant, label=RELEVANT if relevant else NOT_RELEVANT, score=score, **common)
        for score, relevant in zip(predicted.scores.tolist(), predicted.positive.tolist(), strict=True)
    ]
