"""Counts and durations of the prediction requests of each model."""

from __future__ import annotations

import math
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import make_url

from platform_assets.database.connections import Database
from platform_assets.serving.request_statistics import (
    CLASSES,
    Counts,
    RequestStatistics,
    duration_class,
    quantile_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNTED = b"select model, requests, failures, durations from platform.request_statistics order by model"


def scope(path: str, *models: str) -> dict[str, Any]:
    return {"route": SimpleNamespace(path=path), "state": {"asked": SimpleNamespace(models=list(models))}}


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(make_url(database_url))
    yield database
    database.close()


@pytest.mark.requirement("MON-1")
def test_requests_and_errors_are_counted_by_model(database: Database) -> None:
    statistics = RequestStatistics(database.pooled)
    statistics.count(scope("/health/live"), 200, 0.001)
    statistics.count(scope("/predictions/loans", "loans_model"), 200, 0.004)
    # This request failed before its model was known. It is counted for the model that the route used last.
    statistics.count(scope("/predictions/loans"), 503, 0.002)
    statistics.count(scope("/predictions/loans"), 422, 0.002)
    statistics.count(scope("/predictions/texts", "text_model"), 200, 50.0)
    statistics.close()
    with database.pooled() as connection:
        rows = connection.execute(COUNTED).fetchall()
    assert [row[:3] for row in rows] == [("loans_model", 3, 1), ("text_model", 1, 0)]
    assert [sum(row[3]) for row in rows] == [3, 1]


def test_counts_are_kept_until_the_database_is_available_again(database: Database) -> None:
    is_up = False

    @contextmanager
    def connect() -> Iterator[psycopg.Connection[Any]]:
        if not is_up:
            raise psycopg.OperationalError("the server is down")
        with database.pooled() as connection:
            yield connection

    statistics = RequestStatistics(connect)
    statistics.count(scope("/predictions/loans", "loans_model"), 200, 0.004)
    statistics.write()
    statistics.count(scope("/predictions/loans", "loans_model"), 500, 0.004)
    is_up = True
    statistics.close()
    with database.pooled() as connection:
        assert [row[:3] for row in connection.execute(COUNTED).fetchall()] == [("loans_model", 2, 1)]


@pytest.mark.parametrize(
    ("seconds", "number"), [(0.0, 0), (1e-4, 0), (1.1e-4, 1), (1e-3, 16), (1.0, 64), (100.0, 96), (1e9, CLASSES - 1)]
)
def test_a_duration_is_assigned_to_the_expected_class(seconds: float, number: int) -> None:
    assert duration_class(seconds) == number


@pytest.mark.requirement("MON-1")
def test_quantiles_are_overestimated_by_at_most_one_duration_class() -> None:
    counts = Counts()
    for millisecond in range(1, 1_001):
        counts.add(200, millisecond / 1_000)
    for share in (0.5, 0.95, 0.99):
        assert share <= quantile_seconds(counts.durations, share) <= share * 1.16
    assert math.isnan(quantile_seconds([0] * CLASSES, 0.5))
