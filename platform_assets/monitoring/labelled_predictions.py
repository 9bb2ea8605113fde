"""Join labels with the predictions in the prediction log and in the tables that models declare.

A label of a request belongs to a prediction of this request. A label of a subject at a time belongs to the newest
prediction about the subject at or before this time, unless the prediction is older than a horizon. Times are compared
in whole seconds. If there are several newest predictions, each of them gets the label.

If a prediction gets several labels, the label that was observed last is used. If several labels with different values
were observed last, the prediction has no label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.serving.prediction_log import TABLE
from platform_assets.training.prediction_tables import PredictionTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import psycopg
    from numpy.typing import NDArray
    from psycopg import sql

    from platform_assets.base.frames import Frame
    from platform_assets.training.model_spec import ModelSpec

LOG = PredictionTable(
    name=TABLE,
    key=("batch", "place"),
    subjects=(("subject",),),
    score="score",
    version="version",
    approval="approval_id",
    at=("at",),
    model="model",
)
"""The prediction log."""

_JOIN = """
create temporary table labelled on commit drop as
with sent as (
    select id, batch, place, subject, at, label, observed_at from platform.labels where model = %(model)s
), found as (
    {found}
)
select * from (select *, rank() over (partition by id order by about desc) as distance from found) as ranked
where distance = 1
"""
_FOUND = """
select sent.id, sent.label, sent.observed_at, {source}::int as source, {key} as prediction, {subject} as subject,
    {score} as score, {beside} as beside, {version}::bigint as version, {approval}::bigint as approval, {about} as about
from sent join {table} as predicted on {matches}
"""
_OF_CHAMPION = """
select score, coalesce(subject, prediction), min(label), max(label), count(*), beside, min(about)
from (
    select *, max(observed_at) over (partition by source, prediction) as last from labelled
    where version = %(version)s and approval = %(approval)s
) as of_champion
where observed_at = last
group by source, prediction, subject, score, beside
order by source, prediction
"""
_COUNTS = """
select (select count(*) from platform.labels where model = %(model)s), count(distinct id),
    count(distinct id) filter (where version = %(version)s and approval = %(approval)s)
from labelled
"""


@dataclass(frozen=True, eq=False)
class LabelledPredictions:
    """Predictions of one approved version, joined with their labels.

    Attributes
    ----------
    predictions
        Number of predictions.
    received
        Number of labels of the model.
    unmatched
        Number of the model's labels without a prediction.
    of_others
        Number of the model's labels whose predictions are from other versions.
    contradictory
        Number of predictions whose last labels contradict each other. These predictions are not in `rows`.
    rows
        One row per labelled prediction. The columns are:

        - `label` and `score`
        - `group`: the subject of the prediction, or the prediction's key if it has no subject
        - `at`: the time to which the prediction applies
        - the columns of `PredictionTable.beside`
    outputs
        The model's output for each row; see `FittedModel.outputs`. If a row has no interval, this contains only
        the main values, (n,).
    """

    predictions: int
    received: int
    unmatched: int
    of_others: int
    contradictory: int
    rows: Frame
    outputs: NDArray[np.float64]

    @property
    def labels(self) -> NDArray[np.float64]:
        """Label of each labelled prediction, (n,)."""
        return self.rows["label"].to_numpy(dtype="float64")

    @property
    def scores(self) -> NDArray[np.float64]:
        """Predicted probability or value of each labelled prediction, (n,)."""
        return self.rows["score"].to_numpy(dtype="float64")

    @property
    def share(self) -> float:
        """Share of the predictions that have a label; 0 if there are no predictions."""
        return len(self.labels) / self.predictions if self.predictions else 0.0


def join(connection: psycopg.Connection[Any], spec: ModelSpec, version: int, approval: int) -> LabelledPredictions:
    """Join the labels of a model with the predictions of one approved version, in the caller's transaction.

    Parameters
    ----------
    connection
        Connection to the platform's database.
    spec
        Declaration of the model.
    version, approval
        Number of the version, and of the approval request with which it became champion.
    """
    tables = (LOG, *spec.prediction_tables)
    values = {"model": spec.name, "horizon": spec.label_horizon, "version": version, "approval": approval}
    connection.execute(_join(tables), values)
    rows = connection.execute(_OF_CHAMPION.encode(), values).fetchall()
    [(received, matched, of_champion)] = connection.execute(_COUNTS.encode(), values).fetchall()
    predictions = sum(connection.execute(_count(table), values).fetchall()[0][0] for table in tables)
    connection.execute(b"drop table labelled")
    agreed = [row for row in rows if row[2] == row[3]]
    found = _rows(agreed)
    return LabelledPredictions(
        predictions=predictions,
        received=received,
        unmatched=received - matched,
        of_others=matched - of_champion,
        contradictory=len(rows) - len(agreed),
        rows=found,
        outputs=_outputs(spec, found),
    )


def _rows(agreed: Sequence[tuple[Any, ...]]) -> Frame:
    """Convert result rows of the query `_OF_CHAMPION` to the frame `LabelledPredictions.rows`."""
    import pandas as pd

    beside = pd.DataFrame([row[5] for row in agreed], index=range(len(agreed)), dtype="float64")
    return beside.assign(
        label=pd.Series([row[2] for row in agreed], dtype="float64"),
        score=pd.Series([row[0] for row in agreed], dtype="float64"),
        group=pd.Series([row[1] for row in agreed], dtype="object"),
        at=pd.to_datetime(pd.Series([row[6] for row in agreed]), utc=True),
    )


def _outputs(spec: ModelSpec, rows: Frame) -> NDArray[np.float64]:
    """Return `LabelledPredictions.outputs` from the stored numbers."""
    first, *others = spec.task.learner.output.columns
    if others and set(others) <= set(rows.columns) and bool(rows[others].notna().to_numpy().all()):
        return rows.rename(columns={"score": first})[[first, *others]].to_numpy(dtype="float64")
    return rows["score"].to_numpy(dtype="float64")


def _join(tables: Sequence[PredictionTable]) -> sql.Composed:
    from psycopg import sql

    by_request = sql.SQL("predicted.batch = sent.batch and predicted.place = sent.place")
    parts = [_found(LOG, 0, by_request)]
    for number, table in enumerate(tables):
        parts += [_found(table, number, _about(table, subject)) for subject in table.subjects]
    return sql.SQL(_JOIN).format(found=sql.SQL(" union all ").join(parts))


def _found(table: PredictionTable, number: int, matches: sql.Composable) -> sql.Composed:
    """Return the query that joins labels with the predictions of one table. `matches` is the join condition."""
    from psycopg import sql

    return sql.SQL(_FOUND).format(
        source=sql.Literal(number),
        key=_joined(table.key, "/"),
        subject=_joined(table.subjects[0], ":"),
        score=_column(table.score),
        beside=_beside(table),
        version=_column(table.version),
        approval=_column(table.approval),
        about=_time(table),
        table=sql.Identifier(*table.name.split(".")),
        matches=sql.SQL(" and ").join([matches, *_of_model(table)]),
    )


def _beside(table: PredictionTable) -> sql.Composed:
    """Return the SQL expression that builds a JSON object from the columns of `PredictionTable.beside`."""
    from psycopg import sql

    pairs = [sql.SQL("{}, {}").format(sql.Literal(name), _column(column)) for name, column in table.beside.items()]
    return sql.SQL("jsonb_build_object({})").format(sql.SQL(", ").join(pairs))


def _about(table: PredictionTable, subject: Sequence[str]) -> sql.Composed:
    """Return the SQL condition that a prediction has the label's subject and a time within the horizon."""
    from psycopg import sql

    if len(subject) == 1:
        same = [sql.SQL("{}::text = sent.subject").format(_column(subject[0]))]
    else:
        # Compare column by column, so that PostgreSQL can use an index on the first column.
        same = [
            sql.SQL("{}::text = split_part(sent.subject, ':', {})").format(_column(column), sql.Literal(place))
            for place, column in enumerate(subject, 1)
        ]
    time = _time(table)
    # Compare in whole seconds, because many programs send times without fractions.
    within = sql.SQL("date_trunc('second', {}) <= sent.at and {} >= sent.at - %(horizon)s").format(time, time)
    return sql.SQL(" and ").join([*same, within])


def _count(table: PredictionTable) -> sql.Composed:
    from psycopg import sql

    conditions = [
        *_of_model(table),
        sql.SQL("{} = %(version)s").format(_column(table.version)),
        sql.SQL("{} = %(approval)s").format(_column(table.approval)),
    ]
    name = sql.Identifier(*table.name.split("."))
    return sql.SQL("select count(*) from {} as predicted where {}").format(name, sql.SQL(" and ").join(conditions))


def _of_model(table: PredictionTable) -> list[sql.Composed]:
    from psycopg import sql

    return [sql.SQL("{} = %(model)s").format(_column(table.model))] if table.model else []


def _time(table: PredictionTable) -> sql.Composable:
    from psycopg import sql

    if len(table.at) == 1:
        return _column(table.at[0])
    return sql.SQL("coalesce({})").format(sql.SQL(", ").join(map(_column, table.at)))


def _joined(columns: Sequence[str], by: str) -> sql.Composed:
    from psycopg import sql

    texts = [sql.SQL("{}::text").format(_column(column)) for column in columns]
    return sql.SQL(f" || {by!r} || ").join(texts)


def _column(name: str) -> sql.Composable:
    from psycopg import sql

    return sql.Identifier("predicted", name)
