"""Declarations by which a domain makes its answers traceable: where they are stored, and which rows are behind them.

A domain's `trace.py` contains one `TracedAnswers` for each kind of answer. The prediction log is known already, so a
domain that only predicts over HTTP declares its source rows, or nothing at all.
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
    """A table of answers in PostgreSQL. The columns that no attribute names are the answer.

    Attributes
    ----------
    name
        `<schema>.<table>`.
    id
        Columns whose values, joined by `:`, are the id that `trace` takes. Several rows may have the same id.
    order
        Columns that order the rows of an id.
    version, approval
        Columns of the model version, and of its approval request.
    at
        Column of the time of the answer.
    model
        Column of the model's name; None if all rows belong to the model of the declaration.
    subject, caller
        Columns of what the answer is about, and of the key that asked; None without such a column.
    features
        Column with the features as served, as JSON, or the names of the columns that contain them.
    inputs
        Column with the version of each table of the lake that the features came from, as JSON; None without one.
    read_from
        Column with the online table and version that the features came from; None without one.
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
    """The rows of a table of the lake that an answer was made from.

    The file and line of a row are in its columns `file_digest`, `file_name` and `line`, if the table has them. For
    another source, `read` lands the file again. Its lines are valid if the file still has the recorded digest.

    Attributes
    ----------
    table
        The table.
    rows
        Function that returns the rows, from the table and the answer's row by column.
    read
        Function that lands the table's source; None for a table without a source of its own.
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
        The rows that an answer was made from, those of the features first.
    features
        Columns of the first of these rows that were the features, if the table of the answers does not contain them.
    """

    model: str
    stored: AnswerTable = LOG
    behind: tuple[RowsBehind, ...] = ()
    features: tuple[str, ...] = ()
