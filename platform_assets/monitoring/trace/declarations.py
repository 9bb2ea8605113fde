"""Declarations that make a domain's answers traceable: where answers are stored, and from which rows they are computed.

A domain's `trace.py` contains one `TracedAnswers` for each kind of answer. Answers in the prediction log are found
without a declaration. For them, a declaration is needed only to trace the source rows.
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
    """Declaration of a table of answers in PostgreSQL.

    All attributes except `name` are names of columns. The other columns of the table are values of the answer.

    Attributes
    ----------
    name
        Name of the table, in the form `<schema>.<table>`.
    id
        Columns whose values, joined by `:`, are the id that `trace` takes. Several rows can have the same id.
    order
        Columns by which rows with the same id are sorted.
    version, approval
        Column with the model version, and column with the version's approval request.
    at
        Column with the time of the answer.
    model
        Column with the model's name; None if all rows belong to `TracedAnswers.model`.
    subject, caller
        Column with the subject of the answer, such as a client's id, and column with the name of the caller's API key;
        None if the table has no such column.
    features
        One column with all features that the model received, as JSON; or the names of several columns, one per feature.
    inputs
        Column with the versions of the lake's tables from which the features were read, as JSON; None if there is none.
    read_from
        Column with the version of the online table from which the features were read; None if there is none.
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
    """Declaration of the rows in one table of the lake from which an answer is computed.

    If the table has the columns `file_digest`, `file_name` and `line`, these columns give the file and line of a row.
    Otherwise, `read` reads the source again to find the lines. These are valid if the file's digest is still the
    recorded digest.

    Attributes
    ----------
    table
        Schema of the table.
    rows
        Function that selects the rows. Its arguments are the table, and the stored values of the answer by column.
    read
        Function that reads the table's source; None for a table without a source.
    """

    table: TableSchema
    rows: Callable[[ir.Table, Mapping[str, Any]], ir.Table]
    read: Callable[[Sources, Engine], Landed] | None = None


@dataclass(frozen=True)
class TracedAnswers:
    """Declaration of one kind of answer.

    Attributes
    ----------
    model
        Name of the registered model.
    stored
        Table in which the answers are stored.
    behind
        The rows from which an answer is computed. The first entry declares the rows that contain the features.
    features
        Names of the features, if the table of the answers does not contain them. They are columns of the rows that the
        first entry of `behind` declares.
    """

    model: str
    stored: AnswerTable = LOG
    behind: tuple[RowsBehind, ...] = ()
    features: tuple[str, ...] = ()
