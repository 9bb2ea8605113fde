"""Declarations that make a domain's answers traceable: where they are stored, and which rows they were made from.

A domain's `trace.py` contains one `TracedAnswers` for each kind of answer. The prediction log is always included, so a
domain that only predicts over HTTP needs a declaration only to trace the source rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.serving.prediction_log import TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import ibis.expr.types as ir

    from platform_assets.engine.query_engine import Engine
    from platform_assets.lake.schemas import TableSchema
    from platform_assets.landing.declared_sources import Sources
    from platform_assets.landing.landed_rows import Landed


@dataclass(frozen=True)
class AnswerTable:
    """A table of answers in PostgreSQL. All columns that are not listed below are the answer.

    Attributes
    ----------
    name
        `<schema>.<table>`.
    id
        Columns whose values, joined by `:`, are the id for `trace`. Several rows may have the same id.
    order
        Columns by which the rows of an id are sorted.
    version, approval
        Columns of the model version, and of its approval request.
    at
        Column of the time of the answer.
    model
        Column of the model's name; None if all rows belong to the model of the declaration.
    subject, caller
        Columns of the subject of the answer, such as a client's id, and of the name of the caller's key; None if the
        table has no such column.
    features
        Column with the features as served, as JSON, or the names of the columns that contain them.
    inputs
        Column with the versions of the lake's tables that the features came from, as JSON; None if there is none.
    read_from
        Column with the online table and version that the features came from; None if there is none.
    """

    name: str
    id: tuple[str, ...]
    order: tuple[str, ...]
    version: str = "model_version"
    approval: str = "approval_id"
    at: str = "predicted_at"
    model: str | None = None
    subject: str | None = None
    caller: str | None = None
    features: str | tuple[str, ...] = ()
    inputs: str | None = None
    read_from: str | None = None


LOG = AnswerTable(
    name=TABLE,
    id=("request_id",),
    order=("at", "batch", "place"),
    version="version",
    at="at",
    model="model",
    subject="subject",
    caller="caller",
    features="features",
    read_from="read_from",
)
"""The prediction log of the HTTP service."""


@dataclass(frozen=True)
class RowsBehind:
    """Declaration of the rows, in one table of the lake, that an answer was made from.

    If the table has the columns `file_digest`, `file_name` and `line`, they give the file and line of a row. Otherwise,
    `read` lands the source again to find the lines. The lines are valid if the file still has the recorded digest.

    Attributes
    ----------
    table
        The table.
    rows
        Function that selects the rows. Its arguments are the table, and the stored row of the answer by column.
    read
        Function that lands the table's source; None for a table without a source.
    """

    table: TableSchema
    rows: Callable[[ir.Table, Mapping[str, Any]], ir.Table]
    read: Callable[[Sources, Engine], Landed] | None = None


@dataclass(frozen=True)
class TracedAnswers:
    """One kind of answer.

    Attributes
    ----------
    model
        Name of the registered model.
    stored
        Table of the answers.
    behind
        The rows that an answer was made from. The first entry declares the rows with the features.
    features
        Feature columns of the rows that the first entry of `behind` declares. Needed only if the table of the answers
        does not contain the features.
    """

    model: str
    stored: AnswerTable = LOG
    behind: tuple[RowsBehind, ...] = ()
    features: tuple[str, ...] = ()
