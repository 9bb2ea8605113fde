"""The routes of the domain, with a real database and a simulated arXiv server."""

from __future__ import annotations

import csv
import io
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from platform_assets.app import application
from platform_assets.domains.arxiv_harvest import demo
from platform_assets.domains.arxiv_harvest.api import SEARCHES_AT_ONCE, _cell
from platform_assets.domains.arxiv_harvest.pacing import Pace
from platform_assets.domains.arxiv_harvest.sources import server_name
from platform_assets.domains.arxiv_harvest.storage import Search, Searches
from platform_assets.landing.demo_server import silent, status
from platform_assets_tests.domains.arxiv_harvest.test_storage import NOON, paper
from platform_assets_tests.postgres import wait_until
from platform_assets_tests.service import api, keys_of
from platform_assets_tests.test_app import problem as problem_of

if TYPE_CHECKING:
    from httpx2 import Response
    from starlette.testclient import TestClient

    from platform_assets.landing.demo_server import DemoServer
    from platform_assets.services import Services

START = {"query_timestamp_start": "2026-01-01T00:00:00"}
FORMAT = re.escape("yyyy-MM-dd'T'HH:mm:ss")


@pytest.fixture
def program(own_services: Services) -> TestClient:
    """A client that sends an API key with the scope `predict`."""
    return api(application(own_services), keys_of(own_services).add("shop", "shop", {"predict"}))


@pytest.fixture
def three_queries(stored: Searches) -> None:
    """Three queries in 2026: one with results, one without results, and one that failed."""
    stored.store(Search('au:"x"', "test", NOON, 200, 9, (paper(1, journal="J. X"), paper(2, title=None))))
    stored.store(Search('ti:"ü, y"', "test", NOON.replace(hour=13), 200, 0))
    stored.store(Search('ti:"z"', "test", NOON.replace(hour=14), None, error="no answer"))


def problem(response: Response, code: int) -> dict[str, Any]:
    """Return the problem in a response, after checking its status code."""
    assert response.status_code == code, response.text
    return problem_of(response)


ENTRIES: list[dict[str, Any]] = [
    {"query": 'au:"x"', "timestamp": "2026-01-01T12:00:00", "status": 200, "num_results": 2},
    {"query": 'ti:"ü, y"', "timestamp": "2026-01-01T13:00:00", "status": 200, "num_results": 0},
    {"query": 'ti:"z"', "timestamp": "2026-01-01T14:00:00", "status": None, "num_results": 0},
]


@pytest.mark.requirement("ARX-4")
def test_a_search_is_answered_and_stored(program: TestClient) -> None:
    response = program.post("/arxiv", json={"author": "Maestro", "title": "helium", "max_query_results": 3})
    assert response.status_code == 201, response.text
    body = response.json()
    assert list(body) == ["query", "timestamp", "status", "num_results", "results"]
    assert (body["query"], body["status"], body["num_results"]) == ('au:"Maestro" AND ti:"helium"', 200, 3)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", body["timestamp"])
    assert [list(result) for result in body["results"]] == [["author", "title", "journal"]] * 3
    assert program.get("/results").json() == body["results"]
    assert program.post("/queries", json=START).json() == [
        {name: body[name] for name in ("query", "timestamp", "status", "num_results")}
    ]


@pytest.mark.requirement("ARX-2", "ARX-4")
def test_a_search_without_results_returns_200_and_an_empty_list(program: TestClient) -> None:
    response = program.post("/arxiv", json={"journal": "no such journal"})
    assert response.status_code == 200, response.text
    assert (response.json()["num_results"], response.json()["results"]) == (0, [])
    assert [one["num_results"] for one in program.post("/queries", json=START).json()] == [0]


@pytest.mark.requirement("ARX-4")
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ({"author": "", "title": " "}, "body"),
        ({"title": '"'}, "body"),
        ({"title": "\u202e\u200b", "journal": "\u2066"}, "body"),
        ({"author": "x", "max_query_results": True}, "max_query_results"),
        ({"title": "x" * 501}, "title"),
        ({"author": ["x"]}, "author"),
        ({"author": "x", "titel": "y"}, "titel"),
        ({"author": "x", "max_query_results": 0}, "max_query_results"),
        ({"author": "x", "max_query_results": 2001}, "max_query_results"),
    ],
)
def test_an_invalid_search_returns_422(
    program: TestClient, server: DemoServer, body: dict[str, Any], field: str
) -> None:
    found = problem(program.post("/arxiv", json=body), 422)
    assert [error["field"] for error in found["errors"]] == [field]
    assert server.requests == []


@pytest.mark.requirement("ARX-2", "ARX-4")
@pytest.mark.parametrize(
    ("fault", "upstream_status", "retry_after"),
    [
        (status(429, b"Rate exceeded."), 429, "60"),
        (status(503, Retry_After="77"), 503, "77"),
        (silent, None, "60"),
        (demo.error_entry, 200, "60"),
        (demo.empty_page, 200, "60"),
    ],
)
def test_a_failed_search_returns_503_and_is_stored(
    program: TestClient, server: DemoServer, fault: Any, upstream_status: int | None, retry_after: str
) -> None:
    server.constant_fault = fault
    response = program.post("/arxiv", json={"author": "Maestro"})
    found = problem(response, 503)
    assert found["upstream_status"] == upstream_status
    assert found["type"].endswith("upstream-unavailable")
    assert response.headers["retry-after"] == retry_after
    stored = program.post("/queries", json=START).json()
    assert [(one["query"], one["status"], one["num_results"]) for one in stored] == [
        ('au:"Maestro"', upstream_status, 0)
    ]
    assert program.get("/results").json() == []


@pytest.mark.requirement("ARX-2")
@pytest.mark.parametrize("wait_seconds", [120])
def test_a_search_returns_503_at_once_if_too_many_searches_are_waiting(
    program: TestClient, own_services: Services
) -> None:
    database = own_services.database
    with program, ThreadPoolExecutor(SEARCHES_AT_ONCE) as threads:
        with Pace(database, server_name(own_services.sources), 0).turn(1), database.connect("platform") as connection:
            asked = [threads.submit(program.post, "/arxiv", json={"author": "Ada"}) for _ in range(SEARCHES_AT_ONCE)]
            waiting = b"select from pg_locks where locktype = 'advisory' and not granted"
            wait_until(lambda: len(connection.execute(waiting).fetchall()) >= SEARCHES_AT_ONCE, "all searches wait")
            found = problem(program.post("/arxiv", json={"author": "Bo"}), 503)
        assert [one.result().status_code for one in asked] == [201] * SEARCHES_AT_ONCE
    assert "10 other searches are already waiting" in found["detail"]
    assert found["upstream_status"] is None
    stored = [(one["query"], one["status"]) for one in program.post("/queries", json=START).json()]
    assert sorted(stored, key=str) == [('au:"Ada"', 200)] * SEARCHES_AT_ONCE + [('au:"Bo"', None)]


@pytest.mark.requirement("ARX-4")
@pytest.mark.usefixtures("three_queries")
def test_queries_are_returned_as_a_csv_file_or_as_json(program: TestClient) -> None:
    file = program.get("/queries", params=START)
    assert file.headers["content-type"] == "text/csv; charset=utf-8"
    assert file.headers["content-disposition"] == 'attachment; filename="arxiv_queries.csv"'
    rows = list(csv.DictReader(io.StringIO(file.text)))
    assert rows == [{name: "" if value is None else str(value) for name, value in one.items()} for one in ENTRIES]
    for response in (
        program.get("/queries", params=START, headers={"Accept": "application/json"}),
        program.get("/queries", params={**START, "format": "json"}, headers={"Accept": "text/csv"}),
    ):
        assert response.headers["content-disposition"] == 'attachment; filename="arxiv_queries.json"'
        assert response.json() == ENTRIES
    listed = program.post("/queries", json={**START, "query_timestamp_end": None})
    assert listed.json() == ENTRIES
    assert "content-disposition" not in listed.headers


@pytest.mark.requirement("ARX-4")
@pytest.mark.usefixtures("three_queries")
@pytest.mark.parametrize(
    ("start", "end", "places"),
    [
        ("12:00:00", "14:00:00", [0, 1, 2]),
        ("12:00:01", "13:59:59", [1]),
        ("13:00:00", "13:00:00", [1]),
        ("14:00:01", None, []),
    ],
)
def test_both_ends_of_a_period_are_included(
    program: TestClient, start: str, end: str | None, places: list[int]
) -> None:
    period = {"query_timestamp_start": f"2026-01-01T{start}"}
    period |= {"query_timestamp_end": f"2026-01-01T{end}"} if end else {}
    expected = [ENTRIES[place] for place in places]
    assert program.post("/queries", json=period).json() == expected
    assert program.get("/queries", params={**period, "format": "json"}).json() == expected


@pytest.mark.requirement("ARX-4")
@pytest.mark.parametrize(
    ("period", "field", "said"),
    [
        ({}, "query_timestamp_start", "required"),
        ({"query_timestamp_start": "2026-01-01"}, "query_timestamp_start", FORMAT),
        ({"query_timestamp_start": "2026-01-01 00:00:00"}, "query_timestamp_start", FORMAT),
        ({"query_timestamp_start": "2026-01-01T00:00:00Z"}, "query_timestamp_start", FORMAT),
        ({"query_timestamp_start": "2026-02-30T00:00:00"}, "query_timestamp_start", FORMAT),
        ({"query_timestamp_start": "2026-01-01T24:00:00"}, "query_timestamp_start", FORMAT),
        ({"query_timestamp_start": "٢٠٢٦-01-01T00:00:00"}, "query_timestamp_start", FORMAT),
        ({**START, "query_timestamp_end": "tomorrow"}, "query_timestamp_end", FORMAT),
        ({**START, "query_timestamp_end": "2025-12-31T23:59:59"}, "query_timestamp_end", "before"),
    ],
)
def test_an_invalid_period_returns_422(program: TestClient, period: dict[str, str], field: str, said: str) -> None:
    for response in (program.get("/queries", params=period), program.post("/queries", json=period)):
        found = problem(response, 422)
        assert [error["field"] for error in found["errors"]] == [field]
        assert re.search(said, found["detail"])


@pytest.mark.requirement("ARX-4")
@pytest.mark.usefixtures("three_queries")
def test_results_are_returned_in_pages(program: TestClient) -> None:
    both = [
        {"author": "Ada M, Bo N", "title": "title 1", "journal": "J. X"},
        {"author": "Ada M, Bo N", "title": None, "journal": None},
    ]
    assert program.get("/results").json() == both
    second = program.get("/results", params={"page": 1, "items_per_page": 1})
    assert second.json() == both[1:]
    assert second.headers["x-total-count"] == "2"
    assert second.headers["link"] == '</results?items_per_page=1&page=0>; rel="prev"'
    assert program.get("/results", params={"page": 2, "items_per_page": 1}).json() == []
    problem(program.get("/results", params={"page": -1}), 422)
    problem(program.get("/results", params={"items_per_page": 1001}), 422)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@a", "'@a"),
        ("\tx", "'\tx"),
        ("  =x", "'  =x"),
        ('au:"=x"', 'au:"=x"'),
        (-1, -1),
        (None, None),
    ],
)
def test_csv_cells_that_a_spreadsheet_would_run_as_formulas_are_escaped(value: Any, cell: Any) -> None:
    assert _cell(value) == cell


def test_the_error_for_an_unsupported_method_lists_the_methods_of_the_path(program: TestClient) -> None:
    response = program.request("OPTIONS", "/queries")
    assert problem(response, 405)["detail"] == "/queries does not support OPTIONS; use GET or POST."
    assert response.headers["allow"] == "GET, POST"


def test_the_routes_need_a_key(own_services: Services) -> None:
    anonymous = api(application(own_services))
    problem(anonymous.post("/arxiv", json={"author": "x"}), 401)
    problem(anonymous.get("/results"), 401)
