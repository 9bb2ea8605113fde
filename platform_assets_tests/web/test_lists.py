"""The list of approval requests: open requests first, filters, pages and their links."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from platform_assets_tests.approval.evidence_proposals import MODEL, OVER, proposal
from platform_assets_tests.approval.proposals import BERT
from platform_assets_tests.service import People, Visitor, api
from platform_assets_tests.test_app import problem

if TYPE_CHECKING:
    from fastapi import FastAPI

    from platform_assets.services import Services


@pytest.fixture(scope="module")
def seven(services: Services) -> None:
    """Create seven requests: 1 is rejected, 2 to 4 are superseded, 5 is pending, 6 is approved and 7 has expired."""
    ledger = services.ledger
    ledger.decide(ledger.open_request(proposal(1, model=MODEL)).id, "reject", BERT, "no")
    for version in (2, 3, 4):
        ledger.open_request(proposal(version, model=MODEL))
    ledger.open_request(proposal(5, model=MODEL))
    ledger.decide(ledger.open_request(proposal(6, model="x_model")).id, "approve", BERT, "yes")
    ledger.open_request(proposal(7, model="late_model", policy=OVER))


@pytest.mark.requirement("PRO-4")
@pytest.mark.usefixtures("seven")
@pytest.mark.parametrize(
    ("query", "ids", "total"),
    [
        ("", [6, 5, 7, 4, 3, 2, 1], 7),
        ("?items_per_page=2", [6, 5], 7),
        ("?items_per_page=2&page=3", [1], 7),
        ("?items_per_page=2&page=4", [], 7),
        ("?page=1000000000&items_per_page=1000", [], 7),
        ("?state=SUPERSEDED", [4, 3, 2], 3),
        ("?state=EXPIRED", [7], 1),
        ("?model=x_model", [6], 1),
        ("?model=x_model&state=PENDING", [], 0),
        ("?model=%27%20or%201=1%20--", [], 0),
        ("?model=%F0%9F%92%A9", [], 0),
        ("?model=%00", [], 0),
        ("?unknown=1", [6, 5, 7, 4, 3, 2, 1], 7),
    ],
)
def test_the_list_shows_open_requests_first(
    app: FastAPI, people: People, query: str, ids: list[int], total: int
) -> None:
    response = api(app, people.rita).get(f"/approvals{query}")
    assert response.status_code == 200, response.text
    assert [one["id"] for one in response.json()] == ids
    assert response.headers["x-total-count"] == str(total)


@pytest.mark.usefixtures("seven")
@pytest.mark.parametrize(
    ("page", "links"),
    [
        (0, '</approvals?items_per_page=3&page=1>; rel="next"'),
        (1, '</approvals?items_per_page=3&page=0>; rel="prev", </approvals?items_per_page=3&page=2>; rel="next"'),
        (2, '</approvals?items_per_page=3&page=1>; rel="prev"'),
        (9, '</approvals?items_per_page=3&page=2>; rel="prev"'),
    ],
)
def test_pages_link_to_each_other(app: FastAPI, people: People, page: int, links: str) -> None:
    response = api(app, people.rita).get("/approvals", params={"items_per_page": 3, "page": page})
    assert response.headers["link"] == links
    shown = Visitor(app).sign_in(people.rita).see(f"/approvals?items_per_page=3&page={page}").text
    for part in links.split(", "):
        assert f'href="{part[1:].split(">")[0].replace("&", "&amp;")}"' in shown


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("items_per_page=0", "items_per_page"),
        ("items_per_page=1001", "items_per_page"),
        ("items_per_page=NaN", "items_per_page"),
        ("page=-1", "page"),
        ("page=1e3", "page"),
        ("page=" + "9" * 5_000, "page"),
        ("state=pending", "state"),
        ("model=" + "x" * 201, "model"),
    ],
)
def test_the_error_for_an_invalid_query_names_the_field(app: FastAPI, people: People, query: str, field: str) -> None:
    found = problem(api(app, people.rita).get(f"/approvals?{query}"))
    assert found["status"] == 422
    assert [one["field"] for one in found["errors"]] == [field]


@pytest.mark.usefixtures("seven")
def test_the_page_shows_the_filtered_list_and_its_filters(app: FastAPI, people: People) -> None:
    shown = Visitor(app).sign_in(people.rita).see("/approvals?state=SUPERSEDED").text
    assert "1 request is awaiting a decision" in shown
    assert [f"{MODEL} version {version}</a>" in shown for version in (1, 2, 3, 4, 5)] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert '<a href="/approvals" aria-current="true">Approvals</a>' in shown
    assert '<a href="/monitoring">Monitoring</a>' in shown
    assert '<a href="/approvals?state=SUPERSEDED" aria-current="true">superseded</a>' in shown
    assert '<a href="/approvals?model=x_model&amp;state=SUPERSEDED">x_model</a>' in shown


def test_an_empty_list_explains_how_requests_are_made(app: FastAPI, people: People) -> None:
    shown = Visitor(app).sign_in(people.rita).see("/approvals?model=nobodys").text
    assert "Training opens a request" in shown
