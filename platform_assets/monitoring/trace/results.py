"""The result of a trace, and its JSON."""

from __future__ import annotations

# Pydantic reads the annotations, for the JSON and for the documentation of the route.
from collections.abc import Mapping, Sequence  # noqa: TC003
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from platform_assets.serving.shadow_store import ShadowScore  # noqa: TC001 - read by pydantic too


@dataclass(frozen=True)
class Decision:
    """One event of the approval request.

    Attributes
    ----------
    kind
        `request`, `approve`, `promote`, `roll_back` and so on.
    by
        Name of the person, or of the platform.
    verified
        Whether a key verified the name.
    at
        Time of the event.
    reason
        The reason that the person gave; None if there is none.
    told
        The event in one sentence.
    """

    kind: str
    by: str
    verified: bool
    at: datetime
    reason: str | None
    told: str


@dataclass(frozen=True)
class TracedModel:
    """A model version, its approval and its training.

    Attributes
    ----------
    name, version, approval_id
        The model version, and the approval request that made it champion.
    digest
        SHA-256 of the artifact; None if unknown.
    threshold
        Score from which an answer is positive; None if unknown.
    decisions
        Events of the approval request, oldest first.
    dagster_run
        The Dagster run that trained the version, or that evaluated it for the request; None if unknown.
    mlflow_run
        The MLflow run of the training; None if unknown.
    launched_by
        Launcher of the training.
    trained_at
        Time of the registration.
    git_commit, code, lock_digest
        The commit, the version of the code, and the digest of the library versions.
    demo
        Whether the version was trained on sample data.
    tables, table_digests
        Versions and digests of the training tables.
    missing
        Unknown facts, with the reasons.
    """

    name: str
    version: int | None
    approval_id: int | None
    digest: str | None = None
    threshold: float | None = None
    decisions: Sequence[Decision] = ()
    dagster_run: str | None = None
    mlflow_run: str | None = None
    launched_by: str | None = None
    trained_at: datetime | None = None
    git_commit: str | None = None
    code: str | None = None
    lock_digest: str | None = None
    demo: bool | None = None
    tables: Mapping[str, int] = field(default_factory=dict)
    table_digests: Mapping[str, str] = field(default_factory=dict)
    missing: Sequence[str] = ()


@dataclass(frozen=True)
class SourceRow:
    """One row that an answer was made from.

    Attributes
    ----------
    values
        The row as it is in the table.
    file, file_digest, line
        Name and SHA-256 of the source file that contains the row, and the line of the row; None if unknown.
    text
        The row as it is in the file; None if the file was not read.
    """

    values: Mapping[str, Any]
    file: str | None = None
    file_digest: str | None = None
    line: int | None = None
    text: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class RowsOfTable:
    """Rows of one table from which an answer was computed.

    Attributes
    ----------
    table, version
        The table and the version that contains the rows; the version is None if it is unknown.
    rows
        The rows.
    more
        Number of further rows, which are not listed.
    equal_to_served
        Whether the features in these rows equal the served features; None if the table has no features.
    missing
        What could not be determined about these rows, with the reasons.
    """

    table: str
    version: int | None
    rows: Sequence[SourceRow] = ()
    more: int = 0
    equal_to_served: bool | None = None
    missing: Sequence[str] = field(default=())


@dataclass(frozen=True)
class TracedAnswer:
    """One answer.

    Attributes
    ----------
    model, version, approval_id
        The model version that answered, and the approval request that made it champion.
    at
        Time of the answer.
    caller
        Name of the caller's key; None if there was no caller, for example for a prediction that a job stored.
    subject
        Subject of the answer, such as a client's id; None if it has no subject.
    answer
        The answer, such as the score and the decision.
    features
        The features as served.
    read_from
        Online table and version that the features were read from, as `<table>@<version>`; None if the request contained
        the features, or if this was not recorded.
    inputs
        Versions of the tables of the lake that the features were made from.
    rows
        Rows from which the features were computed.
    shadows
        Scores of the shadow versions for the same row. They were not part of the answer.
    missing
        What could not be determined about this answer, with the reasons.
    """

    model: str
    version: int | None
    approval_id: int | None
    at: datetime | None
    caller: str | None
    subject: str | None
    answer: Mapping[str, Any]
    features: Mapping[str, Any]
    read_from: str | None = None
    inputs: Mapping[str, int] = field(default_factory=dict)
    rows: Sequence[RowsOfTable] = ()
    shadows: Sequence[ShadowScore] = ()
    missing: Sequence[str] = ()


@dataclass(frozen=True)
class TracedTable:
    """One table version that the answers were made from, or that their model was trained on.

    Attributes
    ----------
    name, version
        The table and the number of its version.
    digest, rows, committed_at
        Digest of the rows, their number, and the time of publication; None if unknown.
    run, code
        The Dagster run that made the version, and the version of the code.
    demo
        Whether the version contains sample data.
    source, source_digest
        The source file of a loaded table, and its SHA-256.
    inputs
        Versions of other tables that the version was made from.
    missing
        Why the rows can no longer be read; empty if they can be read.
    undone
        Person who undid the version, and the reason; empty if it was not undone.
    """

    name: str
    version: int
    digest: str | None = None
    rows: int | None = None
    committed_at: datetime | None = None
    run: str | None = None
    code: str | None = None
    demo: bool | None = None
    source: str | None = None
    source_digest: str | None = None
    inputs: Mapping[str, Sequence[int]] = field(default_factory=dict)
    missing: str = ""
    undone: str = ""


@dataclass(frozen=True)
class Trace:
    """The origin of the answers with an id: rows, tables and models.

    Attributes
    ----------
    id
        The id: of a request, or of a stored answer.
    total
        Number of all answers with this id.
    answers
        The answers that this trace contains.
    models
        The model versions that answered.
    tables
        The table versions that the features and the trainings used, back to the sources.
    """

    id: str
    total: int
    answers: Sequence[TracedAnswer]
    models: Sequence[TracedModel]
    tables: Sequence[TracedTable]


@cache
def _adapter() -> TypeAdapter[Trace]:
    return TypeAdapter(Trace)


def trace_as_json(trace: Trace, indent: int | None = None) -> bytes:
    """Return a trace as JSON."""
    return _adapter().dump_json(trace, indent=indent)
