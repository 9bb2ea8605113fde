"""The result of tracing an answer, and its conversion to JSON."""

from __future__ import annotations

# Import these types at runtime, because pydantic reads the annotations to write JSON and to document the route.
from collections.abc import Mapping, Sequence  # noqa: TC003
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from platform_assets.serving.shadow_store import ShadowScore  # noqa: TC001 - read by pydantic too


@dataclass(frozen=True)
class Decision:
    """One event in the history of an approval request.

    Attributes
    ----------
    kind
        Kind of event, for example `request`, `approve`, `promote` or `roll_back`.
    by
        Name of the person who caused the event, or of the platform.
    verified
        Whether the identity of the person was verified, for example by an API key.
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
        Name and number of the model version, and number of the approval request with which it became champion.
    digest
        SHA-256 of the artifact; None if unknown.
    threshold
        Lowest score for which an answer is positive; None if the model has no threshold or it is unknown.
    decisions
        Events of the approval request, oldest first.
    dagster_run
        The Dagster run that trained the version, or that evaluated it for the request; None if unknown.
    mlflow_run
        The MLflow run of the training; None if unknown.
    launched_by
        Person or component that launched the training; None if unknown.
    trained_at
        Time at which the version was registered; None if unknown.
    git_commit, code, lock_digest
        The git commit, the version of the code, and the digest of the library versions; None if unknown.
    demo
        Whether the version was trained on sample data; None if unknown.
    tables, table_digests
        Versions and digests of the training tables, by table.
    missing
        Which facts are unknown, and why.
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
    """One row from which an answer was computed.

    Attributes
    ----------
    values
        Values of the row in the table.
    file, file_digest, line
        Name and SHA-256 of the source file, and line number of the row in this file; None if unknown.
    text
        Unconverted values of the row in the source file; None if the file was not read.
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
        Name of the table, and the version that contains the rows; the version is None if it is unknown.
    rows
        The rows, up to a maximum number.
    more
        Number of rows beyond this maximum.
    equal_to_served
        Whether the row's features equal the features that the model received; None if they cannot be compared.
    missing
        What could not be determined about these rows, and why.
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
        Name and number of the model version, and number of the approval request with which it became champion.
    at
        Time of the answer.
    caller
        Name of the caller's API key, empty for a caller without a key. None if there was no caller, for example because
        a job computed the answer.
    subject
        Subject of the answer, such as a client's id; None if the answer has no subject.
    answer
        Returned values, such as the score and the decision.
    features
        The features that the model received.
    read_from
        Version of the online table from which the features were read, as `<table>@<version>`. None if the request
        contained the features, or if the version was not recorded.
    inputs
        Versions of the lake's tables from which the features were computed, by table.
    rows
        Rows from which the features were computed.
    shadows
        Scores of shadow versions for the same features. They were not returned to the caller.
    missing
        What could not be determined about this answer, and why.
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
    """One version of a table from which answers were computed, or on which their model was trained.

    Attributes
    ----------
    name, version
        Name of the table, and number of the version.
    digest, rows, committed_at
        Digest of the rows, number of rows, and time of publication; None if unknown.
    run, code
        The Dagster run that wrote the version, and the version of the code; None if unknown.
    demo
        Whether the version contains sample data; None if unknown.
    source, source_digest
        Source file from which the version was loaded, and the file's SHA-256; None for a derived table.
    inputs
        Versions of other tables from which the version was computed, by table.
    missing
        Why the rows can no longer be read; empty if they can be read.
    undone
        Who undid the version, and why; empty if it was not undone.
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
    """The origin of the answers recorded under an id: source rows, tables and models.

    Attributes
    ----------
    id
        Id of a request, or of a stored answer.
    total
        Number of all answers with this id.
    answers
        The traced answers; all of them, or a part of them.
    models
        The model versions that computed these answers.
    tables
        All table versions from which the features and the training rows were computed, including the versions that
        were loaded from sources.
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
