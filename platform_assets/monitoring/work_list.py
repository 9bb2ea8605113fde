"""Work list of a model: subjects whose newest prediction requires action, and for which no outcome is recorded yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from platform_assets.base.errors import NotFound
from platform_assets.base.json_values import as_json
from platform_assets.base.printable_text import escaped
from platform_assets.lake.online_tables import plain_errors
from platform_assets.monitoring.labels import Label

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import psycopg

    from platform_assets.monitoring.label_store import Labels
    from platform_assets.training.model_spec import ModelSpec
    from platform_assets.training.monitoring_policy import WorkList

Outcome = Literal["done", "wrong"]
LABEL_OF: dict[Outcome, float] = {"done": 1.0, "wrong": 0.0}
"""The label that is stored for each outcome."""
MOST = 200
"""Maximum number of subjects in the list. Subjects with the highest scores come first."""
_OPEN = """
select subject, at, score, count(*) over () from (
    select {subject}::text as subject, {at} as at, {score} as score from {table} where {flagged}
) as flagged
where not exists (
    select from platform.labels
    where model = %(model)s and labels.subject = flagged.subject and labels.at >= date_trunc('second', flagged.at)
)
order by score desc, subject limit %(most)s
"""
_IS_THERE = "select 1 from {table} where {subject}::text = %(subject)s"


@dataclass(frozen=True)
class Task:
    """A subject that requires action, with the time and score of its newest prediction."""

    subject: str
    at: datetime
    score: float


def open_tasks(
    connect: Callable[[], AbstractContextManager[psycopg.Connection[Any]]], spec: ModelSpec, declared: WorkList
) -> tuple[list[Task], int]:
    """Return the open tasks with the highest scores, and the number of all open tasks.

    Parameters
    ----------
    connect
        Function that returns a context manager with a connection to the platform's database.
    spec, declared
        Declarations of the model, and of its work list.

    Raises
    ------
    DatabaseError
        The database does not answer, or the table of the work list is missing.
    """
    from psycopg import sql

    times = sql.SQL(", ").join(map(sql.Identifier, declared.at))
    query = sql.SQL(_OPEN).format(
        subject=sql.Identifier(declared.subject),
        at=sql.SQL("coalesce({})").format(times),
        score=sql.Identifier(declared.score),
        flagged=sql.Identifier(declared.flagged),
        table=sql.Identifier(*declared.table.split("/")),
    )
    with plain_errors(declared.table), connect() as connection:
        rows = connection.execute(query, {"model": spec.name, "most": MOST}).fetchall()
    return [Task(*row[:3]) for row in rows], rows[0][3] if rows else 0


def demand_subject(
    connect: Callable[[], AbstractContextManager[psycopg.Connection[Any]]], declared: WorkList, subject: str
) -> None:
    """Raise an error if the table of a work list has no prediction about a subject.

    Parameters
    ----------
    connect, declared
        See `open_tasks`.
    subject
        The subject.

    Raises
    ------
    NotFound
        The table has no prediction about the subject.
    DatabaseError
        The database does not answer, or the table of the work list is missing.
    """
    from psycopg import sql

    table = sql.Identifier(*declared.table.split("/"))
    query = sql.SQL(_IS_THERE).format(table=table, subject=sql.Identifier(declared.subject))
    with plain_errors(declared.table), connect() as connection:
        if connection.execute(query, {"subject": as_json(subject)}).fetchone() is None:
            raise NotFound(f"Nothing was stored: there is no prediction about {escaped(subject)}. Reload the page.")


def mark(labels: Labels, spec: ModelSpec, task: tuple[str, datetime], outcome: Outcome, sender: str) -> None:
    """Store the outcome of a task as a label of the subject at the time of the prediction.

    Parameters
    ----------
    labels
        Store of the labels.
    spec
        Declaration of the model.
    task
        Subject, and time of its prediction.
    outcome
        `done` if the prediction was right and the work is done; `wrong` if nothing had to be done.
    sender
        Name of the person's API key.

    Raises
    ------
    NotFound
        The label was refused; the message contains the reason.
    DatabaseError
        The database does not answer.
    """
    subject, at = task
    [filed] = labels.store(spec, [Label(LABEL_OF[outcome], datetime.now(UTC), subject=subject, at=at)], sender)
    if filed.outcome not in {"stored", "already_stored"}:
        raise NotFound(f"The label for {subject} was not stored: {filed.reason}.")
