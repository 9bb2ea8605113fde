"""Parser for the Atom feeds of the arXiv API.

Two layouts exist. Until 2025, each extension element declared its own namespace and long texts were wrapped over lines.
Since 2026, the namespaces are declared on `<feed>` and texts are not wrapped. Both parse to the same values.

Format: https://info.arxiv.org/help/api/user-manual.html#_details_of_atom_results_returned
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_SPACES = {
    "atom": "http://www.w3.org/2005/Atom",
    "arxiv": "http://arxiv.org/schemas/atom",
    "opensearch": "http://a9.com/-/spec/opensearch/1.1/",
}
_PAPER_ID = re.compile(r"/abs/(?P<id>[^\s?#]+?)(v(?P<version>\d{1,9}))?$")
ERROR_TITLE, ERROR_AUTHOR = "Error", "arXiv api core"


class MalformedFeed(Exception):  # noqa: N818 - says what it is
    """The body is not a feed of the arXiv API."""


@dataclass(frozen=True)
class Author:
    """An author of a paper."""

    name: str
    affiliations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Link:
    """A link of a paper to its page, its PDF or its DOI."""

    href: str
    rel: str
    title: str | None
    type: str | None


@dataclass(frozen=True)
class Paper:
    """A paper, parsed from an entry of a feed. Each run of white space in a text is replaced by a single space.

    Attributes
    ----------
    arxiv_id
        Identifier without version, for example `1207.7214` or `astro-ph/0601001`.
    version
        Version of the paper; None if the entry does not give one.
    title, summary, comment, journal, doi
        Text of the element; None if the entry has no such element. Most papers have no journal reference.
    published_at, updated_at
        Submission times of the first version and of this version, in UTC.
    """

    arxiv_id: str
    version: int | None
    title: str | None
    authors: tuple[Author, ...]
    journal: str | None = None
    doi: str | None = None
    comment: str | None = None
    summary: str | None = None
    primary_category: str | None = None
    categories: tuple[str, ...] = ()
    published_at: datetime | None = None
    updated_at: datetime | None = None
    links: tuple[Link, ...] = ()

    @property
    def author(self) -> str:
        """The names of all authors, joined by `, `."""
        return ", ".join(author.name for author in self.authors)


@dataclass(frozen=True)
class Feed:
    """A page of search results.

    Attributes
    ----------
    title
        Title of the feed.
    updated_at
        Time at which the results were last updated, in UTC.
    total
        Total number of results of the search (`totalResults`).
    start
        Position of the first entry among all results.
    per_page
        Maximum number of entries per page.
    papers
        The entries of this page.
    error
        Message of an error feed; None in a feed of results.
    """

    title: str
    updated_at: datetime | None
    total: int
    start: int
    per_page: int
    papers: tuple[Paper, ...]
    error: str | None = None


def parse_feed(body: bytes) -> Feed:
    """Parse a feed.

    An error of the API is a feed with one entry titled `Error` by the author `arXiv api core`. It is returned as
    `error`, never as a paper.

    Raises
    ------
    MalformedFeed
        The body is not well-formed XML, has a document type declaration or entities, or is not a complete feed.
    """
    root = _root(body)
    entries = root.findall("atom:entry", _SPACES)
    error = _error(entries)
    return Feed(
        title=_text(root, "atom:title") or "",
        updated_at=_time(root, "atom:updated"),
        total=_number(root, "opensearch:totalResults"),
        start=_number(root, "opensearch:startIndex"),
        per_page=_number(root, "opensearch:itemsPerPage"),
        papers=() if error is not None else tuple(_paper(entry) for entry in entries),
        error=error,
    )


def _root(body: bytes) -> Element:
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException, ElementTree

    try:
        root: Element = ElementTree.fromstring(body, forbid_dtd=True)
    except DefusedXmlException:
        raise MalformedFeed("it has a document type declaration, which no feed from arXiv has") from None
    except (ParseError, LookupError, ValueError) as error:
        raise MalformedFeed(f"it is not well-formed XML: {error}") from None
    if root.tag != f"{{{_SPACES['atom']}}}feed":
        raise MalformedFeed(
            f"it is XML, but its root element is {root.tag.rpartition('}')[2]!r} instead of an Atom feed"
        )
    return root


def _error(entries: list[Element]) -> str | None:
    if len(entries) != 1 or _text(entries[0], "atom:title") != ERROR_TITLE:
        return None
    names = [author.name for author in _authors(entries[0])]
    return (_text(entries[0], "atom:summary") or "no reason given") if names == [ERROR_AUTHOR] else None


def _paper(entry: Element) -> Paper:
    address = _text(entry, "atom:id") or ""
    found = _PAPER_ID.search(address)
    if found is None:
        raise MalformedFeed(f"an entry has the id {address!r}, which is not the URL of a paper")
    primary = entry.find("arxiv:primary_category", _SPACES)
    return Paper(
        arxiv_id=found["id"],
        version=int(found["version"]) if found["version"] else None,
        title=_text(entry, "atom:title"),
        authors=_authors(entry),
        journal=_text(entry, "arxiv:journal_ref"),
        doi=_text(entry, "arxiv:doi"),
        comment=_text(entry, "arxiv:comment"),
        summary=_text(entry, "atom:summary"),
        primary_category=primary.get("term") if primary is not None else None,
        categories=tuple(one.get("term", "") for one in entry.findall("atom:category", _SPACES)),
        published_at=_time(entry, "atom:published"),
        updated_at=_time(entry, "atom:updated"),
        links=tuple(
            Link(link.get("href", ""), link.get("rel", ""), link.get("title"), link.get("type"))
            for link in entry.findall("atom:link", _SPACES)
        ),
    )


def _authors(entry: Element) -> tuple[Author, ...]:
    found = []
    for author in entry.findall("atom:author", _SPACES):
        places = [_normalised(one.text) for one in author.findall("arxiv:affiliation", _SPACES)]
        if name := _text(author, "atom:name"):
            found.append(Author(name, tuple(place for place in places if place)))
    return tuple(found)


def _text(element: Element, path: str) -> str | None:
    """Return the text of a child; None if the child is missing or blank. `0` is not blank."""
    child = element.find(path, _SPACES)
    return _normalised("".join(child.itertext())) if child is not None else None


def _normalised(text: str | None) -> str | None:
    return " ".join((text or "").split()) or None


def _number(root: Element, path: str) -> int:
    text = _text(root, path) or ""
    if not (text.isascii() and text.isdigit() and len(text) <= 15):  # noqa: PLR2004 - fits any integer type
        raise MalformedFeed(f"the value of {path.partition(':')[2]} is {text!r} instead of a number")
    return int(text)


def _time(element: Element, path: str) -> datetime | None:
    text = _text(element, path)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise MalformedFeed(f"the value of {path.partition(':')[2]} is {text!r} instead of a time") from None
