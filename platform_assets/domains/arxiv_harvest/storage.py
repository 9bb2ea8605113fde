"""Storage of searches: queries, papers and results in PostgreSQL.

A search is stored in one transaction, so readers see all of its results or none. Results are numbered without gaps in
the order of storage. A page is therefore a range of numbers, and reading any page takes the same time.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, tuple_  # noqa: TID253 - see tables.py
from sqlalchemy.dialects.postgresql import insert  # noqa: TID253 - see tables.py

from platform_assets.domains.arxiv_harvest.tables import PAPERS, QUERIES, RESULT_COUNT, RESULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection, Engine, Row

    from platform_assets.domains.arxiv_harvest.atom_feed import Paper

BATCH_ROWS = 1_000
"""Number of queries that are read in one batch."""


@dataclass(frozen=True)
class Search:
    """A search, with its results or its error.

    Attributes
    ----------
    query
        Search string, decoded.
    server
        Server that received the request.
    asked_at
        Time of the query.
    status
        HTTP status of arXiv's response; None if there was no response.
    total
        Number of results that arXiv has; None if the search failed.
    papers
        The results to store, in arXiv's order.
    error
        Error message of a failed search; None if the search succeeded.
    saved_search
        Name of the saved search; None for other searches.
    """

    query: str
    server: str
    asked_at: datetime
    status: int | None = None
    total: int | None = None
    papers: Sequence[Paper] = ()
    error: str | None = None
    saved_search: str | None = None


@dataclass(frozen=True)
class StoredQuery:
    """A stored query, without its results."""

    query: str
    asked_at: datetime
    status: int | None
    num_results: int


@dataclass(frozen=True)
class StoredResult:
    """A stored result."""

    author: str
    title: str | None
    journal: str | None


class Searches:
    """The stored searches.

    Parameters
    ----------
    engine
        Function that returns the platform's database.
    """

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    def store(self, search: Search) -> int:
        """Store a query and its results in one transaction.

        Returns
        -------
        int
            Number of papers whose arXiv identifier was not stored before.
        """
        papers = list({_digest(paper): paper for paper in search.papers}.items())
        with self._engine().begin() as connection:
            last = _take_numbers(connection, len(papers)) if papers else 0
            known = _known_ids(connection, [paper.arxiv_id for _, paper in papers])
            query = connection.execute(
                QUERIES.insert().returning(QUERIES.c.id),
                {
                    "query": search.query,
                    "server": search.server,
                    "saved_search": search.saved_search,
                    "asked_at": search.asked_at,
                    "status": search.status,
                    "total_results": search.total,
                    "num_results": len(papers),
                    "error": search.error,
                },
            ).scalar_one()
            if papers:
                _store_results(connection, query, papers, last - len(papers) + 1)
        return len({paper.arxiv_id for _, paper in papers} - known)

    def results(self, page: int, size: int) -> tuple[list[StoredResult], int]:
        """Return a page of all results in the order of storage, and the number of all results.

        Parameters
        ----------
        page
            Number of the page, from 0.
        size
            Results per page.
        """
        before = page * size
        statement = (
            select(PAPERS.c.authors, PAPERS.c.title, PAPERS.c.journal)
            .join(RESULTS, RESULTS.c.paper_id == PAPERS.c.id)
            .where(RESULTS.c.number > before, RESULTS.c.number <= before + size)
            .order_by(RESULTS.c.number)
        )
        with self._engine().connect() as connection:
            rows = connection.execute(statement).all()
            total = connection.execute(select(RESULT_COUNT.c.results)).scalar()
        return [StoredResult(", ".join(row.authors), row.title, row.journal) for row in rows], total or 0

    def queries(self, start: datetime, end: datetime | None = None) -> Iterator[list[StoredQuery]]:
        """Yield the queries between two times in batches, ordered by time. No connection is held between batches.

        Parameters
        ----------
        start
            First second of the period, UTC.
        end
            Last second of the period, UTC; None for no limit.
        """
        columns = (QUERIES.c.id, QUERIES.c.query, QUERIES.c.asked_at, QUERIES.c.status, QUERIES.c.num_results)
        ordered = select(*columns).order_by(QUERIES.c.asked_at, QUERIES.c.id).limit(BATCH_ROWS)
        if end is not None:
            # Include all of the last second, because times are stored in microseconds but shown in seconds.
            ordered = ordered.where(QUERIES.c.asked_at <= end + timedelta(microseconds=999_999))
        batch = self._rows(ordered.where(QUERIES.c.asked_at >= start))
        while batch:
            yield [StoredQuery(row.query, row.asked_at.astimezone(UTC), row.status, row.num_results) for row in batch]
            last = batch[-1]
            position = tuple_(QUERIES.c.asked_at, QUERIES.c.id)
            batch = self._rows(ordered.where(position > tuple_(last.asked_at, last.id)))

    def versions(self, saved_search: str, server: str, arxiv_ids: Sequence[str]) -> set[tuple[str, int | None]]:
        """Return (identifier, version) for each version of the given papers that a saved search found on a server."""
        statement = (
            select(PAPERS.c.arxiv_id, PAPERS.c.version)
            .join(RESULTS, RESULTS.c.paper_id == PAPERS.c.id)
            .join(QUERIES, QUERIES.c.id == RESULTS.c.query_id)
            .where(PAPERS.c.arxiv_id.in_(arxiv_ids), QUERIES.c.saved_search == saved_search, QUERIES.c.server == server)
        )
        return {(row.arxiv_id, row.version) for row in self._rows(statement)}

    def count(self) -> int:
        """Return the number of stored queries."""
        return int(self._rows(select(func.count()).select_from(QUERIES))[0][0])

    def inconsistencies(self) -> tuple[int, int]:
        """Return the number of queries with a wrong number of results, and the number of gaps in the numbering."""
        stored = select(RESULTS.c.query_id, func.count().label("found")).group_by(RESULTS.c.query_id).subquery()
        wrong = (
            select(func.count())
            .select_from(QUERIES.outerjoin(stored, stored.c.query_id == QUERIES.c.id))
            .where(QUERIES.c.num_results != func.coalesce(stored.c.found, 0))
        )
        gaps = select(func.coalesce(func.max(RESULTS.c.number), 0) - func.count())
        return self._rows(wrong)[0][0], self._rows(gaps)[0][0]

    def _rows(self, statement: Any) -> Sequence[Row[Any]]:
        with self._engine().connect() as connection:
            return connection.execute(statement).all()


def _known_ids(connection: Connection, arxiv_ids: Sequence[str]) -> set[str]:
    statement = select(PAPERS.c.arxiv_id).where(PAPERS.c.arxiv_id.in_(arxiv_ids))
    return set(connection.execute(statement).scalars()) if arxiv_ids else set()


def _take_numbers(connection: Connection, results: int) -> int:
    """Reserve the next numbers of results, and return the last of them.

    The counter's row stays locked until the transaction ends. A rollback also undoes the reservation.
    """
    count = insert(RESULT_COUNT).values(id=1, results=results)
    statement = count.on_conflict_do_update(
        index_elements=[RESULT_COUNT.c.id], set_={"results": RESULT_COUNT.c.results + count.excluded.results}
    ).returning(RESULT_COUNT.c.results)
    last: int = connection.execute(statement).scalar_one()
    return last


def _store_results(connection: Connection, query: int, papers: Sequence[tuple[str, Paper]], first: int) -> None:
    now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    connection.execute(
        insert(PAPERS).on_conflict_do_nothing(index_elements=[PAPERS.c.digest]),
        [_row(digest, paper, now) for digest, paper in papers],
    )
    found = select(PAPERS.c.digest, PAPERS.c.id).where(PAPERS.c.digest.in_([digest for digest, _ in papers]))
    ids = {row.digest: row.id for row in connection.execute(found)}
    connection.execute(
        RESULTS.insert(),
        [
            {
                "number": first + position,
                "query_id": query,
                "position": position,
                "paper_id": ids[digest],
                "stored_at": now,
            }
            for position, (digest, _) in enumerate(papers)
        ],
    )


def _row(digest: str, paper: Paper, now: datetime) -> dict[str, Any]:
    return {**_from_arxiv(paper), "digest": digest, "stored_at": now}


def _from_arxiv(paper: Paper) -> dict[str, Any]:
    return {
        "arxiv_id": paper.arxiv_id,
        "version": paper.version,
        "title": paper.title,
        "authors": [author.name for author in paper.authors],
        "journal": paper.journal,
        "doi": paper.doi,
        "comment": paper.comment,
        "summary": paper.summary,
        "primary_category": paper.primary_category,
        "categories": list(paper.categories),
        "published_at": paper.published_at,
        "updated_at": paper.updated_at,
    }


def _digest(paper: Paper) -> str:
    text = json.dumps(_from_arxiv(paper), sort_keys=True, default=datetime.isoformat)
    return hashlib.sha256(text.encode()).hexdigest()
