"""Stored predictions in a real PostgreSQL: rows are added once, in the order of their timestamps, and never changed."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import make_url

from platform_assets.database.connections import Database
from platform_assets.serving.stored_predictions import StoredPredictions, batch_number
from platform_assets_tests.serving.landed import DAY, PREDICTIONS, prediction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(make_url(database_url))
    yield database
    database.close()


@pytest.fixture
def stored(database: Database) -> StoredPredictions:
    return StoredPredictions(lambda: database, PREDICTIONS)


def add(database: Database, stored: StoredPredictions, *rows: Sequence[Any]) -> datetime:
    with database.pooled() as connection, connection.transaction():
        return stored.add(connection, rows)


def everything(stored: StoredPredictions, batch: int = 0) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in stored.after(batch).to_pylist()]


@pytest.mark.requirement("SEN-6")
def test_stored_rows_are_read_back_exactly(database: Database, stored: StoredPredictions) -> None:
    row = prediction("a", 2**40, 0.1 + 0.2, device='pump, "x"\t\\N', recorded_at=None, outside_training_range=None)
    moment = add(database, stored, row)
    assert everything(stored) == [(*row, moment)]
    assert stored.page(["a"], 0, 10) == (
        [dict(zip((one.name for one in PREDICTIONS.columns), (*row, moment), strict=True))],
        1,
    )
    assert moment > DAY


@pytest.mark.requirement("SEN-6")
def test_stored_rows_are_never_overwritten_updated_or_deleted(database: Database, stored: StoredPredictions) -> None:
    first = prediction("a", 2, 0.25)
    moment = add(database, stored, first)
    later = add(database, stored, prediction("a", 2, 0.75, model_version=2), prediction("a", 3, model_version=2))
    assert [(row[1], row[5], row[8], row[-1]) for row in everything(stored)] == [
        (2, 0.25, 1, moment),
        (3, 0.25, 2, later),
    ]
    with database.pooled() as connection:
        for change in ("update {} set device = 'x'", "delete from {}", "truncate {}"):
            with pytest.raises(psycopg.Error, match=r"permission denied|append-only"), connection.transaction():
                connection.execute(change.format("sensor_maintenance.predictions").encode())


@pytest.mark.requirement("SEN-6")
@pytest.mark.parametrize(
    "wrong",
    [
        {"probability": 1.5, "needs_maintenance": True},
        {"probability": float("nan"), "needs_maintenance": True},
        {"probability": 0.5, "needs_maintenance": False},
        {"device": None},
    ],
)
def test_inconsistent_rows_are_refused(database: Database, stored: StoredPredictions, wrong: dict[str, Any]) -> None:
    with pytest.raises(psycopg.IntegrityError):
        add(database, stored, prediction("a", 2), prediction("a", 3, **wrong))
    assert everything(stored) == []


@pytest.mark.requirement("SEN-6")
def test_a_page_lists_files_in_the_given_order_and_lines_in_ascending_order(
    database: Database, stored: StoredPredictions
) -> None:
    add(database, stored, *(prediction(digest, line) for digest in "abc" for line in (10, 9, 2)))

    def page(offset: int, size: int) -> list[tuple[str, int]]:
        rows, total = stored.page(["c", "a", "missing"], offset, size)
        assert total == 6
        return [(row["file_digest"], row["line"]) for row in rows]

    everything = [(digest, line) for digest in "ca" for line in (2, 9, 10)]
    assert page(0, 100) == everything
    assert [*page(0, 4), *page(4, 4)] == everything
    assert page(6, 4) == []
    assert stored.page([], 0, 10) == ([], 0)


@pytest.mark.requirement("SEN-6")
def test_reading_after_a_batch_returns_only_the_rows_of_later_transactions(
    database: Database, stored: StoredPredictions
) -> None:
    assert batch_number(stored.after(0)) == 0
    numbers = []
    for digest in "cab":
        moment = add(database, stored, *(prediction(digest, line) for line in (2, 1)))
        numbers.append(batch_number(stored.after(0)))
        assert numbers[-1] == (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert numbers == sorted(set(numbers))
    assert [row[:2] for row in everything(stored)] == [(digest, line) for digest in "cab" for line in (1, 2)]
    assert [row[:2] for row in everything(stored, numbers[0])] == [(digest, line) for digest in "ab" for line in (1, 2)]
    assert everything(stored, numbers[2]) == []


@pytest.mark.requirement("SEN-1", "SEN-6")
def test_transactions_commit_in_the_order_of_their_timestamps(database: Database, stored: StoredPredictions) -> None:
    later: list[datetime] = []
    other = threading.Thread(target=lambda: later.append(add(database, stored, prediction("b", 1))))
    with database.pooled() as connection, connection.transaction():
        first = stored.add(connection, [prediction("a", 1)])
        other.start()

        assert everything(stored) == []
    other.join()
    assert [row[-1] for row in everything(stored)] == [first, *later]
    assert first < later[0]
