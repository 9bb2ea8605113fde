"""Tables of the arXiv harvest: columns, types, and expectations."""

from __future__ import annotations

from datetime import timedelta

from platform_assets.lake.expectations import is_present, is_unique
from platform_assets.lake.schemas import Column, TableSchema

QUERIES = TableSchema(
    name="arxiv_harvest/queries",
    columns=(
        Column("query", "string", "Search string that arXiv was asked for, decoded."),
        Column("server", "string", "Host name of the server that was asked; `demo` for sample papers."),
        Column("saved_search", "string", "Name of the saved search; null for other searches."),
        Column("asked_at", "timestamp", "Time of the query.", "UTC"),
        Column("status", "int64", "HTTP status of arXiv's answer; null if none came."),
        Column("total_results", "int64", "Results that arXiv has; null if the search failed."),
        Column("num_results", "int64", "Results that are stored."),
        Column("error", "string", "Reason of a failed search; null after success."),
    ),
    key=("asked_at", "query"),
    fresh_within=timedelta(days=2),
    store="online",
)

PAPERS = TableSchema(
    name="arxiv_harvest/papers",
    columns=(
        Column("arxiv_id", "string", "Identifier at arXiv, without version."),
        Column("version", "int64", "Newest stored version; null if arXiv gave none."),
        Column("title", "string", "Title; null if it is missing."),
        Column("author", "string", "Names of all authors, joined by a comma and a blank."),
        Column("journal", "string", "Journal reference; null for most papers."),
        Column("primary_category", "string", "Primary category at arXiv."),
        Column("published_at_utc", "timestamp", "Submission of the first version; null if it is missing.", "UTC"),
        Column("updated_at_utc", "timestamp", "Submission of this version; null if it is missing.", "UTC"),
        Column("first_stored_at_utc", "timestamp", "Time at which the paper was stored first.", "UTC"),
        Column("saved_searches", "string", "Names of the saved searches that found it, joined by a comma and a blank."),
        Column("is_demo", "boolean", "Whether only the server with sample papers returned it."),
    ),
    key=("arxiv_id",),
    expectations=(
        is_unique("arxiv_id"),
        *(is_present(name) for name in ("arxiv_id", "author", "first_stored_at_utc", "saved_searches", "is_demo")),
    ),
)
