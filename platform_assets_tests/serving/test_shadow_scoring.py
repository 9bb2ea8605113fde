"""Shadows score requests in a separate thread with a bounded queue, and cannot affect the answers."""

from __future__ import annotations

import dataclasses
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from platform_assets.approval.shadows import Shadow
from platform_assets.base.errors import ArtefactError, DatabaseError
from platform_assets.models.outputs import INTERVAL
from platform_assets.serving.prediction_log import Predictions
from platform_assets.serving.predictor import Predictor
from platform_assets.serving.prometheus import ShadowMetrics
from platform_assets.serving.shadow_scoring import Shadows
from platform_assets_tests.postgres import wait_until
from platform_assets_tests.serving.live import model_of
from platform_assets_tests.serving.test_predictor import ASKED, FILLED, Announcing, Kept, started

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator, Mapping, Sequence

    from platform_assets.models.fitted_model import FittedModel
    from platform_assets.serving.shadow_rows import Losses, ShadowRow

pytestmark = pytest.mark.requirement("PRO-2", "MON-1")
NOW = datetime.now(UTC)
CHALLENGER = Shadow(
    request_id=12,
    model="breakage",
    version=2,
    digest="2.0",
    threshold=0.7,
    started=20,
    by="anna",
    since=NOW,
    until=NOW + timedelta(days=3),
    champion_digest="1.0",
    ended=None,
    takes_reports=True,
)


class MemoryStore:
    """A store that keeps scores and `Losses` in memory. Writing a batch again replaces its rows."""

    def __init__(self, *shadows: Shadow) -> None:
        self.shadows = list(shadows)
        self.batches: dict[uuid.UUID, list[ShadowRow]] = {}
        self.losses: list[Losses] = []
        self.is_up = True
        self.reports = 0
        self.is_closed = False

    @property
    def rows(self) -> list[ShadowRow]:
        return [row for rows in self.batches.values() for row in rows]

    def running(self) -> Sequence[Shadow]:
        return self.shadows

    def write(self, batch: uuid.UUID, rows: Sequence[ShadowRow], losses: Mapping[Shadow, Losses]) -> None:
        self.batches[batch] = list(rows)
        if not self.is_up:
            raise DatabaseError("the server is down")
        self.losses += losses.values()

    def report(self) -> None:
        self.reports += 1

    def close(self) -> None:
        self.is_closed = True


class Desk:
    """A predictor with a champion and shadows. The shadows' thread does not run unless a test starts it."""

    def __init__(self, *shadows: Shadow, capacity: int = 100) -> None:
        self.store = MemoryStore(*(shadows or (CHALLENGER,)))
        self.loaded: dict[str, Any] = {}
        self.shadows = Shadows(self.store, self.load, capacity, look_seconds=0.0)
        self.announcing = Announcing()
        self.sink = Kept()
        alone, self.models = started(self.sink, self.announcing)
        self.log = alone._log
        self.predictor = Predictor(self.models, self.log, self.shadows)

    def load(self, digest: str) -> FittedModel:
        found = self.loaded.get(digest) or model_of(float(digest))
        if isinstance(found, Exception):
            raise found
        return found

    def ask(self, rows: Sequence[Mapping[str, Any]] = FILLED) -> Any:
        return self.predictor.predict("breakage", [7] * len(rows), rows, ASKED)

    def counts(self) -> tuple[int, int, int]:
        counts = self.shadows.counts()["breakage"]
        return counts.scored, counts.dropped, counts.failed

    def close(self) -> None:
        self.shadows.close()
        self.models.close()
        self.log.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.close()


class Blocking:
    """A model whose scoring blocks until a test releases it."""

    def __init__(self) -> None:
        self.entered, self.released = threading.Event(), threading.Event()

    def __call__(self, rows: Any) -> Any:
        self.entered.set()
        assert self.released.wait(600)
        return np.zeros(len(rows))


class Fake:
    """A model with the interface that shadows use. `scores` is the function that calculates its scores."""

    def __init__(self, scores: Any) -> None:
        self.golden_rows, self.output = model_of(2.0).golden_rows.head(0), model_of(2.0).output
        self.outputs_unlimited = scores


def zeros(rows: Any) -> Any:
    return np.zeros(len(rows))


def test_a_shadow_scores_the_same_rows_later_and_does_not_change_the_answer(desk: Desk) -> None:
    desk.shadows.step()
    answers = [desk.ask(), desk.ask(FILLED[:1])]
    assert desk.store.rows == []
    desk.shadows.step()
    champion, challenger = model_of(1.0).scores(FILLED), model_of(2.0).scores(FILLED)
    assert [answer.scores.tolist() for answer in answers] == [champion.tolist(), champion[:1].tolist()]
    assert [answer.live.version for answer in answers] == [1, 1]
    assert [(row.item, row.score, row.champion_score) for row in desk.store.rows] == [
        (0, challenger[0], champion[0]),
        (1, challenger[1], champion[1]),
        (0, challenger[0], champion[0]),
    ]
    first = desk.store.rows[0]
    assert (first.shadow, first.request_id, first.subject) == (CHALLENGER, "r-1", 7)
    # The champion's threshold is 0.5, the challenger's 0.7.
    agree = [(one >= 0.5) == (other >= 0.7) for one, other in zip(champion, challenger, strict=True)]
    assert [row.agrees for row in desk.store.rows] == [*agree, agree[0]]
    assert desk.counts() == (3, 0, 0)
    assert desk.store.reports == 1
    desk.log.close()
    assert [one.version for one in desk.sink.kept] == [1, 1]


@pytest.mark.requirement("SRV-3")
def test_a_blocked_shadow_delays_no_answer_and_its_rows_are_dropped_and_counted() -> None:
    desk, blocking = Desk(capacity=10), Blocking()
    desk.loaded["2.0"] = Fake(zeros)
    desk.shadows.step()
    desk.loaded["2.0"].outputs_unlimited = blocking
    desk.shadows.start()
    try:
        desk.ask(FILLED[:1])
        wait_until(blocking.entered.is_set, "the shadow was blocked")
        for _ in range(30):
            desk.ask(FILLED[:1])
        # The queue holds ten rows, and the other 20 are dropped. The blocked shadow delayed no answer.
        assert desk.counts() == (0, 20, 0)
        assert desk.shadows.queued == 10
    finally:
        blocking.released.set()
        desk.close()
    assert desk.store.is_closed
    assert sum(lost.dropped for lost in desk.store.losses) + len(desk.store.rows) == 31


def test_a_row_that_cannot_be_scored_is_reported_without_its_values_and_other_rows_are_scored(desk: Desk) -> None:
    def scores(rows: Any) -> Any:
        if any(row["heat"] == -1 for row in rows):
            raise ArtefactError("a value does not fit its feature's type: ValueError: could not convert 'Anna'")
        return np.full(len(rows), 0.9)

    desk.loaded["2.0"] = Fake(zeros)
    desk.shadows.step()
    desk.loaded["2.0"].outputs_unlimited = scores
    desk.ask([*FILLED, FILLED[0]])
    desk.shadows.step()
    assert [row.item for row in desk.store.rows] == [0, 2]
    assert desk.counts() == (2, 0, 1)
    [lost] = desk.store.losses
    assert (lost.failed, lost.reason) == (1, "the version cannot score a row: a value does not fit its feature's type")
    assert desk.shadows.state()["breakage"].has_failed


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (ArtefactError("the file was altered"), "the version cannot be loaded: the file was altered"),
        (MemoryError("of client 7"), "the version cannot be loaded: MemoryError"),
    ],
)
def test_an_unloadable_shadow_is_reported_and_does_not_affect_answers(desk: Desk, found: Exception, told: str) -> None:
    desk.loaded["2.0"] = found
    desk.shadows.step()
    assert len(desk.ask().scores) == 2
    desk.shadows.step()
    assert desk.shadows.state()["breakage"].failure == told
    assert desk.counts() == (0, 2, 0)
    assert (desk.store.rows, [lost.reason for lost in desk.store.losses]) == ([], [told])
    registry = CollectorRegistry()
    registry.register(ShadowMetrics(desk.shadows))
    lines = generate_latest(registry).decode().splitlines()
    assert 'platform_shadow_up{model="breakage",version="2"} 0.0' in lines
    assert 'platform_shadow_dropped_total{model="breakage"} 2.0' in lines


@pytest.mark.parametrize(
    ("scores", "output", "told"),
    [
        (lambda rows: np.full(len(rows), np.nan), None, "a score is not a finite number"),
        (lambda rows: np.zeros((len(rows), 3)), INTERVAL, "its task is regression, but the champion's is binary"),
    ],
)
def test_scores_that_cannot_be_compared_are_counted_as_failed(desk: Desk, scores: Any, output: Any, told: str) -> None:
    desk.loaded["2.0"] = Fake(scores)
    if output:
        desk.store.shadows[0] = dataclasses.replace(CHALLENGER, threshold=None)
        desk.loaded["2.0"].output = output
    desk.shadows.step()
    desk.ask()
    desk.shadows.step()
    assert desk.counts() == (0, 0, 2)
    assert told in str(desk.store.losses[0].reason)


@pytest.mark.requirement("PRO-6")
def test_a_shadow_scores_only_requests_served_by_its_champion_and_stops_when_its_period_ends(desk: Desk) -> None:
    desk.shadows.step()
    desk.store.shadows[0] = dataclasses.replace(CHALLENGER, started=21, until=NOW - timedelta(seconds=1))
    desk.shadows.step()
    desk.ask()
    desk.store.shadows[0] = dataclasses.replace(CHALLENGER, started=22, champion_digest="3.0")
    desk.shadows.step()
    desk.ask()
    assert desk.shadows.queued == 0
    desk.store.shadows.clear()
    desk.shadows.step()
    desk.ask()
    assert (dict(desk.shadows.state()), desk.counts()) == ({}, (0, 0, 0))


def test_scores_that_cannot_be_written_during_an_outage_are_written_afterwards(desk: Desk) -> None:
    desk.shadows.step()
    desk.store.is_up = False
    desk.ask()
    desk.shadows.step()
    desk.ask(FILLED[:1])
    desk.shadows.step()
    [batch] = desk.store.batches
    desk.store.is_up = True
    desk.shadows.step()
    desk.ask(FILLED[:1])
    desk.shadows.step()
    assert [len(rows) for rows in desk.store.batches.values()] == [3, 1]
    assert next(iter(desk.store.batches)) == batch


def test_a_long_request_is_scored_in_parts(desk: Desk) -> None:
    sizes = []

    def scores(rows: Any) -> Any:
        sizes.append(len(rows))
        return np.zeros(len(rows))

    desk.loaded["2.0"] = Fake(scores)
    desk.shadows.step()
    desk.ask(FILLED[:1])
    desk.ask(FILLED[:1] * 40)
    desk.shadows.step()
    assert sizes[1:] == [16, 16, 9]
    assert [row.item for row in desk.store.rows] == [0, *range(40)]


@pytest.mark.requirement("ESI-7")
def test_a_regression_shadow_agrees_with_the_champion_if_its_interval_contains_the_champions_value() -> None:
    store = MemoryStore(dataclasses.replace(CHALLENGER, threshold=None))
    model: Any = Fake(lambda rows: np.array([[5.0, 4.0, 6.0]] * len(rows)))
    model.output, model.golden_rows = INTERVAL, model_of(2.0).golden_rows.head(0)
    shadows = Shadows(store, lambda _: model, look_seconds=0.0)
    shadows.step()
    champion: Any = SimpleNamespace(digest="1.0", model=model)
    values = [4.0, 6.1, 3.9]
    rows = [{"hour": hour} for hour in range(3)]
    shadows.offer(
        champion, Predictions("breakage", 1, 11, None, "shop", "r-1", [None] * 3, rows, values, datetime.now(UTC)), rows
    )
    shadows.step()
    found = [(row.champion_score, row.score, row.agrees) for row in store.rows]
    assert found == [(4.0, 5.0, True), (6.1, 5.0, False), (3.9, 5.0, False)]
