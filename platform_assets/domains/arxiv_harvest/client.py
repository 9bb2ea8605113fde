"""Client of the arXiv API: searches with paging.

It uses the shared HTTP client. README.md compares it with the package arxiv.py.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

from platform_assets.domains.arxiv_harvest.atom_feed import Feed, MalformedFeed, Paper, parse_feed
from platform_assets.landing.http_client import Answer, TemporaryError, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from platform_assets.landing.http_client import HttpClient

    Enough = Callable[[Sequence[Paper]], bool]

Order = Literal["relevance", "lastUpdatedDate"]
PAGE_SIZE = 500
"""Results per request. 2,000 results then take four requests, which fit into 30 s at one request every 3 s."""
MOST_RESULTS = 2_000
"""Maximum number of results of one search."""
NAME = "arXiv"


@dataclass(frozen=True)
class Found:
    """Results of a search.

    Attributes
    ----------
    status
        HTTP status of arXiv's last response.
    total
        Total number of results that arXiv has (`totalResults`).
    papers
        The results in arXiv's order, each paper once.
    """

    status: int
    total: int
    papers: tuple[Paper, ...]


class Arxiv:
    """The arXiv API.

    Parameters
    ----------
    http
        HTTP client that sends the requests.
    url
        Address of the API, without query.
    server
        Name of the server, which is stored with each query.
    """

    def __init__(self, http: HttpClient, url: str, server: str) -> None:
        self._http = http
        self._url = url
        self.server = server

    def search(
        self,
        query: str,
        most: int,
        seconds: float,
        order: Order = "relevance",
        enough: Enough = lambda _: False,
    ) -> Found:
        """Search, and read as many pages as needed.

        Parameters
        ----------
        query
            Search string, not yet encoded.
        most
            Maximum number of results.
        seconds
            Time limit for all pages together.
        order
            Sort key of the results (`sortBy`). The order is always descending.
        enough
            Function that is called with each page, and returns whether to stop after this page.

        Raises
        ------
        UpstreamError
            A page could not be fetched. The results of earlier pages are discarded.
        """
        deadline = time.monotonic() + seconds
        papers: dict[tuple[str, int | None], Paper] = {}
        start = total = 0
        while True:
            page = self._page(query, start, most, order, max(0.0, deadline - time.monotonic()))
            total, start = page.total, start + len(page.papers)
            for paper in page.papers:
                # Add each paper once. If the index changes between two pages, a paper can appear on both.
                papers.setdefault((paper.arxiv_id, paper.version), paper)
            if start >= min(total, most) or enough(page.papers):
                return Found(HTTPStatus.OK, total, tuple(papers.values())[:most])

    def _page(self, query: str, start: int, most: int, order: Order, seconds: float) -> Feed:
        params = {
            "search_query": query,
            "start": str(start),
            "max_results": str(min(PAGE_SIZE, most - start)),
            "sortBy": order,
            "sortOrder": "descending",
        }

        def read(answer: Answer) -> Feed:
            feed = _feed(answer)
            if not feed.papers and start < min(feed.total, most):
                raise TemporaryError(
                    f"{NAME} returned an empty page at position {start}, although there are {feed.total:,} results",
                    answer.status,
                )
            return feed

        return self._http.get(self._url, params, read, seconds)


def _feed(answer: Answer) -> Feed:
    """Return the feed of a response; raise an exception for an error feed or an error status."""
    try:
        feed = parse_feed(answer.body)
    except MalformedFeed as error:
        if answer.status != HTTPStatus.OK:
            raise UpstreamError(f"{NAME} returned HTTP {answer.status} without a feed", answer.status) from None
        raise TemporaryError(f"{NAME} returned a response that cannot be read: {error}", answer.status) from None
    if feed.error is not None:
        raise UpstreamError(f"{NAME} refused the search: {feed.error}", answer.status)
    if answer.status != HTTPStatus.OK:
        raise UpstreamError(f"{NAME} returned HTTP {answer.status}", answer.status)
    return feed
