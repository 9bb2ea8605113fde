"""Predictions and requests of a model per day, from the prediction log, stored predictions and request statistics."""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import DatabaseError, first_line
from platform_assets.monitoring.daily.prediction_powered import Proxy
from platform_assets.monitoring.daily.series import SMALLEST_SHIFT, Point, of_count, of_duration, of_share
from platform_assets.monitoring.labelled_predictions import LOG
from platform_assets.serving.request_statistics import quantile_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import date

    import psycopg

    from platform_assets.approval.ledger_events import Promotion
    from platform_assets.training.model_spec import ModelSpec
    from platform_assets.training.prediction_tables import PredictionTable

    Connection = psycopg.Connection[Any]

_QUANTILES = (("latency_p50", 0.5), ("latency_p95", 0.95), ("latency_p99", 0.99))
_DAY = "({at} at time zone 'UTC')::date"
_PREDICTIONS = f"""
select {_DAY}, count(*), avg({{score}}), stddev_samp({{score}}) from {{table}} as predicted
where {{of_model}} and {_DAY} >= %(start)s group by 1
"""  # noqa: S608 - filled in by psycopg
_FIRST = f"select min({_DAY}) from {{table}} as predicted where {{of_model}}"  # noqa: S608 - as above
_PROXY = """
select count(*), avg(loss), var_samp(loss) from (
    select case when {score} >= %(threshold)s then 1 - {score} else {score} end as loss from {table} as predicted
    where {of_model} and {version} = %(version)s and {approval} = %(approval)s
) as estimated
"""
_REQUESTS = b"""
select (at at time zone 'UTC')::date, requests, failures, durations from platform.request_statistics
where model = %(model)s and at >= %(start)s::timestamp at time zone 'UTC'
"""


def traffic(connection: Connection, spec: ModelSpec, start: date, today: date) -> dict[date, list[Point]]:
    """Return the measurements of predictions and requests per day.

    After the day of the first prediction, a day without predictions has the value 0.

    Parameters
    ----------
    connection
        Connection to the platform's database.
    spec
        Declaration of the model.
    start, today
        First day, and the current day. The current day is not measured, because it is not over.
    """
    values = {"model": spec.name, "start": start}
    tables = (LOG, *spec.prediction_tables)
    by_day: dict[date, list[Any]] = defaultdict(list)
    for table in tables:
        for day, *counted in connection.execute(_filled(_PREDICTIONS, table), values).fetchall():
            by_day[day].append(counted)
    firsts = [connection.execute(_filled(_FIRST, table), values).fetchall()[0][0] for table in tables]
    first = max(min((one for one in firsts if one), default=today), start)
    found: dict[date, list[Point]] = defaultdict(list)
    if any(firsts):
        for number in range((today - first).days):
            day = first + timedelta(days=number)
            found[day] += _of_predictions(by_day[day])
    for day, points in _of_requests(connection.execute(_REQUESTS, values).fetchall()).items():
        found[day] += points
    return {day: points for day, points in found.items() if day < today}


def proxy(connection: Connection, spec: ModelSpec, champion: Promotion) -> Proxy:
    """Estimate, from the predicted probabilities, what share of a champion's decisions is wrong."""
    values = {
        "model": spec.name,
        "threshold": champion.threshold,
        "version": champion.version,
        "approval": champion.request_id,
    }
    parts = [
        Proxy(rows, mean, variance or 0.0)
        for table in (LOG, *spec.prediction_tables)
        for rows, mean, variance in connection.execute(_filled(_PROXY, table), values).fetchall()
        if rows
    ]
    rows, mean, spread = _pooled([(one.rows, one.mean, math.sqrt(one.variance)) for one in parts])
    return Proxy(rows, mean, spread**2)


@contextmanager
def plain_database_errors(connect: Callable[[], AbstractContextManager[Connection]]) -> Iterator[Connection]:
    """Yield a connection, and convert PostgreSQL's errors to `DatabaseError`.

    Raises
    ------
    DatabaseError
        PostgreSQL failed.
    """
    import psycopg

    try:
        with connect() as connection:
            yield connection
    except psycopg.Error as error:
        raise DatabaseError(
            f"the predictions cannot be measured: PostgreSQL failed ({first_line(error)}); run `platform-assets "
            "doctor` to check the database"
        ) from error


def _of_predictions(parts: Sequence[Sequence[Any]]) -> list[Point]:
    """Return the measurements of a day.

    Parameters
    ----------
    parts
        Number, mean and standard deviation of the day's predictions in each table of predictions.
    """
    rows, mean, spread = _pooled([(rows, mean, spread or 0.0) for rows, mean, spread in parts])
    points = [of_count("predictions", rows)]
    if rows > 1:
        noise = max(spread / math.sqrt(rows), SMALLEST_SHIFT * spread, 1e-9)
        points.append(Point("mean_prediction", mean, rows=rows, judged=mean, noise=noise))
        judged = math.log(spread) if spread > 0 else math.nan
        points.append(
            Point("spread_of_predictions", spread, rows=rows, judged=judged, noise=max(1 / math.sqrt(rows), 0.02))
        )
    return points


def _of_requests(rows: Sequence[tuple[Any, ...]]) -> dict[date, list[Point]]:
    by_day: dict[date, list[tuple[Any, ...]]] = defaultdict(list)
    for day, *counted in rows:
        by_day[day].append(tuple(counted))
    found = {}
    for day, parts in by_day.items():
        requests, failures = sum(part[0] for part in parts), sum(part[1] for part in parts)
        durations = [sum(counts) for counts in zip(*(part[2] for part in parts), strict=True)]
        found[day] = [
            Point("requests", requests, rows=requests),
            of_share("failed_share", failures, requests),
            *(of_duration(name, 1000 * quantile_seconds(durations, share), requests) for name, share in _QUANTILES),
        ]
    return found


def _pooled(parts: Sequence[tuple[int, float, float]]) -> tuple[int, float, float]:
    """Return the number, mean and standard deviation of all rows, computed from those of each part of the rows."""
    rows = sum(part[0] for part in parts)
    if not rows:
        return 0, math.nan, math.nan
    mean = sum(count * value for count, value, _ in parts) / rows
    squares = sum(max(count - 1, 0) * spread**2 + count * (value - mean) ** 2 for count, value, spread in parts)
    return rows, mean, math.sqrt(squares / max(rows - 1, 1))


def _filled(query: str, table: PredictionTable) -> bytes:
    from psycopg import sql

    def column(name: str) -> sql.Composable:
        return sql.Identifier("predicted", name)

    of_model = sql.SQL("{} = %(model)s").format(column(table.model)) if table.model else sql.SQL("true")
    return (
        sql.SQL(query)
        .format(
            # Use the last column of `at`: the time at which the prediction was made. The other columns, if any, are
            # times to which the prediction applies.
            at=column(table.at[-1]),
            score=column(table.score),
            version=column(table.version),
            approval=column(table.approval),
            table=sql.Identifier(*table.name.split(".")),
            of_model=of_model,
        )
        .as_bytes(None)
    )
