"""Live models change with the champions in a real PostgreSQL, and stay live during network failures."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sqlalchemy import make_url

from platform_assets.base.errors import NoChampion
from platform_assets.database.connections import Database
from platform_assets.serving.ledger_champions import LedgerChampions
from platform_assets.serving.live_models import PACE_SECONDS, LiveModels
from platform_assets_tests.gate import Gate
from platform_assets_tests.postgres import as_owner, empty_databases, wait_until
from platform_assets_tests.serving.live import ROW, Office, model_of, threshold_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import psycopg

    from platform_assets.serving.live_models import LiveModel


@pytest.fixture(scope="module")
def url(postgres_server: Database) -> Iterator[str]:
    with empty_databases(postgres_server) as url:
        yield url


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(make_url(url))
    yield database
    database.close()


@pytest.fixture
def office(database: Database, tmp_path: Path, request: pytest.FixtureRequest) -> Office:
    """An `Office` that promotes versions of a model that only this test uses."""
    return Office(database, tmp_path, request.node.name)


@pytest.fixture
def follow() -> Iterator[Callable[..., LiveModels]]:
    """Return a function that starts `LiveModels` for the model of an `Office`; close all `LiveModels` at the end."""
    started: list[LiveModels] = []

    def start(office: Office, connect: Callable[[], psycopg.Connection[Any]], *more: str) -> LiveModels:
        models = LiveModels(LedgerChampions(connect, office.artefacts.load))
        started.append(models)
        models.start([office.model, *more])
        wait_until(lambda: state_is(models, office, looked=True), "the champion was looked up once")
        return models

    yield start
    for models in started:
        models.close()


def connecting(database: Database) -> Callable[[], psycopg.Connection[Any]]:
    return lambda: database.connect("platform", 2.0)


def state_is(models: LiveModels, office: Office, *, looked: bool = True, slope: float = 0, failing: str = "") -> bool:
    state = models.state()[office.model]
    if failing:
        return failing in (state.failure or "")
    if slope:
        return state.live is not None and state.live.digest == office.digests[slope]
    return looked == (state.looked_at is not None or state.failure is not None)


def answer(live: LiveModel) -> float:
    return float(live.scores([ROW])[0])


def expected(slope: float) -> float:
    return float(model_of(slope).scores([ROW])[0])


@pytest.mark.requirement("PRO-8")
def test_no_version_is_live_before_the_first_promotion(
    office: Office, database: Database, follow: Callable[..., LiveModels]
) -> None:
    models = follow(office, connecting(database))
    with pytest.raises(NoChampion, match=f"{office.model} has no champion, because .*approve") as caught:
        models.live(office.model)
    assert caught.value.model == office.model
    with pytest.raises(NoChampion, match="this service does not serve the model other"):
        models.live("other")
    number = office.promote(1.0)
    wait_until(lambda: state_is(models, office, slope=1.0), "the first champion was live")
    live = models.live(office.model)
    assert (live.name, live.version, live.approval_id, live.threshold) == (office.model, 1, number, threshold_of(1.0))
    assert (dict(live.metrics), live.demo, answer(live)) == ({"roc_auc": 0.8}, True, expected(1.0))


def test_before_the_first_look_up_the_error_says_that_the_model_is_being_loaded(
    office: Office, database: Database
) -> None:
    connecting_was_allowed = threading.Event()

    def connect() -> psycopg.Connection[Any]:
        connecting_was_allowed.wait()
        return database.connect("platform")

    models = LiveModels(LedgerChampions(connect, office.artefacts.load))
    models.start([office.model])
    with pytest.raises(NoChampion, match="is still being loaded; try again in a few seconds"):
        models.live(office.model)
    assert models.state()[office.model].looked_at is None
    connecting_was_allowed.set()
    models.close()


@pytest.mark.requirement("PRO-7", "PRO-8")
def test_readers_never_see_mixed_versions_or_errors_during_a_hundred_champion_changes(
    office: Office,
    database: Database,
    follow: Callable[..., LiveModels],
    record_property: Callable[[str, object], None],
) -> None:
    office.promote(1.0)
    models = follow(office, connecting(database), "another_model")
    wait_until(lambda: state_is(models, office, slope=1.0), "the first version was live")
    answers = {threshold_of(slope): expected(slope) for slope in (1.0, 2.0)}
    stop, counted = threading.Event(), [0, 0]
    wrong: list[object] = []

    def ask(reader: int) -> None:
        try:
            while not stop.wait(0.01):
                live = models.live(office.model)
                assert live.threshold is not None
                if (answer(live), live.digest) != (answers[live.threshold], office.digests[live.threshold * 10]):
                    wrong.append(live)
                counted[reader] += 1
        except Exception as error:  # noqa: BLE001 - any error must fail the test
            wrong.append(error)

    office.digests[2.0] = office.artefacts.save(model_of(2.0))
    readers = [threading.Thread(target=ask, args=[reader]) for reader in range(2)]
    for reader in readers:
        reader.start()
    took = []
    for number in range(100):
        if number % 2:
            office.roll_back()
        else:
            office.promote(2.0)
        began = time.monotonic()
        slope = 1.0 if number % 2 else 2.0
        wait_until(partial(state_is, models, office, slope=slope), "the change was live")
        took.append(time.monotonic() - began)
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert min(counted) > 100
    # Polling would take longer, so notifications made the changes live.
    assert np.median(took) < PACE_SECONDS / 2
    record_property("median seconds until live", float(np.median(took)))
    assert models.state()[office.model].reload_failures == 0


@pytest.mark.requirement("PRO-8")
def test_polling_finds_a_change_that_sent_no_notification(
    database_url: str, owner_url: str, tmp_path: Path, follow: Callable[..., LiveModels]
) -> None:
    as_owner(owner_url, "alter table platform.approval_events disable trigger announce_champion")
    database = Database(make_url(database_url))
    office = Office(database, tmp_path, "untold")
    models = follow(office, connecting(database))
    office.promote(1.0)
    wait_until(lambda: state_is(models, office, slope=1.0), "the change was found")
    models.close()
    database.close()


@pytest.mark.requirement("PRO-8")
def test_the_old_version_stays_live_if_the_new_version_cannot_be_loaded(
    office: Office, database: Database, follow: Callable[..., LiveModels], caplog: pytest.LogCaptureFixture
) -> None:
    office.promote(1.0)
    models = follow(office, connecting(database))
    wait_until(lambda: state_is(models, office, slope=1.0), "the first version was live")
    before = models.live(office.model)
    office.digests[2.0] = office.artefacts.save(model_of(2.0))
    whole = office.file(2.0).read_bytes()
    office.file(2.0).write_bytes(whole[:-1] + b"x")
    office.promote(2.0)
    wait_until(lambda: models.state()[office.model].reload_failures >= 2, "two attempts to load it failed")
    state = models.state()[office.model]
    assert models.live(office.model) is before
    assert state.failure is not None
    assert "version 2 cannot be loaded" in state.failure
    assert "was altered" in state.failure
    assert state.failing_since is not None
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "version 1 stays live" in told[0].getMessage()
    # Once the file is repaired, the version goes live automatically.
    office.file(2.0).write_bytes(whole)
    wait_until(lambda: state_is(models, office, slope=2.0), "the repaired version was live")
    assert models.state()[office.model].failure is None


@pytest.mark.requirement("PRO-8")
def test_a_version_that_cannot_be_loaded_does_not_delay_the_next_promotion(
    office: Office, database: Database, follow: Callable[..., LiveModels]
) -> None:
    models = follow(office, connecting(database))
    office.promote_digest("f" * 64)
    wait_until(lambda: state_is(models, office, failing="is missing"), "the missing file was reported")
    with pytest.raises(NoChampion, match="no version of .* is live: .*is missing"):
        models.live(office.model)
    office.promote(1.0)
    wait_until(lambda: state_is(models, office, slope=1.0), "the next version was live")


@pytest.mark.requirement("PRO-8")
@pytest.mark.parametrize(
    ("others", "told"),
    [
        ({"evidence": {"verdict": {"passed": True}, "threshold": 0.2}}, "threshold 0.2, now 0.1"),
        ({"threshold": 1.5}, "its threshold is 1.5; it must be between 0 and 1"),
        ({"threshold": float("nan")}, "its threshold is nan; it must be between 0 and 1"),
    ],
)
def test_a_version_that_does_not_match_its_approval_does_not_go_live(
    database: Database, tmp_path: Path, follow: Callable[..., LiveModels], others: dict[str, Any], told: str
) -> None:
    office = Office(database, tmp_path, f"mismatch {told}")
    models = follow(office, connecting(database))
    office.promote(1.0, **others)
    wait_until(lambda: state_is(models, office, failing=told), "the mismatch was found")
    assert models.state()[office.model].live is None


@pytest.mark.requirement("PRO-8", "SRV-1")
def test_models_stay_live_during_a_database_outage_and_follow_changes_afterwards(
    office: Office, url: str, follow: Callable[..., LiveModels], caplog: pytest.LogCaptureFixture
) -> None:
    at = make_url(url)
    office.promote(1.0)
    with Gate((str(at.host), int(at.port or 0))) as gate:
        models = follow(office, connecting(Database(at.set(port=gate.port))))
        wait_until(lambda: state_is(models, office, slope=1.0), "the first version was live")
        gate.shut()
        wait_until(
            lambda: state_is(models, office, failing="the champion cannot be looked up"), "the outage was noticed"
        )
        assert answer(models.live(office.model)) == expected(1.0)
        assert models.state()[office.model].reload_failures == 0
        office.promote(2.0)
        gate.open()
        wait_until(lambda: state_is(models, office, slope=2.0), "the version promoted during the outage was live")
        assert models.state()[office.model].failure is None
        # The new connection must receive notifications again.
        office.roll_back()
        wait_until(lambda: state_is(models, office, slope=1.0), "the rollback was live")
        models.close()
    assert not [record for record in caplog.records if record.exc_info]
