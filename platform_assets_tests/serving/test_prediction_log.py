"""The prediction log on a real PostgreSQL, with and without network failures."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sqlalchemy import make_url

from platform_assets.base.errors import DatabaseError
from platform_assets.database.connections import Database
from platform_assets.serving.prediction_log import LogSink, PredictionLog, Predictions, TableSink, delete_old
from platform_assets_tests.gate import Gate
from platform_assets_tests.postgres import empty_databases, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


@pytest.fixture(scope="module")
def url(postgres_server: Database) -> Iterator[str]:
    with empty_databases(postgres_server) as url:
        yield url


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(make_url(url))
    yield database
    with database.connect("platform") as connection:
        connection.execute("delete from platform.predictions")
    database.close()


def sink_of(database: Database) -> TableSink:
    return TableSink(lambda: database.connect("platform", 2.0))


def answers(rows: int = 1, **others: Any) -> Predictions:
    fields: dict[str, Any] = {
        "model": "credit_risk_model",
        "version": 3,
        "approval_id": 7,
        "threshold": 0.5,
        "caller": "shop",
        "request_id": "r-1",
        "subjects": [None] * rows,
        "features": [{"age": 30.0}] * rows,
        "scores": [0.25] * rows,
        "at": NOW,
    }
    return Predictions(**{**fields, **others})


def stored(database: Database, columns: str = "*") -> list[Any]:
    with database.connect("platform") as connection:
        return connection.execute(f"select {columns} from platform.predictions order by at, place".encode()).fetchall()


def count(database: Database) -> int:
    return len(stored(database, "1"))


@pytest.mark.requirement("SRV-1", "MON-1")
def test_each_prediction_gets_a_row_with_the_caller_the_features_the_score_and_the_version(database: Database) -> None:
    log = PredictionLog(sink_of(database))
    log.add(
        answers(
            subjects=[5_008_804, None],
            features=[{"age": 30.0, "years": None, "text": "é😀"}, {"age": np.float64(1), "years": float("nan")}],
            scores=[0.1 + 0.2, 0.5],
        )
    )
    log.close()
    columns = "at, model, version, approval_id, caller, request_id, subject, features, score, positive, threshold"
    of_all = (NOW, "credit_risk_model", 3, 7, "shop", "r-1")
    assert stored(database, columns) == [
        (*of_all, "5008804", {"age": 30.0, "years": None, "text": "é😀"}, 0.1 + 0.2, False, 0.5),
        (*of_all, None, {"age": 1, "years": None}, 0.5, True, 0.5),
    ]
    assert (log.written, log.dropped, log.failures, log.queued) == (2, 0, 0, 0)


def test_rows_are_written_without_closing_the_log(database: Database) -> None:
    log = PredictionLog(sink_of(database))
    log.add(answers(3))
    wait_until(lambda: log.written == 3, "the rows were written")
    assert count(database) == 3
    log.close()


@pytest.mark.requirement("SRV-3")
def test_a_request_can_wait_until_its_rows_are_committed(database: Database) -> None:
    log = PredictionLog(sink_of(database), before_answer=True)

    def add(_: int) -> int:
        logged = log.add(answers(2))
        assert logged is not None
        logged.result(60)
        return count(database)

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(add, range(40)))
    log.close()
    assert min(found) >= 2
    assert (count(database), log.written, log.queued) == (80, 80, 0)
    without_waiting = PredictionLog(sink_of(database))
    assert without_waiting.add(answers(1)) is None
    without_waiting.close()


@pytest.mark.requirement("SRV-3")
def test_a_request_that_waits_for_its_rows_fails_if_they_are_dropped(database: Database) -> None:
    log = PredictionLog(sink_of(database), capacity=2, before_answer=True)
    too_many = log.add(answers(3))
    assert too_many is not None
    with pytest.raises(DatabaseError, match="rows are already queued"):
        too_many.result(60)
    log.close()
    late = log.add(answers(1))
    assert late is not None
    with pytest.raises(DatabaseError, match="the service is stopping"):
        late.result(60)


def test_close_writes_all_rows_that_were_added_before(database: Database) -> None:
    log = PredictionLog(sink_of(database))

    def add() -> None:
        for _ in range(500):
            log.add(answers(2))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert (count(database), log.written, log.dropped) == (4_000, 4_000, 0)


@pytest.mark.requirement("SRV-1")
def test_rows_stay_queued_during_a_database_outage_and_are_written_once(
    url: str, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    at = make_url(url)
    with Gate((str(at.host), int(at.port or 0))) as gate:
        log = PredictionLog(sink_of(Database(at.set(port=gate.port))))
        log.add(answers())
        wait_until(lambda: log.written == 1, "the first row was written")
        gate.shut()
        log.add(answers(2))
        wait_until(lambda: log.failures >= 2, "two writes failed")
        log.add(answers(3))
        assert (log.queued, log.dropped) == (5, 0)
        gate.open()
        wait_until(lambda: log.written == 6, "all rows were written")
        log.close()
    assert count(database) == 6
    told = [record.levelname for record in caplog.records if "prediction_log" in record.name]
    assert told == ["WARNING", "INFO"]


def test_a_batch_that_was_committed_without_confirmation_is_not_written_twice(database: Database) -> None:
    batch = uuid.uuid4()
    sink = sink_of(database)
    assert sink.write(batch, [answers(2)]) == 0
    # Write the batch again, as the log does if the connection is lost before the commit is confirmed.
    assert sink.write(batch, [answers(2)]) == 0
    assert count(database) == 2
    assert sink.write(uuid.uuid4(), [answers(1)]) == 0
    assert count(database) == 3
    sink.close()


@pytest.mark.parametrize(
    "hostile",
    [
        {"request_id": "\0;drop table", "caller": "\ud800"},
        {"subjects": ["\0\udfff"]},
        {"features": [{"text": "\0\ud800", "more": ["\0"]}]},
        {"features": [{"age": float("inf"), "when": NOW}]},
    ],
)
def test_predictions_with_values_that_postgresql_cannot_store_are_still_logged(
    database: Database, hostile: dict[str, Any]
) -> None:
    log = PredictionLog(sink_of(database))
    log.add(answers(**hostile))
    log.close()
    assert (count(database), log.dropped) == (1, 0)


def test_a_row_that_cannot_be_written_does_not_block_other_rows(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    log = PredictionLog(sink_of(database))
    log.add(answers(5))
    log.add(answers(1, version=2**40))
    log.add(answers(6))
    log.close()
    assert (count(database), log.written, log.dropped) == (11, 11, 1)
    assert [record.getMessage() for record in caplog.records] == [
        'a prediction cannot be logged: value "1099511627776" is out of range for type integer'
    ]


class Stuck:
    """Sink whose writes block until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.rows = 0

    def write(self, batch: uuid.UUID, answers: Sequence[Predictions]) -> int:
        del batch
        self.released.wait()
        self.rows += sum(map(len, answers))
        return 0

    def close(self) -> None:
        """Do nothing; no connection is open."""


@pytest.mark.requirement("SRV-1")
def test_predictions_beyond_the_capacity_are_dropped_counted_and_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = Stuck()
    log = PredictionLog(sink, capacity=10)
    for _ in range(30):
        log.add(answers())
    log.add(answers(11))
    assert (log.queued, log.dropped) == (10, 31)
    sink.released.set()
    wait_until(lambda: log.queued == 0, "the queue was empty")
    log.add(answers())
    log.close()
    assert (sink.rows, log.written, log.dropped) == (11, 11, 31)
    assert [record.getMessage() for record in caplog.records] == [
        "predictions are being dropped: 10 rows are already queued",
        "31 predictions were dropped; the queue has room again",
    ]


@pytest.mark.requirement("SRV-1")
def test_close_stops_at_its_timeout_and_logs_the_number_of_dropped_rows(
    url: str, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    at = make_url(url)
    with Gate((str(at.host), int(at.port or 0))) as gate:
        gate.shut()
        log = PredictionLog(sink_of(Database(at.set(port=gate.port))))
        log.add(answers(4))
        began = time.monotonic()
        log.close(0.5)
        assert time.monotonic() - began < 10
    log.add(answers())
    assert (log.written, log.dropped, log.queued) == (0, 5, 0)
    assert count(database) == 0
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert told[0] == "4 predictions were dropped: they could not be written within 0.5 s"
    assert told[1] == "predictions are being dropped: the service is stopping"


def test_without_a_database_each_prediction_is_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = PredictionLog(LogSink())
    log.add(answers(2, subjects=["a", None], scores=[0.25, 0.75]))
    log.close()
    lines = [vars(record) for record in caplog.records]
    assert [(line["msg"], line["subject"], line["score"], line["positive"], line["features"]) for line in lines] == [
        ("prediction", "a", 0.25, False, {"age": 30.0}),
        ("prediction", None, 0.75, True, {"age": 30.0}),
    ]
    # Compare the time as text, because a log handler left behind by another test may have converted it.
    assert {(line["request_id"], line["caller"], line["version"], str(line["at"])) for line in lines} == {
        ("r-1", "shop", 3, str(NOW))
    }


@pytest.mark.requirement("PLT-10")
def test_rows_older_than_the_given_age_are_deleted(database: Database) -> None:
    sink = sink_of(database)
    young = datetime.now(UTC)
    sink.write(uuid.uuid4(), [answers(3, at=young - timedelta(days=8)), answers(2, at=young - timedelta(days=6))])
    assert delete_old(lambda: database.connect("platform"), timedelta(days=7)) == 3
    assert delete_old(lambda: database.connect("platform"), timedelta(days=7)) == 0
    assert count(database) == 2
    sink.close()
