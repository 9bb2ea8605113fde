"""Both layouts of arXiv's feeds, their optional fields, and bodies that are not feeds."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from platform_assets.domains.arxiv_harvest import demo
from platform_assets.domains.arxiv_harvest.atom_feed import (
    Author,
    Feed,
    Link,
    MalformedFeed,
    Paper,
    parse_feed,
)

if TYPE_CHECKING:
    from pathlib import Path

OLD = """<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
  <title type="html">ArXiv Query: search_query=ti:x</title>
  <updated>2024-05-04T00:00:00-04:00</updated>
  <opensearch:totalResults xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/">12</opensearch:totalResults>
  <opensearch:startIndex xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/">3</opensearch:startIndex>
  <opensearch:itemsPerPage xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/">1</opensearch:itemsPerPage>
  <entry>
    <id>http://arxiv.org/abs/cond-mat/0601001v12</id>
    <updated>2006-02-03T04:05:06Z</updated>
    <published>2006-01-01T00:00:00Z</published>
    <title>A title
  over two lines</title>
    <summary>  Wrapped
text &amp; more.
</summary>
    <author><name> Ada
 Maestro</name><arxiv:affiliation xmlns:arxiv="http://arxiv.org/schemas/atom">Here,
 there</arxiv:affiliation></author>
    <author><name>Bo</name></author>
    <arxiv:doi xmlns:arxiv="http://arxiv.org/schemas/atom">10.1/x</arxiv:doi>
    <arxiv:comment xmlns:arxiv="http://arxiv.org/schemas/atom">9 pages,
  2 figures</arxiv:comment>
    <arxiv:journal_ref xmlns:arxiv="http://arxiv.org/schemas/atom">J. X
 1, 2</arxiv:journal_ref>
    <link href="http://arxiv.org/abs/cond-mat/0601001v12" rel="alternate" type="text/html"/>
    <link title="pdf" href="http://arxiv.org/pdf/cond-mat/0601001v12" rel="related" type="application/pdf"/>
    <arxiv:primary_category xmlns:arxiv="http://arxiv.org/schemas/atom" term="cond-mat.other"/>
    <category term="cond-mat.other" scheme="http://arxiv.org/schemas/atom"/>
    <category term="hep-th" scheme="http://arxiv.org/schemas/atom"/>
  </entry>
</feed>"""
HEAD = (
    '<feed xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/" xmlns:arxiv="http://arxiv.org/schemas/atom" '
    'xmlns="http://www.w3.org/2005/Atom"><title>arXiv Query: search_query=ti:x</title>'
    "<updated>2024-05-04T04:00:00Z</updated>"
    "<opensearch:itemsPerPage>1</opensearch:itemsPerPage><opensearch:totalResults>12</opensearch:totalResults>"
    "<opensearch:startIndex>3</opensearch:startIndex>"
)
NEW = (
    HEAD + "<entry><id>http://arxiv.org/abs/cond-mat/0601001v12</id><title>A title over two lines</title>"
    "<updated>2006-02-03T04:05:06Z</updated>"
    '<link href="http://arxiv.org/abs/cond-mat/0601001v12" rel="alternate" type="text/html"/>'
    '<link href="http://arxiv.org/pdf/cond-mat/0601001v12" rel="related" type="application/pdf" title="pdf"/>'
    "<summary>Wrapped text &amp; more.</summary>"
    '<category term="cond-mat.other" scheme="http://arxiv.org/schemas/atom"/>'
    '<category term="hep-th" scheme="http://arxiv.org/schemas/atom"/>'
    "<published>2006-01-01T00:00:00Z</published><arxiv:comment>9 pages, 2 figures</arxiv:comment>"
    '<arxiv:primary_category term="cond-mat.other"/><arxiv:journal_ref>J. X 1, 2</arxiv:journal_ref>'
    "<author><name> Ada Maestro</name><arxiv:affiliation>Here, there</arxiv:affiliation></author>"
    "<author><name>Bo</name></author><arxiv:doi>10.1/x</arxiv:doi></entry></feed>"
)
PAPER = Paper(
    arxiv_id="cond-mat/0601001",
    version=12,
    title="A title over two lines",
    authors=(Author("Ada Maestro", ("Here, there",)), Author("Bo")),
    journal="J. X 1, 2",
    doi="10.1/x",
    comment="9 pages, 2 figures",
    summary="Wrapped text & more.",
    primary_category="cond-mat.other",
    categories=("cond-mat.other", "hep-th"),
    published_at=datetime(2006, 1, 1, tzinfo=UTC),
    updated_at=datetime(2006, 2, 3, 4, 5, 6, tzinfo=UTC),
    links=(
        Link("http://arxiv.org/abs/cond-mat/0601001v12", "alternate", None, "text/html"),
        Link("http://arxiv.org/pdf/cond-mat/0601001v12", "related", "pdf", "application/pdf"),
    ),
)


@pytest.mark.requirement("ARX-2")
@pytest.mark.parametrize(("body", "word"), [(OLD, "ArXiv"), (NEW, "arXiv")])
def test_all_fields_of_both_layouts_are_parsed(body: str, word: str) -> None:
    updated = datetime(2024, 5, 4, 4, tzinfo=UTC)
    assert parse_feed(body.encode()) == Feed(f"{word} Query: search_query=ti:x", updated, 12, 3, 1, (PAPER,))
    assert PAPER.author == "Ada Maestro, Bo"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("<id>http://arxiv.org/abs/2104.12255</id>", Paper("2104.12255", None, None, ())),
        ("<id>http://arxiv.org/abs/2104.12255v1</id><title>0</title>", Paper("2104.12255", 1, "0", ())),
        ("<id>http://arxiv.org/abs/1.2v1</id><title> \n </title>", Paper("1.2", 1, None, ())),
        (
            "<id>http://arxiv.org/abs/1.2v1</id><title>Error</title><author><name>Ada</name></author>",
            Paper("1.2", 1, "Error", (Author("Ada"),)),
        ),
    ],
)
def test_missing_fields_are_none(entry: str, expected: Paper) -> None:
    assert parse_feed(f"{HEAD}<entry>{entry}</entry></feed>".encode()).papers == (expected,)


@pytest.mark.requirement("ARX-2")
def test_an_error_entry_is_not_parsed_as_a_paper() -> None:
    feed = parse_feed(b"".join(demo.error_feed("start must be an integer").body))
    assert feed.papers == ()
    assert feed.error == "start must be an integer"


@pytest.mark.requirement("ARX-2")
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "not well-formed XML: no element found"),
        (NEW[:-50], "not well-formed XML"),
        ("Rate exceeded.", "not well-formed XML: syntax error"),
        ("<html><body>sorry</body></html>", "root element is 'html' instead of an Atom feed"),
        ('<!DOCTYPE feed [<!ENTITY a "aaaa">]><feed>&a;</feed>', "a document type declaration"),
        ('<?xml version="1.0" encoding="klingon"?><feed/>', "not well-formed XML: unknown encoding"),
        (HEAD.replace("totalResults>12", "totalResults>many") + "</feed>", "totalResults is 'many'"),
        ('<feed xmlns="http://www.w3.org/2005/Atom"/>', "totalResults is '' instead of a number"),
        (HEAD + "<entry><id>http://arxiv.org/api/1</id></entry></feed>", "not the URL of a paper"),
        (HEAD + "<entry/></feed>", "not the URL of a paper"),
        (NEW.replace("2006-01-01T00:00:00Z", "yesterday"), "published is 'yesterday' instead of a time"),
        (NEW.replace("2006-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"), "published is '0001-.*' instead of a time"),
    ],
)
def test_a_body_that_is_not_a_feed_is_refused(body: str, said: str) -> None:
    with pytest.raises(MalformedFeed, match=said):
        parse_feed(body.encode())


@pytest.mark.requirement("ARX-2")
def test_recorded_responses_are_parsed_completely(real_data: Path) -> None:
    known = json.loads((real_data / "arxiv" / "index.json").read_text())
    feeds = {one["file"]: one for one in known if one["file"].endswith(".xml")}
    assert len(feeds) > 10
    for name, told in feeds.items():
        feed = parse_feed((real_data / "arxiv" / name).read_bytes())
        assert (feed.total, feed.error is not None) == (told["total_results"], told["status"] == 400), name
        assert len(feed.papers) == (0 if feed.error else told["entries"]), name
        assert sum(paper.journal is not None for paper in feed.papers) == told["journal_refs"], name
        for paper in feed.papers:
            always = {field.name for field in fields(paper)} - {"journal", "doi", "comment"}
            assert [one for one in always if getattr(paper, one) in {None, ()}] == [], (name, paper)
            texts = (paper.title, paper.author, paper.summary, paper.journal, paper.comment)
            assert [text for text in texts if text and text != " ".join(text.split())] == [], (name, paper)
