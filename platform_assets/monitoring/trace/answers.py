"""Find answers by their id, in the prediction log and in the tables that domains declare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.base.json_values import as_json
from platform_assets.lake.ancestry import grouped
from platform_assets.lake.online_tables import plain_errors
from platform_assets.monitoring.trace.declarations import LOG, TracedAnswers
from platform_assets.serving.shadow_store import scores_of_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import timedelta

    import psycopg

    from platform_assets.monitoring.trace.declarations import AnswerTable, RowsBehind
    from platform_assets.serving.shadow_store import ShadowScore

    Connect = Callable[[], AbstractContextManager[psycopg.Connection[Any]]]


@dataclass(frozen=True)
class FoundAnswer:
    """A stored answer.

    Attributes
    ----------
    row
        Values of all columns.
    stored
        Declaration of the table that contains the row.
    model
        Name of the model.
    behind
        Declarations of the rows from which the answer was computed.
    in_rows
        Names of the features; they are columns of the rows that the first entry of `behind` declares.
    """

    row: Mapping[str, Any]
    stored: AnswerTable
    model: str
    behind: Sequence[RowsBehind] = ()
    in_rows: Sequence[str] = ()

    def value(self, column: str | None) -> Any:
        """Return the value of a column. If `column` is None, the table has no such column, and the value is None."""
        return None if column is None else self.row[column]

    @property
    def features(self) -> dict[str, Any]:
        """The features that the model received; empty if they are not stored with the answer."""
        named = self.stored.features
        return dict(self.row[named] or {}) if isinstance(named, str) else {name: self.row[name] for name in named}

    @property
    def answer(self) -> dict[str, Any]:
        """The values that were returned, such as the score."""
        stored = self.stored
        features = (stored.features,) if isinstance(stored.features, str) else stored.features
        named = (stored.version, stored.approval, stored.at, stored.model, stored.subject, stored.caller)
        others = {*stored.id, *stored.order, *features, *named, stored.inputs, stored.read_from}
        return {name: value for name, value in self.row.items() if name not in others}


def find_answers(
    connect: Connect, declared: Sequence[TracedAnswers], wanted: str, number: int | None, most: int
) -> tuple[list[FoundAnswer], int]:
    """Find the answers recorded under an id. Return some of them, and their total number.

    Parameters
    ----------
    connect
        Function that returns a context manager with a connection to the platform's database.
    declared
        Declarations of the kinds of answers.
    wanted
        The id to search for.
    number
        Return only the answer with this number, from 1; None for the first `most` answers.
    most
        Maximum number of answers to return if `number` is None.

    Raises
    ------
    DatabaseError
        The database does not respond.
    """
    first, limit = (0, most) if number is None else (number - 1, 1)
    text = as_json(wanted)
    for kind in _kinds(declared):
        with plain_errors(kind.stored.name), connect() as connection, connection.transaction():
            if (found := _rows(connection, kind.stored, text, first, limit)) is None:
                continue
        rows, total = found
        if total:
            return [_found(row, kind, declared) for row in rows], total
    return [], 0


def _kinds(declared: Sequence[TracedAnswers]) -> Iterator[TracedAnswers]:
    """Yield one declaration per table of answers, starting with the prediction log."""
    yield TracedAnswers("", LOG)
    yield from (kind for kind in declared if kind.stored is not LOG)


def _found(row: Mapping[str, Any], kind: TracedAnswers, declared: Sequence[TracedAnswers]) -> FoundAnswer:
    model = row[kind.stored.model] if kind.stored.model else kind.model
    same = [one for one in declared if one.model == model and one.stored is kind.stored]
    behind, in_rows = [two for one in same for two in one.behind], [name for one in same for name in one.features]
    return FoundAnswer(row, kind.stored, model, behind, in_rows)


def _rows(
    connection: psycopg.Connection[Any], stored: AnswerTable, wanted: str, first: int, limit: int
) -> tuple[list[dict[str, Any]], int] | None:
    """Return answers in a table and their total number; None if `wanted` cannot be an id in this table."""
    from psycopg import errors, sql
    from psycopg.rows import dict_row

    values = wanted.split(":", len(stored.id) - 1)
    if len(values) != len(stored.id):
        return None
    table = sql.Identifier(*stored.name.split("."))
    # Compare with a literal. PostgreSQL converts the literal to the column's type, so the column's index can be used.
    same = sql.SQL(" and ").join(
        sql.SQL("{} = {}").format(sql.Identifier(one), sql.Literal(value))
        for one, value in zip(stored.id, values, strict=True)
    )
    order = sql.SQL(", ").join(map(sql.Identifier, stored.order))
    query = sql.SQL("select * from {} where {} order by {} limit {} offset {}").format(table, same, order, limit, first)
    try:
        [total] = connection.execute(sql.SQL("select count(*) from {} where {}").format(table, same)).fetchone() or (0,)
        return connection.cursor(row_factory=dict_row).execute(query).fetchall(), total
    except errors.DataError:
        return None


def recorded_inputs(connect: Connect, online: str) -> dict[str, int] | None:
    """Return the lake's table versions from which a version of an online table was made; None if unknown.

    Parameters
    ----------
    connect
        See `find_answers`.
    online
        The version of the online table, in the form `<table>@<version>`.
    """
    name, _, version = online.rpartition("@")
    query = b"select inputs from platform.online_versions where name = %s and version = %s::bigint"
    with plain_errors(name), connect() as connection, connection.transaction():
        row = connection.execute(query, [name, version]).fetchone()
    return None if row is None else dict(row[0])


def scores_of_shadows(connect: Connect, found: FoundAnswer) -> list[ShadowScore]:
    """Return the shadow models' scores for an answer; empty if the answer is not in the prediction log."""
    if found.stored is not LOG:
        return []
    with plain_errors("shadow_predictions"), connect() as connection, connection.transaction():
        return scores_of_answer(connection, found.row)


def batches_of(connect: Connect, file_digest: str) -> set[int]:
    """Return the numbers of the batches in which a file from a landing zone was added to the lake."""
    query = b"select batch from platform.landing_files where digest = %s and batch is not null"
    with plain_errors("landing_files"), connect() as connection, connection.transaction():
        return {batch for (batch,) in connection.execute(query, [file_digest])}


def tables_named_by_answers(connect: Connect, declared: Sequence[TracedAnswers], age: timedelta) -> dict[str, set[int]]:
    """Return the lake's table versions from which the stored answers were computed, by table.

    Parameters
    ----------
    connect, declared
        See `find_answers`.
    age
        Maximum age of the answers. Without a limit, the table versions would be kept forever, because some kinds of
        answers, such as issued forecasts, are never deleted.

    Raises
    ------
    DatabaseError
        The database does not respond.
    """
    from psycopg import sql

    def of_stored(column: str, stored: AnswerTable) -> sql.Composed:
        return sql.SQL("select distinct {0} from {1} where {0} is not null and {2} > now() - %(age)s").format(
            sql.Identifier(column), sql.Identifier(*stored.name.split(".")), sql.Identifier(stored.at)
        )

    stored = [kind.stored for kind in _kinds(declared)]
    queries = [
        sql.SQL("select inputs from platform.online_versions where name || '@' || version in ({})").format(
            of_stored(one.read_from, one)
        )
        for one in stored
        if one.read_from
    ] + [of_stored(one.inputs, one) for one in stored if one.inputs]
    with plain_errors("predictions"), connect() as connection, connection.transaction():
        rows = [row for query in queries for row in connection.execute(query, {"age": age})]
    return grouped(pair for (inputs,) in rows for pair in inputs.items())
