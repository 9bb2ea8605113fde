"""Tables of searches: queries, papers, results, and the pace of requests."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "arxiv_harvest_0001"
down_revision = None
branch_labels = ("arxiv_harvest",)
depends_on = None

SCHEMA = "arxiv_harvest"
APPEND_ONLY = ("queries", "papers", "results")
TEXTS = postgresql.ARRAY(sa.Text)


def column(name: str, kind: Any, comment: str, *more: Any, **options: Any) -> sa.Column[Any]:
    """Return a column that is not null, with a comment."""
    return sa.Column(name, kind, *more, comment=comment, **{"nullable": False, **options})


def upgrade() -> None:
    op.execute(f"create schema if not exists {SCHEMA}")
    create_queries()
    create_papers()
    create_results()
    op.create_table(
        "request_pace",
        column("server", sa.Text, "Host name of the server.", primary_key=True),
        column("last_request_at", sa.DateTime(timezone=True), "Start or end of the last request to it."),
        schema=SCHEMA,
        comment="Time of the last request to each server, over all processes.",
    )
    for table in APPEND_ONLY:
        op.execute(
            f"create trigger append_only before update or delete or truncate on {SCHEMA}.{table}"
            " for each statement execute function platform.refuse_change()"
        )


def create_queries() -> None:
    op.create_table(
        "queries",
        column("id", sa.BigInteger, "Number of the query.", sa.Identity(always=True), primary_key=True),
        column("query", sa.Text, "Search string that arXiv was asked for, decoded."),
        column("server", sa.Text, "Host name of the server that was asked; demo for sample data."),
        column("saved_search", sa.Text, "Name of the saved search; null for other searches.", nullable=True),
        column("asked_at", sa.DateTime(timezone=True), "Time of the query."),
        column("status", sa.SmallInteger, "HTTP status of arXiv's answer; null if none came.", nullable=True),
        column("total_results", sa.BigInteger, "Results that arXiv has; null if the search failed.", nullable=True),
        column("num_results", sa.Integer, "Results that are stored."),
        column("error", sa.Text, "Reason of a failed search.", nullable=True),
        sa.CheckConstraint("num_results >= 0 and (error is null or num_results = 0)", "failed_queries_have_no_results"),
        sa.Index("queries_asked_at", "asked_at", "id"),
        schema=SCHEMA,
        comment="One row per search, also per failed search.",
    )


def create_papers() -> None:
    op.create_table(
        "papers",
        column("id", sa.BigInteger, "Number of the paper.", sa.Identity(always=True), primary_key=True),
        column("digest", sa.Text, "SHA-256 of all columns from arXiv. Changed metadata make a new row.", unique=True),
        column("arxiv_id", sa.Text, "Identifier at arXiv, without version."),
        column("version", sa.Integer, "Version of the paper; null if arXiv gave none.", nullable=True),
        column("title", sa.Text, "Title; null if it is missing.", nullable=True),
        column("authors", TEXTS, "Names of the authors, in order."),
        column("journal", sa.Text, "Journal reference; null if it is missing.", nullable=True),
        column("doi", sa.Text, "Digital object identifier; null if it is missing.", nullable=True),
        column("comment", sa.Text, "Comment of the authors; null if it is missing.", nullable=True),
        column("summary", sa.Text, "Abstract; null if it is missing.", nullable=True),
        column("primary_category", sa.Text, "Primary category; null if it is missing.", nullable=True),
        column("categories", TEXTS, "All categories."),
        column("published_at", sa.DateTime(timezone=True), "Submission of the first version.", nullable=True),
        column("updated_at", sa.DateTime(timezone=True), "Submission of this version.", nullable=True),
        column("stored_at", sa.DateTime(timezone=True), "Time at which the row was stored."),
        sa.Index("papers_arxiv_id", "arxiv_id", "id"),
        schema=SCHEMA,
        comment="Papers as arXiv described them. Searches that find the same paper share its row.",
    )


def create_results() -> None:
    query = sa.ForeignKey(f"{SCHEMA}.queries.id")
    paper = sa.ForeignKey(f"{SCHEMA}.papers.id")
    op.create_table(
        "results",
        column("number", sa.BigInteger, "Place among all results, from 1, without gaps.", primary_key=True),
        column("query_id", sa.BigInteger, "The query.", query),
        column("position", sa.Integer, "Place among the results of the query, from 0."),
        column("paper_id", sa.BigInteger, "The paper.", paper),
        column("stored_at", sa.DateTime(timezone=True), "Time at which the result was stored."),
        sa.UniqueConstraint("query_id", "position"),
        schema=SCHEMA,
        comment="One row per query and position, numbered in the order of storage.",
    )
    op.create_table(
        "result_count",
        column("id", sa.SmallInteger, "Always 1.", sa.CheckConstraint("id = 1"), primary_key=True),
        column("results", sa.BigInteger, "Number of stored results, which is the number of the last one."),
        schema=SCHEMA,
        comment="Counter of the results. Its row lock makes transactions number their results one after the other.",
    )


def downgrade() -> None:
    for table in ("results", "result_count", "papers", "queries", "request_pace"):
        op.drop_table(table, schema=SCHEMA)
    op.execute(f"drop schema {SCHEMA}")
