"""Tests of the HTTP endpoint: predictions for raw sentences, and clear errors for invalid input."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from platform_assets.app import application
from platform_assets.domains import sentence_relevance
from platform_assets.domains.sentence_relevance.api import EXAMPLES, LONGEST
from platform_assets.domains.sentence_relevance.model import MODEL
from platform_assets.domains.sentence_relevance.schemas import LABELS, TEXT
from platform_assets.serving.bundles import BundledChampion, open_bundle
from platform_assets_tests.postgres import wait_until
from platform_assets_tests.service import api, wait_until_live
from platform_assets_tests.serving import sentences
from platform_assets_tests.test_app import problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI
    from starlette.testclient import TestClient

    from platform_assets.models.fitted_model import FittedModel
    from platform_assets.services import Services
    from platform_assets_tests.service import People

ROOT = Path(sentence_relevance.__file__).parents[3]
PREDICTIONS = "/predictions/sentence-relevance"
FIRE, PARTY = "Forest fire near La Ronge, hundreds evacuated", "I love this party song lol"


@pytest.fixture(scope="module")
def model() -> FittedModel:
    return sentences.fitted()


@pytest.fixture(scope="module")
def champion(services: Services, model: FittedModel) -> int:
    """Make the model the champion, and return the id of its approval request."""
    return sentences.crown(services, model, 3)


@pytest.fixture(scope="module")
def app(services: Services, champion: int) -> Iterator[FastAPI]:
    assert champion
    app = application(services)
    with api(app):
        wait_until_live(services, MODEL.name)
        yield app


@pytest.fixture(scope="module")
def desk(app: FastAPI, people: People) -> TestClient:
    """HTTP client whose API key has the scope `predict`."""
    return api(app, people.program)


@pytest.mark.requirement("REL-4")
def test_the_shipped_model_classifies_the_examples_in_the_docs_correctly() -> None:
    pages = [
        ROOT / "README.md",
        *(ROOT / "docs").glob("*.md"),
        Path(sentence_relevance.__file__).with_name("README.md"),
    ]
    shown = {found for page in pages for found in re.findall(r'"sentence": "([^"]+)"', page.read_text("utf-8"))}
    assert FIRE in shown
    bundle = open_bundle(ROOT / "docker" / "sentence_relevance")
    assert bundle.threshold is not None
    shipped = BundledChampion(bundle).load(bundle.digest)
    expected = dict.fromkeys(shown, True) | {PARTY: False}
    for _, asked, answered in EXAMPLES:
        answers = answered.get("predictions", [answered])
        sent = asked.get("sentences", [asked.get("sentence")])
        expected |= {sentence: answer["relevant"] for sentence, answer in zip(sent, answers, strict=True)}
    scores = shipped.scores(pd.DataFrame({TEXT.name: list(expected)}))
    assert dict(zip(expected, scores >= bundle.threshold, strict=True)) == expected


# Answers


@pytest.mark.requirement("REL-3")
def test_a_prediction_has_a_label_a_score_and_a_model_version(
    desk: TestClient, champion: int, model: FittedModel
) -> None:
    for sentence, relevant in ((FIRE, True), (PARTY, False)):
        found = desk.post(PREDICTIONS, json={"sentence": sentence}).json()
        assert found == {
            "relevant": relevant,
            "label": "Relevant" if relevant else "Not Relevant",
            "score": model.scores([{"text": sentence}])[0],
            "threshold": sentences.THRESHOLD,
            "model_version": "3",
            "approval_id": champion,
        }
        assert found["label"] in LABELS


@pytest.mark.requirement("REL-3", "SRV-2")
def test_predictions_for_a_list_equal_those_for_single_sentences(desk: TestClient) -> None:
    sent = [PARTY, FIRE, PARTY, "fire", "\N{FIRE}"] * 200
    found = desk.post(PREDICTIONS, json={"sentences": sent}).json()["predictions"]
    alone = [desk.post(PREDICTIONS, json={"sentence": sentence}).json() for sentence in sent[:5]]
    assert found == alone * 200
    assert [one["relevant"] for one in found[:4]] == [False, True, False, True]


@pytest.mark.requirement("REL-3")
def test_a_raw_sentence_gets_the_score_of_its_cleaned_text(desk: TestClient) -> None:
    raw = f"  RT @BBC_News: {FIRE.upper()}!!! &amp; #evacuated http://t.co/a1 \N{FIRE}\n"
    cleaned = f"rt {FIRE.lower().replace(',', ' ')} evacuated"
    scores = [desk.post(PREDICTIONS, json={"sentence": text}).json()["score"] for text in (raw, cleaned)]
    assert scores[0] == scores[1]


@pytest.mark.requirement("REL-3")
def test_every_text_and_its_prediction_are_logged(desk: TestClient, services: Services, champion: int) -> None:
    texts = [FIRE, "a\x00b fire", "\N{FIRE}\N{PILE OF POO}", "x" * LONGEST, "'; drop table platform.predictions --"]
    request_id = desk.post(PREDICTIONS, json={"sentences": texts}).headers["x-request-id"]

    def logged() -> list[Any]:
        with services.database.connect("platform", 2.0) as connection:
            return connection.execute(
                "select features->>'text', subject, caller, approval_id, positive from platform.predictions"
                " where request_id = %s order by place",
                [request_id],
            ).fetchall()

    wait_until(lambda: len(logged()) == len(texts), "the predictions were logged")
    found = logged()
    assert [row[0] for row in found] == [text.replace("\x00", "\ufffd") for text in texts]
    assert {row[1:4] for row in found} == {(None, "shop", champion)}
    assert found[0][4] is True


# Invalid input

HUGE = "fire " * 200_000
HALF_A_BODY = "fire " * 50_000
BODIES: dict[str, tuple[Any, int, str]] = {
    "empty": ({"sentence": ""}, 422, "sentence"),
    "blank": ({"sentence": " \t\n"}, 422, "sentence"),
    "other blanks": ({"sentence": "\u2003\u00a0\u0085\x1f\ufeff"}, 422, "sentence"),
    "one empty of several": ({"sentences": [FIRE, "", FIRE]}, 422, "sentences.1"),
    "none": ({"sentence": None}, 422, "sentence"),
    "a number": ({"sentence": 5}, 422, "sentence"),
    "a list as one": ({"sentence": [FIRE]}, 422, "sentence"),
    "one as a list": ({"sentences": FIRE}, 422, "sentences"),
    "an object": ({"sentences": [{"text": FIRE}]}, 422, "sentences.0"),
    "both": ({"sentence": FIRE, "sentences": [FIRE]}, 422, "body"),
    "neither": ({}, 422, "body"),
    "one more field": ({"sentence": FIRE, "model": "mine"}, 422, "model"),
    "too many": ({"sentences": [FIRE] * 1_001}, 422, "sentences"),
    "too long": ({"sentence": "x" * (LONGEST + 1)}, 422, "sentence"),
    "half a pair": ('{"sentence": "fire \\ud800"}', 422, "sentence"),
    "half a pair in a list": ('{"sentences": ["fire", "\\udc00"]}', 422, "sentences.1"),
    "no UTF-8": (b'{"sentence": "\xff\xfe"}', 422, "body"),
    "half a body": ({"sentence": HALF_A_BODY}, 422, "sentence"),
    "a megabyte": ({"sentence": HUGE}, 413, ""),
}


@pytest.mark.requirement("REL-3", "SRV-1")
@pytest.mark.parametrize("name", BODIES)
def test_the_error_for_an_invalid_sentence_names_the_field(desk: TestClient, name: str) -> None:
    body, status, field = BODIES[name]
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    response = desk.post(PREDICTIONS, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == status, response.text
    found = problem(response)
    assert [one["field"] for one in found.get("errors", [])] == ([field] if field else [])
    # The error must not contain the whole input.
    assert len(response.content) < 2_000


@pytest.mark.requirement("REL-3", "SRV-1")
@pytest.mark.parametrize(
    "text",
    [
        "\N{FIRE}",
        "a\x00b",
        "\u202efire\u202c",
        "\u706b\u4e8b \u043f\u043e\u0436\u0430\u0440",
        "<script>alert(1)</script>",
        "&#0; &#x110000; &#xd800;",
        "e\u0301" * 4_000,
        "\ufdfa" * LONGEST,
        "http" * 2_500,
        "a." * 5_000,
        "\U000e0041\ufeff\u2060 fire",
    ],
)
def test_hostile_text_gets_a_score(desk: TestClient, text: str) -> None:
    response = desk.post(PREDICTIONS, json={"sentence": text})
    assert response.status_code == 200
    assert 0 < response.json()["score"] < 1


def test_an_empty_list_returns_an_empty_list(desk: TestClient) -> None:
    assert desk.post(PREDICTIONS, json={"sentences": []}).json() == {"predictions": []}


# Permissions and documentation


@pytest.mark.requirement("SRV-1")
def test_only_keys_with_the_scope_predict_are_accepted(app: FastAPI, people: People) -> None:
    asked = {secret: api(app, secret).post(PREDICTIONS, json={"sentence": FIRE}).status_code for secret in ("", "x")}
    assert asked == {"": 401, "x": 401}
    assert api(app, people.rita).post(PREDICTIONS, json={"sentence": FIRE}).status_code == 403


@pytest.mark.requirement("REL-3", "SRV-1")
def test_the_documented_examples_have_the_same_fields_as_real_responses(desk: TestClient, app: FastAPI) -> None:
    described = app.openapi()["paths"][PREDICTIONS]["post"]
    asked = described["requestBody"]["content"]["application/json"]["examples"]
    answered = described["responses"]["200"]["content"]["application/json"]["examples"]
    assert asked.keys() == answered.keys()
    for name, example in asked.items():
        found = desk.post(PREDICTIONS, json=example["value"]).json()
        told = answered[name]["value"]
        assert found.keys() == told.keys()
        for one, other in zip(found.get("predictions", [found]), told.get("predictions", [told]), strict=True):
            assert one.keys() == other.keys()
    assert {"401", "403", "413", "415", "422", "429", "503"} <= described["responses"].keys()
