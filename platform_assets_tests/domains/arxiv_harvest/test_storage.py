"""Storage of searches: atomic writes, papers without duplicates, and result numbers without gaps."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import text

from platform_assets.domains.arxiv_harvest.atom_feed import Author, Paper
from platform_assets.domains.arxiv_harvest.storage import Search, Searches, StoredResult

if TYPE_CHECKING:
    from platform_assets.services import Services

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def paper(number: int, version: int | None = 1, **changes: Any) -> Paper:
    made = Paper(f"9901.{number:05d}", version, f"title {number}", (Author("Ada M"), Author("Bo N")))
    return replace(made, **changes)


def search(*papers: Paper, **changes: Any) -> Search:
    return replace(Search('ti:"x"', "test", NOON, 200, 1_000, papers), **changes)


def all_rows(services: Services, query: str) -> list[tuple[Any, ...]]:
    with services.database.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


@pytest.mark.requirement("ARX-3")
def test_a_query_and_its_results_are_stored(stored: Searches, own_services: Services) -> None:
    papers = (paper(1, journal="J. X"), paper(2, title="0"), paper(3, title=None, version=None, authors=()))
    assert stored.store(search(*papers)) == 3
    assert all_rows(
        own_services, "select query, server, status, total_results, num_results, error from arxiv_harvest.queries"
    ) == [('ti:"x"', "test", 200, 1_000, 3, None)]
    assert all_rows(
        own_services,
        "select number, position, arxiv_id, version, authors, title, journal from arxiv_harvest.results r"
        " join arxiv_harvest.papers p on p.id = r.paper_id order by number",
    ) == [
        (1, 0, "9901.00001", 1, ["Ada M", "Bo N"], "title 1", "J. X"),
        (2, 1, "9901.00002", 1, ["Ada M", "Bo N"], "0", None),
        (3, 2, "9901.00003", None, [], None, None),
    ]
    assert stored.results(0, 10) == (
        [
            StoredResult("Ada M, Bo N", "title 1", "J. X"),
            StoredResult("Ada M, Bo N", "0", None),
            StoredResult("", None, None),
        ],
        3,
    )


@pytest.mark.requirement("ARX-5")
def test_a_paper_found_by_many_queries_is_stored_once(stored: Searches, own_services: Services) -> None:
    assert stored.store(search(paper(1), paper(2))) == 2
    assert stored.store(search(paper(2), paper(3), query='au:"y"')) == 1
    # A journal reference that arXiv adds later creates a new row for the paper. Results of earlier queries do not
    # change.
    assert stored.store(search(paper(1, journal="J. Y"))) == 0
    assert all_rows(own_services, "select count(*) from arxiv_harvest.papers") == [(4,)]
    rows, total = stored.results(0, 10)
    assert ([(row.title, row.journal) for row in rows], total) == (
        [("title 1", None), ("title 2", None), ("title 2", None), ("title 3", None), ("title 1", "J. Y")],
        5,
    )
    assert stored.inconsistencies() == (0, 0)


@pytest.mark.requirement("ARX-2", "ARX-3")
def test_a_failed_search_stores_its_status_and_no_result(stored: Searches, own_services: Services) -> None:
    for status in (429, None):
        assert stored.store(search(status=status, total=None, error="no answer")) == 0
    assert all_rows(own_services, "select status, total_results, num_results, error from arxiv_harvest.queries") == [
        (429, None, 0, "no answer"),
        (None, None, 0, "no answer"),
    ]
    assert stored.results(0, 10) == ([], 0)


def test_a_failed_write_stores_nothing_and_leaves_no_gap_in_the_numbers(
    stored: Searches, own_services: Services
) -> None:
    stored.store(search(paper(1)))
    with pytest.raises(Exception, match="NUL"):
        stored.store(search(paper(2), paper(3, title="a\0b")))
    stored.store(search(paper(4)))
    assert all_rows(own_services, "select number from arxiv_harvest.results order by 1") == [(1,), (2,)]
    assert all_rows(own_services, "select count(*) from arxiv_harvest.queries") == [(2,)]


def test_stored_rows_cannot_be_changed(stored: Searches, own_services: Services) -> None:
    stored.store(search(paper(1)))
    for table, column in (("queries", "status"), ("papers", "title"), ("results", "position")):
        for change in (f"delete from arxiv_harvest.{table}", f"update arxiv_harvest.{table} set {column} = {column}"):
            with (
                own_services.database.connect("platform") as connection,
                pytest.raises(psycopg.errors.InsufficientPrivilege),
            ):
                connection.execute(change.encode())


@pytest.mark.requirement("ARX-4")
def test_all_pages_together_contain_all_results_in_order(stored: Searches) -> None:
    for one in range(3):
        stored.store(search(*(paper(10 * one + place) for place in range(4))))
    titles = [f"title {10 * one + place}" for one in range(3) for place in range(4)]
    for size in (1, 5, 12, 1_000):
        pages = [[row.title for row in stored.results(page, size)[0]] for page in range(-(-12 // size))]
        assert [title for page in pages for title in page] == titles
        assert stored.results(12, size) == ([], 12)
    assert stored.results(10**9, 1_000) == ([], 12)


@pytest.mark.requirement("ARX-4")
@pytest.mark.parametrize("reads", [50, pytest.param(1_000, marks=pytest.mark.release)])
def test_readers_never_see_a_partly_stored_query(stored: Searches, reads: int) -> None:
    """Read pages while two threads store queries with seven results each."""
    per_query = 7
    done = threading.Event()

    def harvest(first: int) -> None:
        number = first
        while not done.is_set():
            stored.store(search(*(paper(number + place, title=str(number)) for place in range(per_query))))
            number += per_query

    writers = [threading.Thread(target=harvest, args=(first,)) for first in (0, 1_000_000)]
    for writer in writers:
        writer.start()
    try:
        for one in range(reads):
            rows, total = stored.results(one % 5, per_query)
            assert len(rows) in {0, per_query}
            assert len({row.title for row in rows}) <= 1
            assert total % per_query == 0
    finally:
        done.set()
        for writer in writers:
            writer.join()
    assert stored.inconsistencies() == (0, 0)


@pytest.mark.requirement("ARX-4")
def test_queries_of_a_period_are_sorted_by_time(stored: Searches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform_assets.domains.arxiv_harvest.storage.BATCH_ROWS", 2)
    for seconds in (4.9, 0.0, 3.0, 3.0, 5.0):
        stored.store(search(asked_at=NOON + timedelta(seconds=seconds), query=str(seconds)))

    def between(start: int, end: int | None) -> list[str]:
        last = None if end is None else NOON + timedelta(seconds=end)
        return [one.query for batch in stored.queries(NOON + timedelta(seconds=start), last) for one in batch]

    assert between(0, None) == ["0.0", "3.0", "3.0", "4.9", "5.0"]
    assert between(3, 4) == ["3.0", "3.0", "4.9"]
    assert between(1, 2) == between(6, None) == []
    assert between(0, 0) == ["0.0"]
    latest = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert [len(batch) for batch in stored.queries(datetime(1, 1, 1, tzinfo=UTC), latest)] == [2, 2, 1]
