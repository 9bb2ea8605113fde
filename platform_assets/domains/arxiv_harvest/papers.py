"""The table of papers, and plots of papers per saved search and month."""

from __future__ import annotations

import base64
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    from sqlalchemy import Engine

MONTHS_SHOWN = 24
SEARCHES_SHOWN = 12

# The newest stored description of each paper, and all searches that found any of its versions.
_PAPERS = """
select newest.arxiv_id, newest.version, newest.title, array_to_string(newest.authors, ', ') as author, newest.journal,
    newest.primary_category, newest.published_at at time zone 'UTC' as published_at_utc,
    newest.updated_at at time zone 'UTC' as updated_at_utc, found.first_stored_at_utc, found.saved_searches,
    found.is_demo
from (
    select distinct on (arxiv_id) * from arxiv_harvest.papers order by arxiv_id, version desc nulls last, id desc
) newest
join (
    select arxiv_id, min(p.stored_at) at time zone 'UTC' as first_stored_at_utc,
        coalesce(string_agg(distinct q.saved_search, ', ' order by q.saved_search), '') as saved_searches,
        bool_and(q.server = 'demo') as is_demo
    from arxiv_harvest.papers p
    join arxiv_harvest.results r on r.paper_id = p.id
    join arxiv_harvest.queries q on q.id = r.query_id
    group by arxiv_id
) found using (arxiv_id)
order by arxiv_id
"""
_PER_SEARCH = """
select q.saved_search, count(distinct p.arxiv_id) as papers
from arxiv_harvest.results r
join arxiv_harvest.queries q on q.id = r.query_id
join arxiv_harvest.papers p on p.id = r.paper_id
where q.saved_search is not null
group by q.saved_search order by 2 desc, 1
"""


def papers_table(engine: Engine) -> pa.Table:
    """Return one row per stored paper, with the columns of `schemas.PAPERS`."""
    import pyarrow as pa
    from sqlalchemy import text

    types = {
        **dict.fromkeys(("arxiv_id", "title", "author", "journal", "primary_category", "saved_searches"), pa.string()),
        **dict.fromkeys(("published_at_utc", "updated_at_utc", "first_stored_at_utc"), pa.timestamp("us")),
        "version": pa.int64(),
        "is_demo": pa.bool_(),
    }
    with engine.connect() as connection:
        rows = connection.execute(text(_PAPERS))
        names = list(rows.keys())
        columns: Sequence[Sequence[Any]] = list(zip(*rows.all(), strict=True)) or [()] * len(names)
    return pa.table({name: pa.array(values, types[name]) for name, values in zip(names, columns, strict=True)})


def papers_per_search(engine: Engine) -> dict[str, int]:
    """Return the number of stored papers of each saved search, in descending order."""
    from sqlalchemy import text

    with engine.connect() as connection:
        return {row.saved_search: row.papers for row in connection.execute(text(_PER_SEARCH))}


def papers_per_month(table: pa.Table) -> dict[str, int]:
    """Return the number of papers by month of first submission (`yyyy-mm`), in chronological order."""
    months = Counter(f"{moment:%Y-%m}" for moment in table["published_at_utc"].to_pylist() if moment)
    return dict(sorted(months.items()))


def bar_plot(what: str, counts: Mapping[str, int]) -> str:
    """Return Markdown that contains a bar chart of counts as an image."""
    from platform_assets.evaluation.plot_style import MODEL, as_png, new_plot, note, short_name

    shown = dict(list(counts.items())[:SEARCHES_SHOWN])
    with new_plot(what, f"{sum(counts.values()):,} papers", "Papers stored from arXiv") as axes:
        if shown:
            names = [short_name(name) for name in shown][::-1]
            axes.bar_label(axes.barh(names, list(shown.values())[::-1], color=MODEL), padding=3)
        else:
            note(axes, "no papers yet")
        return _image(what, as_png(axes))


def month_plot(counts: Mapping[str, int]) -> str:
    """Return Markdown that contains a bar chart of the newest 24 months as an image."""
    from platform_assets.evaluation.plot_style import MODEL, as_png, new_plot, note

    shown = dict(list(counts.items())[-MONTHS_SHOWN:])
    what = "Papers per month"
    with new_plot(what, f"{sum(counts.values()):,} papers", "Month of first submission to arXiv") as axes:
        if shown:
            axes.bar(list(shown), list(shown.values()), color=MODEL)
            axes.tick_params(axis="x", labelrotation=90)
        else:
            note(axes, "no papers yet")
        return _image(what, as_png(axes))


def _image(what: str, png: bytes) -> str:
    return f"![{what}](data:image/png;base64,{base64.b64encode(png).decode()})"
