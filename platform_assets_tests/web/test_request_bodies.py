"""Strict parsing of requests: duplicate fields, encodings other than UTF-8, and numbers such as NaN are refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from platform_assets.web.problems import LONGEST_NAME, MOST_ERRORS, Problem
from platform_assets.web.request_bodies import MOST_FIELDS, parse
from platform_assets_tests.service import People, api

if TYPE_CHECKING:
    from fastapi import FastAPI

PREDICTIONS = "/predictions/sentence-relevance"


@pytest.mark.parametrize("body", [b'{"a": [1, {"b": null}], "c": 1.5}', b"[]", b'"\\u00e4"', b"17"])
def test_valid_json_is_parsed_as_the_standard_library_does(body: bytes) -> None:
    assert parse(body) == json.loads(body)


@pytest.mark.requirement("SRV-3")
@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"a": 1, "b": 2, "a": 1}', "a"),
        (b'{"x": [{"a": 1, "\\u0061": 2}]}', "a"),
        (b"{" + b'"' + b"k" * 500 + b'": 1, "' + b"k" * 500 + b'": 2}', "k" * LONGEST_NAME + ".."),
        (json.dumps({str(number): 1 for number in range(MOST_FIELDS + 1)}).encode(), "body"),
        (b"[NaN]", "body"),
        (b"-Infinity", "body"),
        (b"", "body"),
        (b"{", "body"),
        (b"\xff", "body"),
        (b"[" * 100_000, "body"),
        (b"9" * 10_000, "body"),
    ],
)
def test_invalid_json_gets_422_and_the_error_names_the_field(body: bytes, field: str) -> None:
    with pytest.raises(Problem) as caught:
        parse(body)
    assert (caught.value.status_code, list(caught.value.errors)) == (422, [field])


@pytest.mark.requirement("SRV-3")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PREDICTIONS, b'{"sentence": "a fire", "sentence": "a party"}'),
        ("/predictions/credit-risk", b'{"client_id": 5000001, "client_id": 5000002}'),
        ("/approvals/{pending}/decision", b'{"decision": "approve", "decision": "reject", "reason": "worse"}'),
    ],
)
def test_a_request_with_a_duplicate_field_is_refused(
    app: FastAPI, people: People, pending: int, path: str, body: bytes
) -> None:
    key = people.anna if "decision" in path else people.program
    headers = {"Content-Type": "application/json"}
    response = api(app, key).post(path.format(pending=pending), content=body, headers=headers)
    assert response.status_code == 422
    assert "is given twice" in response.json()["detail"]


@pytest.mark.requirement("SRV-3")
@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/approvals/{pending}/decision", "decision=approve&reason=a&decision=reject"),
        ("/sign-in", "key=a&key=b&csrf_token="),
    ],
)
def test_a_form_with_a_duplicate_field_is_refused(
    app: FastAPI, people: People, pending: int, path: str, form: str
) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    response = api(app, people.anna).post(path.format(pending=pending), content=form, headers=headers)
    assert response.status_code == 422
    assert "is given twice" in response.text


@pytest.mark.requirement("SRV-3")
def test_a_duplicate_query_parameter_is_refused(app: FastAPI, people: People) -> None:
    response = api(app, people.rita).get("/approvals?state=pending&state=approved")
    assert response.status_code == 422
    assert response.json()["detail"] == "state: This field is given twice; send one value."


@pytest.mark.requirement("SRV-3")
@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json; charset=UTF-8", 503),
        ('application/json;Charset="utf-8"', 503),
        ("application/json; charset=latin-1", 415),
        ("application/json; charset='utf-16'", 415),
    ],
)
def test_a_body_whose_declared_charset_is_not_utf8_gets_415(
    app: FastAPI, people: People, kind: str, status: int
) -> None:
    body = '{"sentence": "Ã©"}'.encode("latin-1")
    response = api(app, people.program).post(PREDICTIONS, content=body, headers={"Content-Type": kind})
    # Without a champion, a valid request gets 503.
    assert response.status_code == status
    assert status != 415 or "send UTF-8" in response.json()["detail"]


@pytest.mark.requirement("SRV-3")
@pytest.mark.parametrize("fields", [MOST_FIELDS - 1, 40_000])
def test_a_request_with_many_unknown_fields_gets_a_short_response(app: FastAPI, people: People, fields: int) -> None:
    body = {"sentence": "a fire", "k" * 5_000: 1} | {f"x{number}": 1 for number in range(fields - 1)}
    response = api(app, people.program).post(PREDICTIONS, json=body)
    assert response.status_code == 422
    assert len(response.content) < 10_000
    found = response.json()
    assert len(found["errors"]) <= MOST_ERRORS
    assert f"{fields - MOST_ERRORS:,} more" in found["detail"] or f"has {fields + 1:,} fields" in found["detail"]
