"""Sentence relevance over HTTP: a sentence in, whether the champion takes it for relevant out."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, BaseModel, Field

from platform_assets.domains.sentence_relevance.model import MODEL
from platform_assets.domains.sentence_relevance.schemas import NOT_RELEVANT, RELEVANT, TEXT
from platform_assets.serving.prediction_fields import ApprovalId, common_fields, version_of_all
from platform_assets.web.one_or_many import Example, OneOrMany, UpTo1000, documentation, respond

if TYPE_CHECKING:
    from collections.abc import Sequence

    from platform_assets.services import Services
    from platform_assets.web.request_identity import Asked

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
        examples=["Forest fire near La Ronge, hundreds evacuated http://t.co/x1"],
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
    model_version: Annotated[str, version_of_all("sentences")]
    approval_id: ApprovalId


class Predictions(BaseModel):
    """What the champion says of several sentences, in the order in which they were sent."""

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
    """The route.

    Parameters
    ----------
    services
        Where the champion is.
    """
    routes = APIRouter(tags=["sentence relevance"])

    @routes.post("/predictions/sentence-relevance", **documentation(Prediction | Predictions, EXAMPLES))
    async def predict_sentence_relevance(sent: Sentences, request: Request) -> Response:
        """Whether a sentence tells of a real disaster: for one sentence, or for many at once."""
        return await respond(sent, partial(_predictions, services, request.state.asked, sent.items), Predictions)

    return routes


def _predictions(services: Services, asked: Asked, sentences: Sequence[str]) -> list[Prediction]:
    rows = [{TEXT.name: sentence} for sentence in sentences]
    # A sentence has no name by which it could be found in the log.
    predicted = services.predictor.predict(MODEL.name, [None] * len(rows), rows, asked)
    common = common_fields(predicted)
    return [
        Prediction(relevant=relevant, label=RELEVANT if relevant else NOT_RELEVANT, score=score, **common)
        for score, relevant in zip(predicted.scores.tolist(), predicted.positive.tolist(), strict=True)
    ]
