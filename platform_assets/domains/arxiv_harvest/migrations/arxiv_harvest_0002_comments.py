"""Reword the comments on the tables of searches in plain English."""

from __future__ import annotations

from alembic import op

revision = "arxiv_harvest_0002"
down_revision = "arxiv_harvest_0001"
branch_labels = None
depends_on = None

SCHEMA = "arxiv_harvest"
TABLE = ""
"""Key of the comment on the table itself."""
COMMENTS: dict[str, dict[str, str]] = {
    "papers": {
        TABLE: "Metadata of papers from arXiv. Searches that find the same metadata share a row.",
        "id": "Number of the row.",
        "digest": "SHA-256 of all columns from arXiv. Changed metadata are stored as a new row.",
        "published_at": "Time at which the first version was submitted; null if it is missing.",
        "updated_at": "Time at which this version was submitted; null if it is missing.",
    },
    "queries": {
        TABLE: "Searches, including failed ones.",
        "id": "Number of the search.",
        "query": "Search string for arXiv, before URL encoding.",
        "server": "Host name of the server that was searched; `demo` for sample data.",
        "asked_at": "Time of the search.",
        "status": "HTTP status of arXiv's response; null if there was no response.",
        "total_results": "Number of results that arXiv has; null if the search failed.",
        "num_results": "Number of results that were stored.",
        "error": "Error message of a failed search; null if the search succeeded.",
    },
    "request_pace": {
        TABLE: "Time of the last request to each server. All processes together keep a pause between requests.",
        "last_request_at": "Time at which the last request to the server ended, or started if it has not ended, by the "
        "database's clock.",
    },
    "result_count": {
        TABLE: "Counter of the results, in a single row. A transaction locks the row while it stores results, so that "
        "their numbers have no gaps.",
        "results": "Number of stored results, which is also the `number` of the newest result.",
    },
    "results": {
        TABLE: "Results of the searches, numbered in the order in which they were stored.",
        "number": "Position among all stored results, from 1, without gaps.",
        "query_id": "`id` of the search in the table queries.",
        "position": "Position among the stored results of the search, from 0.",
        "paper_id": "`id` of the metadata in the table papers.",
    },
}


def upgrade() -> None:
    for table, comments in COMMENTS.items():
        for column, comment in comments.items():
            if column == TABLE:
                op.create_table_comment(table, comment, schema=SCHEMA)
            else:
                op.alter_column(table, column, comment=comment, schema=SCHEMA)


def downgrade() -> None:
    """Keep the comments, because they describe the tables of the older revision too."""
