"""Harvests of saved searches. They store only what is new, and a failed search does not affect the others."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from platform_assets.base.errors import SourceError
from platform_assets.domains.arxiv_harvest import demo
from platform_assets.domains.arxiv_harvest.harvest import SavedSearch, harvest, read_saved_searches
from platform_assets.landing.demo_server import status
from platform_assets_tests.domains.arxiv_harvest.conftest import quick_client

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.domains.arxiv_harvest.client import Arxiv
    from platform_assets.domains.arxiv_harvest.storage import Searches
    from platform_assets.landing.demo_server import DemoServer

HELIUM = SavedSearch(name="helium", title="helium", max_results=2_000)
MAESTRO = SavedSearch(name="maestro", author="Maestro", max_results=5)


def sample(number: int, version: int = 1, days: int = 0) -> demo.SamplePaper:
    day = demo.FIRST_DAY + timedelta(days=number)
    return demo.SamplePaper(
        f"9901.{number:05d}v{version}", f"helium {number}", ("A",), "", "c", day, day + timedelta(days=days)
    )


@pytest.mark.requirement("ARX-5")
def test_only_new_results_and_papers_are_stored(stored: Searches) -> None:
    papers = [sample(number) for number in range(700)]
    for added, new_results, new_papers, requests in (
        ([], 700, 700, 2),
        ([], 0, 0, 1),
        ([sample(700), sample(3, version=2, days=900)], 2, 1, 2),
    ):
        papers += added
        with demo.server(papers) as server, quick_client(server) as arxiv:
            (found,) = harvest(arxiv, stored, [HELIUM])
            assert (found.status, found.total, found.error) == (200, len(papers), None)
            assert (found.new_results, found.new_papers) == (new_results, new_papers)
            assert len(server.requests) == requests
    rows, total = stored.results(0, 1_000)
    assert total == 702
    # arXiv returns the most recently updated papers first.
    assert [row.title for row in rows[-2:]] == ["helium 3", "helium 700"]


@pytest.mark.requirement("ARX-2", "ARX-5")
def test_a_failed_search_does_not_stop_other_searches(stored: Searches, arxiv: Arxiv, server: DemoServer) -> None:
    server.faults.extend([status(429)] * 3)
    failed, fine = harvest(arxiv, stored, [HELIUM, MAESTRO])
    assert (failed.name, failed.status, failed.new_results) == ("helium", 429, 0)
    assert "arXiv returned HTTP 429" in str(failed.error)
    assert (fine.name, fine.status, fine.new_results, fine.error) == ("maestro", 200, 5, None)
    assert stored.count() == 2
    # A failed search stores nothing, so the next harvest stores all papers of this search.
    again, _ = harvest(arxiv, stored, [HELIUM, MAESTRO])
    assert again.new_results == again.total


def test_the_saved_searches_of_the_domain_are_valid() -> None:
    searches = read_saved_searches()
    assert len(searches) >= 3
    assert all(search.query for search in searches)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("searches: [", "is not valid YAML"),
        ("", "file: Input should be"),
        ("searches: [{name: a}]", "the search 'a' is invalid: Give at least one of"),
        ("searches: [{name: a, title: x}, {name: a, title: y}]", "used more than once: a"),
        ("searches: [{name: A b, title: x}]", "searches.0.name: String should match pattern"),
        ("searches: [{name: a, titel: x}]", "searches.0.titel: Extra inputs are not permitted"),
        ("searches: [{name: a, title: x, max_results: 2001}]", "searches.0.max_results: .*less than or equal to 2000"),
    ],
)
def test_an_invalid_file_of_saved_searches_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "searches.yaml"
    file.write_text(text)
    with pytest.raises(SourceError, match=said):
        read_saved_searches(file)
    with pytest.raises(SourceError, match="cannot read the saved searches"):
        read_saved_searches(tmp_path / "none.yaml")
