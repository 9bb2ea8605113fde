"""Tables of the arXiv harvest: columns, types, and expectations."""

from __future__ import annotations

from datetime import timedelta

from platform_assets.lake.expectations import is_present, is_unique
from platform_assets.lake.schemas import Column, TableSchema

QUERIES = TableSchema(
    name="arxiv_harvest/queries",
    columns=(
        Column("query", "string", "Search string that was sent to arXiv, URL-decoded."),
        Column("server", "string", "Host name of the queried server; `demo` for sample papers."),
        Column("saved_search", "string", "Name of the saved search; null for other searches."),
        Column("asked_at", "timestamp", "Time of the query.", "UTC"),
        Column("status", "int64", "HTTP status of arXiv's response; null if there was none."),
        Column("total_results", "int64", "Total number of results that arXiv has; null if the search failed."),
        Column("num_results", "int64", "Number of stored results."),
        Column("error", "string", "Error of a failed search; null if it succeeded."),
    ),
    key=("asked_at", "query"),
    fresh_within=timedelta(days=2),
    store="online",
)

PAPERS = TableSchema(
    name="arxiv_harvest/papers",
    columns=(
        Column("arxiv_id", "string", "arXiv identifier, without version."),
        Column("version", "int64", "Newest stored version; null if arXiv gave none."),
        Column("title", "string", "Title; null if it is missing."),
        Column("author", "string", "Names of all authors, separated by a comma and a space."),
        Column("journal", "string", "Journal reference; null for most papers."),
        Column("primary_category", "string", "Primary arXiv category."),
        Column("published_at_utc", "timestamp", "Submission time of the first version; null if missing.", "UTC"),
        Column("updated_at_utc", "timestamp", "Submission time of this version; null if missing.", "UTC"),
        Column("first_stored_at_utc", "timestamp", "Time at which the paper was first stored.", "UTC"),
        Column(
            "saved_searches",
            "string",
            "Names of the saved searches that found the paper, separated by a comma and a space.",
        ),
        Column("is_demo", "boolean", "Whether the paper is sample data, found only on the demo server."),
    ),
    key=("arxiv_id",),
    expectations=(
        is_unique("arxiv_id"),
        *(is_present(name) for name in ("arxiv_id", "author", "first_stored_at_utc", "saved_searches", "is_demo")),
    ),
)
