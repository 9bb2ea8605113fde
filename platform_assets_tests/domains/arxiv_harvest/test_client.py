"""Searches on a simulated arXiv server: paging, order, and each fault of the server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from platform_assets.domains.arxiv_harvest import client, demo
from platform_assets.landing.demo_server import DemoServer, dropped, oversized, silent, status, truncated
from platform_assets.landing.http_client import UpstreamError
from platform_assets_tests.domains.arxiv_harvest.conftest import PLENTY, quick_client

if TYPE_CHECKING:
    from platform_assets.domains.arxiv_harvest.client import Arxiv
    from platform_assets.landing.demo_server import Reply, Request

QUERY = 'ti:"superfluid helium"'
MATCHING = [paper for paper in demo.papers() if "superfluid helium" in paper.title]


def numbered(count: int) -> list[demo.SamplePaper]:
    """Return papers with the same title, so that one search finds all of them."""
    day = demo.FIRST_DAY
    return [demo.SamplePaper(f"9901.{one:05d}v1", "same", ("A",), "", "c", day, day) for one in range(count)]


@pytest.mark.requirement("ARX-1")
def test_results_are_sorted_by_relevance(arxiv: Arxiv, server: DemoServer) -> None:
    found = arxiv.search(QUERY, 8, PLENTY)
    assert [f"{paper.arxiv_id}v{paper.version}" for paper in found.papers] == [paper.id for paper in MATCHING[:8]]
    assert (found.status, found.total) == (200, len(MATCHING))
    assert len(MATCHING) > 8
    assert [request.query for request in server.requests] == [
        {"search_query": QUERY, "start": "0", "max_results": "8", "sortBy": "relevance", "sortOrder": "descending"}
    ]


@pytest.mark.requirement("ARX-2")
def test_a_search_without_results_succeeds(arxiv: Arxiv, server: DemoServer) -> None:
    assert arxiv.search('ti:"nothing like it"', 8, PLENTY) == client.Found(200, 0, ())
    assert len(server.requests) == 1


@pytest.mark.requirement("ARX-5")
@pytest.mark.parametrize(
    ("papers", "most", "asked"),
    [
        (1_200, 2_000, [("0", "500"), ("500", "500"), ("1000", "500")]),
        (1_200, 1_000, [("0", "500"), ("500", "500")]),
        (700, 501, [("0", "500"), ("500", "1")]),
    ],
)
def test_several_pages_are_read_to_get_up_to_the_requested_number_of_results(
    papers: int, most: int, asked: list[tuple[str, str]]
) -> None:
    with demo.server(numbered(papers)) as server, quick_client(server) as arxiv:
        found = arxiv.search('ti:"same"', most, PLENTY)
        assert [paper.arxiv_id for paper in found.papers] == [f"9901.{one:05d}" for one in range(min(papers, most))]
        assert [(one.query["start"], one.query["max_results"]) for one in server.requests] == asked


def test_all_results_are_read_if_pages_are_small_and_the_index_changes() -> None:
    known = numbered(25)

    def first_ten(request: Request) -> Reply:
        start = int(request.query["start"])
        # Add a new first paper before the second page is read, so that the second page repeats the last paper of the
        # first page.
        shown = known if start == 0 else [known[0], *known]
        return demo.reply_with(QUERY, len(shown), start, 10, shown[start : start + 10])

    with DemoServer(first_ten) as server, quick_client(server) as arxiv:
        found = arxiv.search(QUERY, 2_000, PLENTY)
    assert [paper.arxiv_id for paper in found.papers] == [f"9901.{one:05d}" for one in range(25)]
    assert found.total == 26


@pytest.mark.requirement("ARX-2")
@pytest.mark.parametrize(
    ("fault", "attempts", "upstream_status", "said"),
    [
        (status(429, b"Rate exceeded."), 3, 429, "arXiv returned HTTP 429"),
        (status(503), 3, 503, "arXiv returned HTTP 503"),
        (silent, 3, None, "arXiv did not answer within 0.5 s"),
        (dropped, 3, None, "arXiv cannot be reached"),
        (demo.empty_page, 3, 200, "empty page at position 0, although there are"),
        (truncated, 3, 200, "response that cannot be read: it is not well-formed XML"),
        (demo.entity_bomb, 3, 200, "a document type declaration"),
        (demo.error_entry, 1, 200, "arXiv refused the search: internal error"),
        (lambda _: demo.error_feed("bad id"), 1, 400, "arXiv refused the search: bad id"),
        (status(404), 1, 404, "arXiv returned HTTP 404 without a feed"),
        (oversized(2 << 30), 1, 200, "arXiv sent more than 67,108,864 bytes"),
    ],
)
def test_a_fault_of_arxiv_is_reported_with_its_http_status(
    arxiv: Arxiv, server: DemoServer, fault: object, attempts: int, upstream_status: int | None, said: str
) -> None:
    server.constant_fault = fault  # type: ignore[assignment]  # a fault of the table above
    with pytest.raises(UpstreamError, match=said) as caught:
        arxiv.search(QUERY, 8, PLENTY)
    assert caught.value.upstream_status == upstream_status
    assert len(server.requests) == attempts


@pytest.mark.requirement("ARX-2")
@pytest.mark.parametrize("fault", [status(429), status(503), demo.empty_page, truncated])
def test_a_temporary_fault_does_not_fail_the_search(arxiv: Arxiv, server: DemoServer, fault: object) -> None:
    server.faults.append(fault)  # type: ignore[arg-type]  # a fault of the table above
    assert len(arxiv.search(QUERY, 8, PLENTY).papers) == 8


def test_a_search_ends_at_its_time_limit(arxiv: Arxiv, server: DemoServer) -> None:
    server.constant_fault = silent
    began = time.monotonic()
    with pytest.raises(UpstreamError, match="did not answer"):
        arxiv.search(QUERY, 8, 0.1)
    assert time.monotonic() - began < PLENTY
    assert len(server.requests) == 1
