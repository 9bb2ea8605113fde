"""The predictor: one version scores all rows of a request, and each prediction is logged."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from platform_assets.base.errors import ArtefactError, NoChampion
from platform_assets.serving.champion_source import Approved
from platform_assets.serving.live_models import LiveModels
from platform_assets.serving.prediction_log import PredictionLog
from platform_assets.serving.predictor import Predicted, Predictor
from platform_assets.web.request_identity import Asked
from platform_assets_tests.postgres import wait_until
from platform_assets_tests.serving.live import model_of

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator, Sequence

    from platform_assets.models.fitted_model import FittedModel
    from platform_assets.serving.prediction_log import Predictions

ASKED = Asked("shop", "r-1")
ROWS: list[dict[str, Any]] = [{"heat": 1.0, "noise": None, "client": 7}, {"heat": -1, "noise": 0.5, "client": 8}]
FILLED = [{**row, "noise": row["noise"] or 0.0} for row in ROWS]
IN_A_FRESH_INTERPRETER = """
import sys
from platform_assets_tests.serving import test_predictor as test

sink = test.Kept()
predictor, models = test.started(sink)
before = {name.split(".")[0] for name in sys.modules}
predictor.predict("breakage", [1], test.FILLED[:1], test.ASKED)
models.close()
predictor._log.close()
assert len(sink.kept) == 1
strangers = {"mlflow", "dagster", "fastapi", "great_expectations", "matplotlib", "duckdb", "ibis"} & set(sys.modules)
assert not strangers, strangers
assert {name.split(".")[0] for name in sys.modules} == before, "a request imported a module"
"""


class Announcing:
    """Source of champions; a test sets the champion with `say`."""

    def __init__(self) -> None:
        self.approved: Approved | None = None
        self.changed = threading.Event()

    def say(self, slope: float) -> None:
        version = int(slope)
        self.approved = Approved("breakage", version, f"{slope}", 0.5, 10 + version, {}, demo=False)
        self.changed.set()

    def champion(self, model: str) -> Approved | None:
        return self.approved if model == "breakage" else None

    def load(self, digest: str) -> FittedModel:
        return model_of(float(digest))

    def wait(self, stop: threading.Event, seconds: float) -> None:
        del stop, seconds
        self.changed.wait(0.1)
        self.changed.clear()

    def close(self) -> None:
        """Do nothing; no connection is open."""


class Kept:
    """Sink that keeps the predictions in memory."""

    def __init__(self) -> None:
        self.kept: list[Predictions] = []

    def write(self, batch: uuid.UUID, answers: Sequence[Predictions]) -> int:
        del batch
        self.kept += answers
        return 0

    def close(self) -> None:
        """Do nothing; no connection is open."""


def started(sink: Kept, announcing: Announcing | None = None) -> tuple[Predictor, LiveModels]:
    announcing = announcing or Announcing()
    announcing.say(1.0)
    models = LiveModels(announcing)
    models.start(["breakage", "nothing"])
    wait_until(lambda: models.state()["breakage"].live, lambda: f"the model was live; state: {models.state()}")
    return Predictor(models, PredictionLog(sink)), models


class Desk:
    """A predictor with its sink, champion source and live models."""

    def __init__(self) -> None:
        self.sink, self.announcing = Kept(), Announcing()
        self.predictor, self.models = started(self.sink, self.announcing)

    def logged(self) -> list[Predictions]:
        self.predictor._log.close()
        return self.sink.kept


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.models.close()
    desk.logged()


@pytest.mark.requirement("CRE-5", "SRV-2")
def test_predict_returns_the_scores_of_the_live_model_and_logs_each_row(desk: Desk) -> None:
    told: list[Predicted] = []
    desk.predictor.tell(told.append)
    predicted = desk.predictor.predict("breakage", [7, None], FILLED, ASKED)
    scores = model_of(1.0).scores(FILLED)
    assert predicted.live is desk.models.live("breakage")
    assert predicted.scores.tobytes() == scores.tobytes()
    assert predicted.positive.tolist() == (scores >= 0.5).tolist() == [True, False]
    assert told == [predicted]
    [one] = desk.logged()
    assert (one.model, one.version, one.approval_id, one.threshold) == ("breakage", 1, 11, 0.5)
    assert (one.caller, one.request_id, one.subjects) == ("shop", "r-1", [7, None])
    # Only the features of the model are logged.
    assert list(one.features) == [{"heat": 1.0, "noise": 0.0}, {"heat": -1, "noise": 0.5}]
    assert np.array_equal(one.scores, scores)


def test_a_failed_prediction_is_neither_logged_nor_counted(desk: Desk) -> None:
    told: list[Predicted] = []
    desk.predictor.tell(told.append)
    cases: list[tuple[str, list[dict[str, Any]], type[Exception]]] = [
        ("nothing", FILLED, NoChampion),
        ("stranger", FILLED, NoChampion),
        ("breakage", [{"heat": 1.0}], ArtefactError),
        ("breakage", [{"heat": "hot", "noise": 1}], ArtefactError),
        ("breakage", ROWS, ArtefactError),
    ]
    for name, rows, error in cases:
        with pytest.raises(error):
            desk.predictor.predict(name, [None] * len(rows), rows, ASKED)
    assert told == []
    assert desk.logged() == []


@pytest.mark.requirement("PRO-8")
def test_one_version_scores_a_whole_request_while_the_champion_changes(desk: Desk) -> None:
    expected: dict[int, Any] = {slope: model_of(float(slope)).scores(FILLED).tobytes() for slope in (1, 2)}
    seen = set()
    for number in range(40):
        desk.announcing.say(float(number % 2 + 1))
        for _ in range(10):
            predicted = desk.predictor.predict("breakage", [1, 2], FILLED, ASKED)
            assert predicted.scores.tobytes() == expected[predicted.live.version]
            seen.add(predicted.live.version)
    wait_until(
        lambda: desk.models.live("breakage").version == 2, lambda: f"version 2 was live; state: {desk.models.state()}"
    )
    logged = desk.logged()
    assert seen == {1, 2}
    assert len(logged) == 400
    assert all(np.asarray(one.scores).tobytes() == expected[one.version] for one in logged)


@pytest.mark.requirement("PRO-1")
def test_a_request_imports_no_module_and_mlflow_is_never_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_A_FRESH_INTERPRETER], check=False, capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr
