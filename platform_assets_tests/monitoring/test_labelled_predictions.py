"""The join of labels and predictions in a real PostgreSQL database."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import make_url

from platform_assets.database.connections import Database
from platform_assets.monitoring.label_store import Labels
from platform_assets.monitoring.labelled_predictions import join
from platform_assets.monitoring.labels import Label
from platform_assets.training.prediction_tables import PredictionTable
from platform_assets_tests.monitoring.label_history import HOUR, LATER, NOW, of_subject, predicted
from platform_assets_tests.training.breakage_model import ONE_CANDIDATE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from platform_assets.monitoring.labelled_predictions import LabelledPredictions
    from platform_assets.training.model_spec import ModelSpec

DAY = timedelta(days=1)
SPEC = dataclasses.replace(ONE_CANDIDATE, label_horizon=7 * DAY)
STORED = PredictionTable(
    name="pg_temp.stored",
    key=("file", "line"),
    subjects=(("device",), ("file", "line")),
    score="probability",
    version="model_version",
    approval="approval_id",
    at=("recorded_at", "predicted_at"),
)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(make_url(database_url))
    yield database
    database.close()


def joined(database: Database, spec: ModelSpec = SPEC, version: int = 3) -> LabelledPredictions:
    return Labels(database.pooled).joined(spec, version, 7)


def found(database: Database, **others: Any) -> list[tuple[float, float]]:
    """Return the score and the label of each labelled prediction, sorted by score."""
    result = joined(database, **others)
    return sorted(zip(result.scores.tolist(), result.labels.tolist(), strict=True))


def store(database: Database, *labels: Label) -> None:
    filed = Labels(database.pooled).store(SPEC, labels, "")
    assert {one.outcome for one in filed} == {"stored"}, filed


@pytest.mark.requirement("MON-5")
def test_labels_of_requests_and_subjects_are_joined_with_their_predictions(database: Database) -> None:
    predicted(database, "r-1", ["7", "8"], scores=[0.1, 0.2])
    predicted(database, "r-2", [None, None], scores=[0.3, 0.4])
    predicted(database, "r-3", ["7"], scores=[0.5], model="other_model")
    store(
        database,
        of_subject("7", 1),
        Label(0, LATER, request_id="r-1", subject="8"),
        Label(1, LATER, request_id="r-2", place=1),
    )
    assert found(database) == [(0.1, 1), (0.2, 0), (0.4, 1)]
    result = joined(database)
    assert (result.predictions, result.received, result.unmatched, result.of_others) == (4, 3, 0, 0)
    assert result.share == 0.75
    assert {"7", "8"} < set(result.rows["group"])


@pytest.mark.requirement("MON-5")
def test_a_label_of_a_subject_belongs_to_the_newest_prediction_at_or_before_the_time_of_the_label(
    database: Database,
) -> None:
    for number in range(3):
        predicted(database, f"r-{number}", ["7"], scores=[number / 10], at=NOW + number * DAY)
    now = NOW + 10 * DAY
    store(
        database,
        of_subject("7", 1, now, at=NOW + 1 * DAY),
        of_subject("7", 0, now, at=NOW - timedelta(microseconds=1)),
        of_subject("7", 0, now, at=NOW + 2 * DAY + 2 * HOUR),
        of_subject("7", 1, now, at=NOW + 9 * DAY + timedelta(microseconds=1)),
        of_subject("8", 1, now, at=NOW + 1 * DAY),
    )
    assert found(database) == [(0.1, 1), (0.2, 0)]
    assert joined(database).unmatched == 3


@pytest.mark.requirement("MON-5")
def test_a_label_with_a_time_in_whole_seconds_is_joined_with_a_prediction_of_that_second(database: Database) -> None:
    within = NOW + timedelta(milliseconds=900)
    predicted(database, "r-1", ["7", "8"], scores=[0.1, 0.2], at=within)
    store(database, of_subject("7", 1, NOW), Label(0, NOW, request_id="r-1", subject="8"))
    assert found(database) == [(0.1, 1), (0.2, 0)]


@pytest.mark.requirement("MON-5")
def test_the_label_observed_last_is_used_if_a_request_and_its_subject_both_have_labels(database: Database) -> None:
    predicted(database, "r-1", ["7"], scores=[0.1])
    store(database, of_subject("7", 0, LATER), Label(1, LATER + HOUR, request_id="r-1"))
    assert found(database) == [(0.1, 1)]
    store(database, of_subject("7", 0, LATER + 2 * HOUR))
    assert found(database) == [(0.1, 0)]
    assert joined(database).received == 3


@pytest.mark.requirement("MON-5")
def test_contradictory_labels_are_left_out_and_counted(database: Database) -> None:
    predicted(database, "r-1", ["7", "8"], scores=[0.1, 0.2])
    store(database, of_subject("7", 0), of_subject("8", 1), Label(1, LATER, request_id="r-1", subject="7"))
    assert found(database) == [(0.2, 1)]
    assert joined(database).contradictory == 1
    store(database, of_subject("7", 1, LATER + HOUR))
    assert found(database) == [(0.1, 1), (0.2, 1)]
    assert joined(database).contradictory == 0


@pytest.mark.requirement("MON-5")
def test_labels_of_predictions_of_other_versions_are_counted_but_not_joined(database: Database) -> None:
    predicted(database, "r-1", ["7"], scores=[0.1])
    predicted(database, "r-2", ["7"], scores=[0.2], version=4, at=NOW + HOUR)
    predicted(database, "r-3", ["7"], scores=[0.3], approval_id=8, at=NOW - HOUR)
    store(database, of_subject("7", 1, LATER + HOUR, at=LATER + HOUR))
    assert found(database) == []
    assert joined(database).of_others == 1
    assert found(database, version=4) == [(0.2, 1)]
    assert joined(database).predictions == joined(database, version=4).predictions == 1


def test_without_labels_and_predictions_the_join_is_empty(database: Database) -> None:
    result = joined(database)
    assert (result.predictions, result.received, len(result.labels), result.share) == (0, 0, 0, 0.0)


@pytest.mark.requirement("MON-5", "SEN-5")
def test_labels_are_joined_with_the_stored_predictions_that_a_model_declares(database: Database) -> None:
    spec = dataclasses.replace(SPEC, prediction_tables=(STORED,))
    # The logged prediction is newer than the stored prediction of the same device.
    predicted(database, "r-1", ["pump-2"], scores=[0.9], at=NOW + HOUR)
    store(
        database,
        of_subject("pump-1", 1, LATER + DAY, at=LATER),
        of_subject("abc:2", 0, LATER + DAY, at=NOW + DAY),
        of_subject("pump-2", 1, LATER + DAY, at=LATER),
        of_subject("pump-3", 1, LATER + DAY, at=LATER),
    )
    rows = [
        ("abc", 1, "pump-1", NOW, 0.1, NOW + DAY),
        ("abc", 2, "pump-1", NOW, 0.2, NOW + DAY),
        ("def", 1, "pump-1", NOW - HOUR, 0.3, NOW + DAY),
        ("ghi", 1, "pump-2", NOW, 0.4, NOW + DAY),
        # If the time of the reading is missing, the time of the prediction is used.
        ("jkl", 1, "pump-3", None, 0.5, LATER),
        ("mno", 1, "pump-3", None, 0.6, LATER + HOUR),
    ]
    with database.connect("platform") as connection, connection.transaction():
        connection.execute(
            "create temporary table stored (file text, line bigint, device text, recorded_at timestamptz,"
            " probability float8, predicted_at timestamptz, model_version bigint default 3,"
            " approval_id bigint default 7) on commit drop"
        )
        with connection.cursor() as cursor:
            cursor.executemany(
                "insert into stored (file, line, device, recorded_at, probability, predicted_at)"
                " values (%s, %s, %s, %s, %s, %s)",
                rows,
            )
        result = join(connection, spec, 3, 7)
    labelled = zip(result.scores.tolist(), result.labels.tolist(), result.rows["group"].tolist(), strict=True)
    # The label of a device contradicts the label of one of its readings, so the join leaves out this reading.
    assert sorted(labelled) == [(0.1, 1, "pump-1"), (0.5, 1, "pump-3"), (0.9, 1, "pump-2")]
    assert (result.predictions, result.contradictory, result.unmatched) == (7, 1, 0)
