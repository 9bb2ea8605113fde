"""Sample papers, and a local server that returns them in the arXiv API's layout of 2026.

The papers are invented. Their identifiers begin with 9901 (January 1999). No real paper has such an identifier, because
arXiv has used the scheme YYMM.number only since 2007.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from platform_assets.landing.demo_server import DemoServer, Reply, Request, reply

if TYPE_CHECKING:
    from collections.abc import Sequence

SEED = 20_260_101
PAPERS = 600
PATH = "/api/query"
CONTENT_TYPE = "application/atom+xml"
PER_PAGE, MOST_PER_PAGE = 10, 2_000
FIRST_DAY = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 730
MISSING_JOURNAL, ZERO_TITLE, MISSING_TITLE, LEADING_BLANK = 0.7, 17, 18, 0.05
_FIRST = ("Ada", "Bo", "Chen", "Dana", "Eli", "Fatima", "Gil", "Hana", "Ivo", "Jun", "Kofi", "Lena")
_LAST = ("Maestro", "Okafor", "Novak", "Silva", "Tanaka", "Weiss", "Ortega", "Lindqvist", "Haddad", "Kowalski")
_TOPICS = (
    ("superfluid helium in nanopores", "cond-mat.other", "Invented Review B"),
    ("electricity demand forecasting", "stat.AP", "Invented Energy Letters"),
    ("data drift in deployed models", "cs.LG", "Journal of Invented Learning"),
    ("fault detection from sensor data", "eess.SP", "Invented Sensors"),
)
_KINDS = ("A study of", "Bounds for", "Measuring", "A benchmark of", "Neural models of", "Causes of")
_TERM = re.compile(r'(?P<field>au|ti|jr|all):(?:"(?P<phrase>[^"]*)"|(?P<word>[^\s"]+))')


@dataclass(frozen=True)
class SamplePaper:
    """An invented paper, with the values that its entry in a feed contains."""

    id: str
    title: str
    authors: tuple[str, ...]
    journal: str
    category: str
    published: datetime
    updated: datetime

    def matches(self, field: str, phrase: str) -> bool:
        """Whether a field contains a phrase; `all` searches all fields."""
        values = {"au": " ; ".join(self.authors), "ti": self.title, "jr": self.journal}
        texts = values.values() if field == "all" else [values[field]]
        return any(phrase.lower() in text.lower() for text in texts)


@cache
def papers(count: int = PAPERS, seed: int = SEED) -> tuple[SamplePaper, ...]:
    """Return invented papers. The same count and seed give the same papers.

    Most have no journal reference, one has the title `0`, one has no title, and some authors' names begin with a blank.
    """
    chance = random.Random(seed)  # noqa: S311 - sample data
    return tuple(_paper(chance, number) for number in range(count))


def _paper(chance: random.Random, number: int) -> SamplePaper:
    topic, category, journal = chance.choice(_TOPICS)
    published = FIRST_DAY + timedelta(days=chance.randrange(DAYS), seconds=chance.randrange(86_400))
    version = chance.choice((1, 1, 1, 2, 3))
    names = tuple(f"{chance.choice(_FIRST)} {chance.choice(_LAST)}" for _ in range(chance.randint(1, 4)))
    if chance.random() < LEADING_BLANK:
        names = (f" {names[0]}", *names[1:])
    title = {ZERO_TITLE: "0", MISSING_TITLE: ""}.get(number, f"{chance.choice(_KINDS)} {topic} {number}")
    has_journal = chance.random() >= MISSING_JOURNAL
    return SamplePaper(
        id=f"9901.{number:05d}v{version}",
        title=title,
        authors=names,
        journal=f"{journal} {chance.randint(1, 90)}, {number} ({published.year})" if has_journal else "",
        category=category,
        published=published,
        updated=published + timedelta(days=20 * (version - 1)),
    )


def server(found: Sequence[SamplePaper] | None = None) -> DemoServer:
    """Return a server that answers searches from the given papers, by default from the sample papers.

    Parameters
    ----------
    found
        The papers, in order of relevance.
    """
    known = papers() if found is None else tuple(found)
    return DemoServer(lambda request: respond(request, known))


def respond(request: Request, known: Sequence[SamplePaper]) -> Reply:
    """Answer a request as the arXiv API does."""
    if request.path != PATH:
        return reply(b"Not Found", "text/plain", 404)
    start, size = request.query.get("start", "0"), request.query.get("max_results", str(PER_PAGE))
    for name, text in (("start", start), ("max_results", size)):
        if not text.isdigit():
            return error_feed(f"{name} must be an integer")
    query = request.query.get("search_query", "")
    matching = [paper for paper in known if _matches(paper, query)]
    if request.query.get("sortBy") in {"submittedDate", "lastUpdatedDate"}:
        column = "published" if request.query["sortBy"] == "submittedDate" else "updated"
        matching.sort(key=lambda paper: (getattr(paper, column), paper.id), reverse=True)
    first, most = int(start), min(int(size), MOST_PER_PAGE)
    return reply_with(query, len(matching), first, most, matching[first : first + most])


def _matches(paper: SamplePaper, query: str) -> bool:
    terms = list(_TERM.finditer(query))
    return bool(terms) and all(paper.matches(term["field"], term["phrase"] or term["word"] or "") for term in terms)


def reply_with(query: str, total: int, start: int, size: int, shown: Sequence[SamplePaper]) -> Reply:
    """Return a page of search results."""
    return reply(_feed(query, total, start, size, "".join(_entry(paper) for paper in shown)).encode(), CONTENT_TYPE)


def _feed(query: str, total: int, start: int, size: int, entries: str) -> str:
    return (
        "<?xml version='1.0' encoding='UTF-8'?>\n"
        '<feed xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/" xmlns:arxiv="http://arxiv.org/schemas/atom" '
        'xmlns="http://www.w3.org/2005/Atom">\n'
        f"  <id>https://arxiv.org/api/demo</id>\n  <title>arXiv Query: search_query={escape(query)}</title>\n"
        f"  <updated>2026-01-01T00:00:00Z</updated>\n"
        f"  <opensearch:itemsPerPage>{size}</opensearch:itemsPerPage>\n"
        f"  <opensearch:totalResults>{total}</opensearch:totalResults>\n"
        f"  <opensearch:startIndex>{start}</opensearch:startIndex>\n{entries}</feed>\n"
    )


def _entry(paper: SamplePaper) -> str:
    authors = "".join(f"    <author>\n      <name>{escape(name)}</name>\n    </author>\n" for name in paper.authors)
    title = f"    <title>{escape(paper.title)}</title>\n" if paper.title else ""
    journal = f"    <arxiv:journal_ref>{escape(paper.journal)}</arxiv:journal_ref>\n" if paper.journal else ""
    return (
        f"  <entry>\n    <id>http://arxiv.org/abs/{paper.id}</id>\n{title}"
        f"    <updated>{paper.updated:%Y-%m-%dT%H:%M:%SZ}</updated>\n"
        f'    <link href="https://arxiv.org/abs/{paper.id}" rel="alternate" type="text/html"/>\n'
        f"    <summary>An invented abstract.</summary>\n"
        f'    <category term="{paper.category}" scheme="http://arxiv.org/schemas/atom"/>\n'
        f"    <published>{paper.published:%Y-%m-%dT%H:%M:%SZ}</published>\n"
        f'    <arxiv:primary_category term="{paper.category}"/>\n{journal}{authors}  </entry>\n'
    )


def error_feed(reason: str, status: int = 400) -> Reply:
    """Return the feed that the API sends for an error: one entry titled `Error`."""
    entry = (
        f"  <entry>\n    <id>https://arxiv.org/api/errors#{escape(reason.replace(' ', '_'))}</id>\n"
        f"    <title>Error</title>\n    <summary>{escape(reason)}</summary>\n"
        "    <author>\n      <name>arXiv api core</name>\n    </author>\n  </entry>\n"
    )
    return reply(_feed("", 1, 0, 1, entry).encode(), CONTENT_TYPE, status)


def empty_page(answer: Reply) -> Reply:
    """Fault: a page without entries, although `totalResults` is not 0."""
    body = re.sub(rb"(?s)  <entry>.*</entry>\n", b"", b"".join(answer.body))
    return replace(answer, body=(body,), length=len(body))


def error_entry(_: Reply) -> Reply:
    """Fault: an error feed with the status 200, as arXiv sent it until 2025."""
    return error_feed("internal error", 200)


def entity_bomb(_: Reply) -> Reply:
    """Fault: nested entities that would expand to 10^9 characters."""
    levels = "".join(f'<!ENTITY e{level} "{f"&e{level - 1};" * 10}">' for level in range(1, 9))
    body = f'<?xml version="1.0"?><!DOCTYPE feed [<!ENTITY e0 "0123456789">{levels}]><feed>&e8;</feed>'
    return reply(body.encode(), CONTENT_TYPE)
