"""The sample papers, and the server that returns them."""

from __future__ import annotations

from platform_assets.domains.arxiv_harvest import demo
from platform_assets.domains.arxiv_harvest.atom_feed import parse_feed
from platform_assets.landing.demo_server import Request


def answer(path: str = demo.PATH, **query: str) -> tuple[int, bytes]:
    found = demo.respond(Request(path, query, {}), demo.papers())
    return found.status, b"".join(found.body)


def test_the_same_seed_gives_the_same_papers() -> None:
    assert demo.papers(50) == demo.papers(50, demo.SEED)
    assert demo.papers(50)[:20] != demo.papers(50, 1)[:20]


def test_the_sample_papers_have_the_irregularities_of_real_papers() -> None:
    feed = parse_feed(answer(search_query='all:"a"', max_results="2000")[1])
    titles = [paper.title for paper in parse_feed(answer(search_query='all:"o"', max_results="2000")[1]).papers]
    assert feed.total > len(demo.papers()) / 2
    assert None in titles
    assert any(paper.title == "0" for paper in demo.papers())
    assert any(paper.authors[0].startswith(" ") for paper in demo.papers())
    assert sum(not paper.journal for paper in demo.papers()) > len(demo.papers()) / 2


def test_the_sample_server_responds_to_searches_as_arxiv_does() -> None:
    status, body = answer(search_query='au:"maestro" AND ti:"drift"', sortBy="lastUpdatedDate", start="1")
    feed = parse_feed(body)
    assert status == 200
    assert feed.total > len(feed.papers) > 0
    assert (feed.start, feed.per_page) == (1, 10)
    updated = [paper.updated_at for paper in feed.papers]
    assert updated == sorted(updated, reverse=True)  # type: ignore[type-var]  # sample papers have all times
    assert answer(search_query="ti:x", start="nope")[0] == 400
    assert answer("/elsewhere")[0] == 404
    assert parse_feed(answer(search_query="no field")[1]).total == 0
