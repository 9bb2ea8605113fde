"""Measurements of a model per day: predictions, requests, drift, estimated and real performance, and ages."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import DatabaseError, PlatformError
from platform_assets.monitoring.daily.prediction_powered import Proxy
from platform_assets.monitoring.daily.quality import (
    Disagreements,
    agreement_points,
    judged_agreement,
    tolerated_share,
)
from platform_assets.monitoring.daily.series import SMALLEST_SHIFT, Point
from platform_assets.monitoring.daily.traffic import plain_database_errors, proxy, traffic
from platform_assets.monitoring.drift.history import Stream
from platform_assets.monitoring.drift.logged_rows import LOGGED, logged_rows, of_requests

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from contextlib import AbstractContextManager
    from datetime import date, datetime

    import psycopg

    from platform_assets.approval.ledger import Ledger
    from platform_assets.approval.ledger_events import Promotion
    from platform_assets.engine.query_engine import Engine
    from platform_assets.lake.delta_tables import TableStore
    from platform_assets.models.registry import ModelRegistry
    from platform_assets.monitoring.drift.history import DriftHistory, MeasuredDay
    from platform_assets.monitoring.drift.monitor import DriftMonitor
    from platform_assets.monitoring.label_store import Labels
    from platform_assets.training.model_spec import ModelSpec

FIRST_LOOK = timedelta(days=90)
"""Number of days of the prediction log that the first measurement of a model covers."""
_LOOK_BACK = timedelta(days=30)
_REQUESTED = "requested rows"
"""Name for the rows of a model's prediction requests, which are read from the prediction log."""
_AGREEMENT = ("accuracy", "interval_coverage")
"""Holdout metrics: the share of labels that equal the decision, and the share that lie in the prediction interval.

A model has at most one of the two.
"""


@dataclass(frozen=True)
class ModelSources:
    """Databases and services from which the measurements of models are computed."""

    connect: Callable[[], AbstractContextManager[psycopg.Connection[Any]]]
    engine: Engine
    tables: TableStore
    registry: ModelRegistry
    ledger: Ledger
    labels: Labels
    drift: DriftMonitor
    drift_history: DriftHistory


@dataclass(frozen=True)
class When:
    """Days that a run measures.

    Attributes
    ----------
    start
        First day to measure.
    now
        Current time, with time zone.
    run
        Id of the Dagster run.
    """

    start: date
    now: datetime
    run: str

    @property
    def today(self) -> date:
        """The current day (UTC), which is the last day that is measured."""
        return self.now.astimezone(UTC).date()


def measure_model(
    sources: ModelSources, spec: ModelSpec, when: When, earlier: Mapping[date, Disagreements], per_check: float
) -> dict[date, list[Point]]:
    """Measure a model from the first day until today.

    Parameters
    ----------
    sources
        Sources of the measurements.
    spec
        Declaration of the model.
    when
        First day and current time.
    earlier
        Counts of labelled predictions at the end of each earlier day.
    per_check
        Mean number of days between two false alarms of a check.

    Raises
    ------
    PlatformError
        The database or the lake cannot be read.
    """
    found: dict[date, list[Point]] = defaultdict(list)
    with plain_database_errors(sources.connect) as connection:
        for day, points in traffic(connection, spec, when.start, when.today).items():
            found[day] += points
    for day, point in _drift(sources, spec, when):
        found[day].append(point)
    champion = sources.ledger.champion(spec.name)
    found[when.today] += _ages(sources, spec, champion, when.now)
    if champion is not None:
        found[when.today] += _agreement(sources, spec, champion, earlier, per_check)
    return found


def _drift(sources: ModelSources, spec: ModelSpec, when: When) -> Iterator[tuple[date, Point]]:
    """Measure the drift of the rows in prediction requests. Then yield stored measurements, each with its day.

    The stored measurements are the drift and the estimated performance. They exist for the rows in prediction requests
    and, if the model has a table of new rows, for its rows.
    """
    rows = logged_rows(sources.connect, spec, when.today - FIRST_LOOK, when.today)
    if rows.num_rows:
        try:
            sources.drift.measure(of_requests(spec), when.run, sources.engine.as_expression(rows))
        except DatabaseError:
            raise
        except PlatformError as error:
            # Report the failure as a measurement instead of raising, so that the model's other measurements are kept.
            yield when.today, Point("drift", math.nan, is_open=True, told=f"not measured: {error}")
    streams = {_REQUESTED: LOGGED.table} | ({"new rows": spec.incoming.table} if spec.incoming else {})
    for of_rows, table in streams.items():
        opened: dict[str, int] = {}
        for one in sources.drift_history.days(Stream(spec.name, table), when.start - _LOOK_BACK):
            opened = _days_since_alarm(one, opened)
            if one.day >= when.start:
                yield from ((one.day, point) for point in _of_day(one, of_rows, opened))


def _days_since_alarm(measured: MeasuredDay, before: Mapping[str, int]) -> dict[str, int]:
    """Return the features with an open alarm, each with the number of measured days since the alarm.

    After an alarm, the evidence restarts at 0. Without drift, its expected value is at most the number of days since
    the alarm, so the alarm stays open while the evidence is above this number.
    """
    days = {
        name: 0 if now.alarm else before[name] + 1
        for name, now in measured.drift.items()
        if now.alarm or name in before
    }
    return {name: since for name, since in days.items() if since == 0 or measured.drift[name].evidence > since}


def _of_day(measured: MeasuredDay, of_rows: str, opened: Collection[str]) -> Iterator[Point]:
    for feature, drift in measured.drift.items():
        point = Point("drift", drift.effect, f"{feature}, {of_rows}", rows=measured.rows)
        # Test only the rows in prediction requests, because the table of new rows has its own check.
        if of_rows == _REQUESTED:
            judgement: dict[str, Any] = {
                "evidence": drift.evidence,
                "threshold": drift.threshold,
                "is_open": feature in opened,
            }
            point = replace(point, **judgement, told=f"{feature}: {drift.told}")
        yield point
    for metric, one in measured.performance.items():
        noise = max((one.high - one.low) / 4, SMALLEST_SHIFT)
        yield Point("estimated", one.value, f"{metric}, {of_rows}", one.low, one.high, measured.rows, one.value, noise)


def _ages(sources: ModelSources, spec: ModelSpec, champion: Promotion | None, now: datetime) -> Iterator[Point]:
    if champion is not None:
        age, allowed = now - champion.event.at, spec.monitoring.max_champion_age
        days = age / timedelta(days=1)
        told = f"version {champion.version} was promoted {days:.0f} days ago; the policy allows {allowed.days} days"
        yield Point("champion_age", days, is_open=age > allowed, told=told)
    for table in spec.tables:
        version = sources.tables.current(table)
        if version is not None:
            yield Point("input_age", (now - version.committed_at) / timedelta(hours=1), table, rows=version.rows)


def _agreement(
    sources: ModelSources,
    spec: ModelSpec,
    champion: Promotion,
    earlier: Mapping[date, Disagreements],
    per_check: float,
) -> list[Point]:
    found = sources.labels.joined(spec, champion.version, champion.request_id)
    if not len(found.labels):
        # Return a measurement with a missing value. Without it, an alarm about the previous champion would stay open.
        return [Point("agreement", math.nan, told=f"no prediction of version {champion.version} has a label yet")]
    every = Proxy(0, math.nan, math.nan)
    if champion.threshold is not None:
        with plain_database_errors(sources.connect) as connection:
            every = proxy(connection, spec, champion)
    points = agreement_points(found, champion.threshold, every)
    metrics = sources.registry.record(spec.name, champion.version)["metrics"]
    holdout = next((metrics[name] for name in _AGREEMENT if name in metrics), None)
    if holdout is None or not any(point.series == "agreement" for point in points):
        return points
    tolerated = tolerated_share(holdout["value"] if holdout["low"] is None else holdout["low"])
    since = champion.event.at.astimezone(UTC).date()
    before = [counts for day, counts in sorted(earlier.items()) if day >= since]
    return judged_agreement(points, before, tolerated, per_check)
