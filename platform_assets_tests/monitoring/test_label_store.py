"""Labels in a real PostgreSQL database: late, corrected, contradictory, repeated, unknown and concurrent labels."""

from __future__ import annotations

import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta, timezone
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import make_url

from platform_assets.database.connections import Database
from platform_assets.monitoring.label_store import Labels
from platform_assets.monitoring.labels import Filed, Label, fault
from platform_assets_tests.monitoring.label_history import LATER, MODEL, NOW, of_subject, predicted
from platform_assets_tests.postgres import empty_databases
from platform_assets_tests.training.breakage_model import SPEC

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

STORED = Filed("stored", "current")


@pytest.fixture(scope="module")
def database(postgres_server: Database) -> Iterator[Database]:
    with empty_databases(postgres_server) as url:
        database = Database(make_url(url))
        yield database
        database.close()


@pytest.fixture
def labels(database: Database) -> Labels:
    return Labels(database.pooled)


def name() -> str:
    """Return an id that no other test uses. The tests share a table whose rows are never deleted."""
    return uuid.uuid4().hex


def standings(labels: Labels, subject: str) -> list[tuple[float, datetime, str]]:
    return [(one.label, one.observed_at, one.standing) for one in labels.history(MODEL, subject=subject)]


@pytest.mark.requirement("MON-5")
def test_a_label_with_a_request_id_is_stored_for_the_prediction_of_that_request(
    database: Database, labels: Labels
) -> None:
    request = name()
    predicted(database, request, ["5008804"])
    assert labels.store(SPEC, [Label(1, LATER, request_id=request)], "workshop") == [STORED]
    [kept] = labels.history(MODEL, request_id=request)
    assert (kept.label, kept.observed_at, kept.sender, kept.standing) == (1, LATER, "workshop", "current")
    assert kept.subject is None
    assert labels.history("other_model", request_id=request) == []


@pytest.mark.requirement("MON-5")
def test_a_label_of_a_subject_can_be_stored_before_a_prediction_exists(labels: Labels) -> None:
    subject = name()
    assert labels.store(SPEC, [of_subject(subject)], "") == [STORED]
    [kept] = labels.history(MODEL, subject=subject)
    assert (kept.subject, kept.at, kept.request_id) == (subject, NOW, None)


@pytest.mark.requirement("MON-5")
def test_a_label_that_was_observed_later_supersedes_an_earlier_label_in_any_order_of_arrival(labels: Labels) -> None:
    subject = name()
    [first] = labels.store(SPEC, [of_subject(subject, 0, LATER)], "")
    [correction] = labels.store(SPEC, [of_subject(subject, 1, LATER + timedelta(days=1))], "")
    [late] = labels.store(SPEC, [of_subject(subject, 0, LATER - timedelta(minutes=1))], "")
    assert (first.standing, correction.standing, late.standing) == ("current", "current", "superseded")
    assert [standing for _, _, standing in standings(labels, subject)] == ["current", "superseded", "superseded"]


@pytest.mark.requirement("MON-5")
def test_contradictory_labels_are_both_kept_until_a_later_label_supersedes_them(labels: Labels) -> None:
    subject = name()
    labels.store(SPEC, [of_subject(subject, 0)], "")
    assert labels.store(SPEC, [of_subject(subject, 1)], "") == [Filed("stored", "contradictory")]
    assert standings(labels, subject) == [(1, LATER, "contradictory"), (0, LATER, "contradictory")]
    last = LATER + timedelta(days=1)
    assert labels.store(SPEC, [of_subject(subject, 1, last)], "") == [STORED]
    assert [one[2] for one in standings(labels, subject)] == ["current", "contradictory", "contradictory"]


@pytest.mark.requirement("MON-5")
def test_the_same_label_sent_twice_is_stored_once(database: Database, labels: Labels) -> None:
    request, subject = name(), name()
    predicted(database, request, [None])
    in_madrid = LATER.astimezone(timezone(timedelta(hours=2)))
    sent = [Label(1, LATER, request_id=request), of_subject(subject), of_subject(subject, observed_at=in_madrid)]
    again = Filed("already_stored", "current")
    assert labels.store(SPEC, sent, "") == [STORED, STORED, again]
    assert labels.store(SPEC, sent, "another sender") == [again] * 3
    assert len(labels.history(MODEL, request_id=request)) == len(labels.history(MODEL, subject=subject)) == 1


@pytest.mark.requirement("MON-5", "SRV-1")
def test_a_label_without_a_prediction_does_not_prevent_storing_other_labels(database: Database, labels: Labels) -> None:
    request, subject = name(), name()
    predicted(database, request, ["a", "b"], model="other_model")
    sent = [of_subject(subject, 0), Label(1, LATER, request_id=request), Label(1, LATER, request_id="r-?")]
    stored, of_other_model, unknown = labels.store(SPEC, [*sent], "")
    assert stored == STORED
    for filed in (of_other_model, unknown):
        assert filed.outcome == "unknown"
        assert "a prediction is logged shortly after" in str(filed.reason)
    assert len(standings(labels, subject)) == 1


@pytest.mark.requirement("MON-5")
def test_a_label_with_a_subject_or_place_selects_one_prediction_of_a_request(
    database: Database, labels: Labels
) -> None:
    clients, sentences = name(), name()
    predicted(database, clients, ["7", "8", "8"])
    predicted(database, sentences, [None, None, None])
    filed = labels.store(
        SPEC,
        [
            Label(1, LATER, request_id=clients, subject="8"),
            Label(0, LATER, request_id=sentences, place=2),
            Label(1, LATER, request_id=clients),
            Label(1, LATER, request_id=clients, place=0),
            Label(1, LATER, request_id=clients, subject="9"),
            Label(1, LATER, request_id=sentences),
            Label(1, LATER, request_id=sentences, place=3),
        ],
        "",
    )
    assert filed[:2] == [STORED, STORED]
    assert [(one.outcome, str(one.reason).partition(";")[0]) for one in filed[2:]] == [
        ("refused", "the request has 3 predictions with subjects"),
        ("refused", "the request has 3 predictions with subjects"),
        ("unknown", f"the request {clients} has no prediction of {MODEL} with the subject 9"),
        ("refused", "the request has 3 predictions"),
        ("unknown", f"the request {sentences} has no prediction of {MODEL} with the place 3"),
    ]
    with database.connect("platform") as connection:
        found = connection.execute(
            "select p.place from platform.labels join platform.predictions p using (batch, place)"
            " where p.request_id = any(%s) order by p.subject",
            [[clients, sentences]],
        ).fetchall()
    assert found == [(2,), (2,)]


@pytest.mark.requirement("MON-5")
def test_a_label_must_name_the_subject_if_several_requests_have_the_same_id(database: Database, labels: Labels) -> None:
    request = name()
    predicted(database, request, ["7"])
    predicted(database, request, ["7"], at=NOW + timedelta(minutes=1))
    [refused, stored, early] = labels.store(
        SPEC,
        [
            Label(1, LATER, request_id=request),
            Label(1, LATER, request_id=request, subject="7"),
            # The subject selects the second prediction, which was made after this label was observed.
            Label(1, NOW + timedelta(seconds=1), request_id=request, subject="7"),
        ],
        "",
    )
    assert (refused.outcome, refused.reason) == (
        "refused",
        f"several requests have the id {request}; send the subject as well",
    )
    assert stored == STORED
    assert "before the prediction" in str(early.reason)


@pytest.mark.requirement("MON-5")
def test_a_label_that_was_observed_before_the_prediction_is_refused(database: Database, labels: Labels) -> None:
    request = name()
    predicted(database, request, [None])
    [filed] = labels.store(SPEC, [Label(1, NOW - timedelta(microseconds=1), request_id=request)], "")
    assert filed.outcome == "refused"
    assert "before the prediction was made at 2026-06-01T12:00:00+00:00; check observed_at" in str(filed.reason)


@pytest.mark.requirement("MON-5")
@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (Label(0.5, NOW, request_id="r"), "the label is 0.5; send 0 or 1"),
        (Label(float("nan"), NOW, request_id="r"), "the label is nan; send 0 or 1"),
        (
            Label(1, NOW + timedelta(minutes=2), request_id="r"),
            "which is in the future; the current time is 2026-06-01T12:00:00Z",
        ),
        (of_subject("7", observed_at=NOW, at=NOW + timedelta(days=1)), "at is 2026-06-02T12:00:00.*in the future"),
        (of_subject("7", observed_at=NOW - timedelta(1), at=NOW), r"\) is before `at` \("),
        (Label(1, NOW.replace(tzinfo=None), request_id="r"), "without a time zone; add Z"),
        (Label(1, NOW.replace(year=1969), request_id="r"), "must not be before 1970"),
        (Label(1, NOW), "send either `request_id`, or both `subject` and `at`"),
        (Label(1, NOW, subject="7"), "send either `request_id`, or both `subject` and `at`"),
        (Label(1, NOW, subject="7", at=NOW, place=0), "`place` is allowed only with `request_id`"),
        (Label(1, NOW, request_id="r", at=NOW), "`at` and `request_id` cannot be combined"),
        (Label(1, NOW, request_id="r", subject="7", place=0), "`place` and `subject` cannot be combined"),
        (of_subject("", observed_at=NOW), "the subject has 0 characters"),
        (of_subject("x" * 201, observed_at=NOW), "the subject has 201 characters; it must have 1 to 200"),
        (of_subject("a\0b", observed_at=NOW), r"control or invisible characters \(U\+0000\)"),
        (of_subject("\ud800", observed_at=NOW), r"control or invisible characters \(U\+D800\)"),
    ],
)
def test_the_reason_says_what_is_wrong_with_a_label(label: Label, reason: str) -> None:
    assert re.search(reason, fault(label, NOW, SPEC.task) or "")


def test_an_observation_time_half_a_minute_in_the_future_is_accepted() -> None:
    assert fault(Label(1, NOW + timedelta(seconds=30), request_id="r"), NOW, SPEC.task) is None


@pytest.mark.requirement("MON-5")
def test_the_service_can_add_labels_but_not_change_them(database: Database, labels: Labels) -> None:
    labels.store(SPEC, [of_subject(name())], "")
    for statement in ("update platform.labels set label = 0", "delete from platform.labels"):
        with database.connect("platform") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


@pytest.mark.requirement("MON-5", "SRV-3")
def test_concurrent_requests_with_the_same_labels_store_each_label_once(labels: Labels) -> None:
    subject = name()
    sent = [of_subject(subject, 1, LATER + timedelta(seconds=number)) for number in range(50)]

    def store(number: int) -> list[Filed]:
        return labels.store(SPEC, sent if number % 2 else sent[::-1], f"sender {number}")

    with ThreadPoolExecutor(8) as threads:
        filed = [one for found in threads.map(store, range(16)) for one in found]
    assert sum(one.outcome == "stored" for one in filed) == 50
    assert sum(one.outcome == "already_stored" for one in filed) == 15 * 50
    assert len(standings(labels, subject)) == 50


def test_an_empty_list_of_labels_can_be_stored(labels: Labels) -> None:
    assert labels.store(SPEC, [], "") == []
