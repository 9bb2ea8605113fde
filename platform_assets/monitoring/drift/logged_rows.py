"""Rows that the service predicted, read from the prediction log as one batch per day (UTC)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import DatabaseError, first_line
from platform_assets.serving.prediction_log import TABLE
from platform_assets.training.model_spec import Incoming

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from datetime import date

    import psycopg
    import pyarrow as pa

    from platform_assets.training.model_spec import ModelSpec

LOGGED = Incoming(TABLE, batch="day", batch_name="day", arrived_at="at")
"""Declaration of the prediction log as a table of new rows."""
MOST_ROWS = 50_000
"""Maximum number of rows to read per day. If a day has more rows, a sample is read."""
_ROWS = f"""
select to_char(at at time zone 'UTC', 'YYYY-MM-DD'), at, features from (
    select at, features, row_number() over (
        partition by (at at time zone 'UTC')::date order by hashtextextended(batch::text, place)
    ) as number
    from {TABLE} where model = %(model)s
        and at >= %(start)s::date at time zone 'UTC' and at < %(end)s::date at time zone 'UTC'
) as numbered where number <= %(most)s
"""  # noqa: S608 - a constant


def of_requests(spec: ModelSpec) -> ModelSpec:
    """Return a copy of the model's declaration whose table of new rows is the prediction log."""
    return replace(spec, incoming=LOGGED)


def logged_rows(
    connect: Callable[[], AbstractContextManager[psycopg.Connection[Any]]], spec: ModelSpec, start: date, end: date
) -> pa.Table:
    """Return the features of a model's logged predictions, with the batch and time columns declared in `LOGGED`.

    Parameters
    ----------
    connect
        Function that returns a context manager with a connection to the platform's database.
    spec
        Declaration of the model.
    start, end
        First day, and the day after the last day (UTC).

    Raises
    ------
    DatabaseError
        The prediction log cannot be read.
    """
    import psycopg
    import pyarrow as pa

    values = {"model": spec.name, "start": start, "end": end, "most": MOST_ROWS}
    try:
        with connect() as connection:
            rows = connection.execute(_ROWS.encode(), values).fetchall()
    except psycopg.Error as error:
        raise DatabaseError(f"the prediction log cannot be read ({first_line(error)})") from error
    return pa.table(
        {
            "day": pa.array([row[0] for row in rows], pa.string()),
            "at": pa.array([row[1] for row in rows], pa.timestamp("us", "UTC")),
            **{
                feature.name: pa.array([row[2].get(feature.name) for row in rows], _type(feature.type))
                for feature in spec.features
            },
        }
    )


def _type(kind: str) -> pa.DataType:
    """Return the Arrow type of a logged feature. All numbers are floats, because models convert them to floats."""
    import pyarrow as pa

    return pa.string() if kind == "string" else pa.bool_() if kind.startswith("bool") else pa.float64()
