"""SQLAlchemy definitions of the domain's PostgreSQL tables. The scripts in `migrations` create and describe the tables.

Import this module and `storage.py` inside functions, because SQLAlchemy takes time to import.
"""

from __future__ import annotations

from sqlalchemy import (  # noqa: TID253 - see above
    ARRAY,
    BigInteger,
    Column,
    DateTime,
    Identity,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
)

METADATA = MetaData(schema="arxiv_harvest")
_TIME = DateTime(timezone=True)

QUERIES = Table(
    "queries",
    METADATA,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("query", Text),
    Column("server", Text),
    Column("saved_search", Text),
    Column("asked_at", _TIME),
    Column("status", SmallInteger),
    Column("total_results", BigInteger),
    Column("num_results", Integer),
    Column("error", Text),
)
PAPERS = Table(
    "papers",
    METADATA,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("digest", Text, unique=True),
    Column("arxiv_id", Text),
    Column("version", Integer),
    Column("title", Text),
    Column("authors", ARRAY(Text)),
    Column("journal", Text),
    Column("doi", Text),
    Column("comment", Text),
    Column("summary", Text),
    Column("primary_category", Text),
    Column("categories", ARRAY(Text)),
    Column("published_at", _TIME),
    Column("updated_at", _TIME),
    Column("stored_at", _TIME),
)
RESULTS = Table(
    "results",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("query_id", BigInteger),
    Column("position", Integer),
    Column("paper_id", BigInteger),
    Column("stored_at", _TIME),
)
RESULT_COUNT = Table(
    "result_count",
    METADATA,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("results", BigInteger),
)
