"""Sentence relevance over HTTP: a sentence in, whether the champion takes it for relevant out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, BaseModel, Field

from platform_assets.base.json_values import JSON
from platform_assets.domains.sentence_relevance.model import MODEL
from platform_assets.domains.sentence_relevance.schemas import NOT_RELEVANT, RELEVANT, TEXT
from platform_assets.serving.one_or_many import OneOrMany, UpTo1000

if TYPE_CHECKING:
    from platform_assets.services import Services
    from platform_assets.serving.predictor import Predicted

LONGEST = 10_000
"""Characters of a sentence; who sends more sends something else."""
NO_BLANK = r"[^\s\u001c-\u001f\u0085\ufeff]"
"""What a sentence has to have. Spelled out what Python and JavaScript, whose rules are a schema's, differ in."""


def _with_text(sentence: str) -> str:
    if not re.search(NO_BLANK, sentence):
        raise ValueError("Give a sentence; there is no text in this one.")
    try:
        sentence.encode()
    except UnicodeEncodeError:
        raise ValueError("This is no text: it holds half of a pair of surrogates.") from None
    return sentence


Sentence = Annotated[
    str,
    AfterValidator(_with_text),
    Field(
        min_length=1,
        max_length=LONGEST,
        # Told by the description, and checked above with words of our own.
        json_schema_extra={"pattern": NO_BLANK},
        description="What somebody wrote, as it was written: the model cleans it by itself.",
        examples=["Forest fire near La Ronge Sask. Canada http://t.co/x1"],
    ),
]


class Sentences(OneOrMany):
    """One sentence, or up to 1,000."""

    sentence: Sentence = ""
    sentences: UpTo1000[Sentence] = Field(default_factory=list)


class Prediction(BaseModel):
    """What the champion says of a sentence."""

    relevant: Annotated[bool, Field(description="Whether the score reaches the threshold.")]
    label: Annotated[Literal["Relevant", "Not Relevant"], Field(description="The same, as people label sentences.")]
    score: Annotated[float, Field(ge=0, le=1, description="Probability that the sentence is relevant.")]
    threshold: float
    model_version: Annotated[str, Field(description="The version that answered; one for all sentences of a request.")]
    approval_id: Annotated[int, Field(description="The request by which a person approved that version.")]


class Predictions(BaseModel):
    """What the champion says of several sentences, in the order in which they were sent."""

    predictions: list[Prediction]


_ANSWER = {"threshold": 0.434, "model_version": "3", "approval_id": 7}
_YES = {"relevant": True, "label": RELEVANT, "score": 0.9312, **_ANSWER}
_NO = {"relevant": False, "label": NOT_RELEVANT, "score": 0.0871, **_ANSWER}
_FIRE, _PARTY = "Forest fire near La Ronge Sask. Canada", "This party is on fire!!! @you"
_EXAMPLES_ASKED = {
    "one sentence": {"value": {"sentence": _FIRE}},
    "several sentences": {"value": {"sentences": [_FIRE, _PARTY]}},
}
_EXAMPLES_ANSWERED = {
    "one sentence": {"value": _YES},
    "several sentences": {"value": {"predictions": [_YES, _NO]}},
}


def router(services: Services) -> APIRouter:
    """The route.

    Parameters
    ----------
    services
        Where the champion is.
    """
    routes = APIRouter(tags=["sentence relevance"])

    @routes.post(
        "/predictions/sentence-relevance",
        response_model=Prediction | Predictions,
        responses={200: {"content": {JSON: {"examples": _EXAMPLES_ANSWERED}}}},
        openapi_extra={"requestBody": {"content": {JSON: {"examples": _EXAMPLES_ASKED}}}},
    )
    def predict_sentence_relevance(sent: Sentences, request: Request) -> Response:
        """Whether a sentence tells of a real disaster: for one sentence, or for many at once."""
        sentences = sent.sentences if sent.is_many else [sent.sentence]
        rows = [{TEXT.name: sentence} for sentence in sentences]
        # A sentence has no name by which it could be found in the log.
        predicted = services.predictor.predict(MODEL.name, [None] * len(rows), rows, request.state.asked)
        answers = [_prediction(predicted, place) for place in range(len(rows))]
        answer = Predictions(predictions=answers) if sent.is_many else answers[0]
        return Response(answer.model_dump_json(), media_type=JSON)

    return routes


def _prediction(predicted: Predicted, place: int) -> Prediction:
    live, relevant = predicted.live, bool(predicted.positive[place])
    return Prediction(
        relevant=relevant,
        label=RELEVANT if relevant else NOT_RELEVANT,
        score=float(predicted.scores[place]),
        threshold=live.threshold,
        model_version=str(live.version),
        approval_id=live.approval_id,
    )
