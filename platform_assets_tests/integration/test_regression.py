"""End-to-end test of a regression model: training, approval, forecasts, labels, rollback and bundle."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from platform_assets.approval.commands import told
from platform_assets.approval.promotion import Promoter
from platform_assets.approval.requests import request_approval
from platform_assets.base.errors import ArtefactError
from platform_assets.models.registry import CHAMPION
from platform_assets.monitoring.labels import Label
from platform_assets.monitoring.real_performance import real_performance
from platform_assets.serving.bundles import BundledChampion, export, open_bundle
from platform_assets.serving.ledger_champions import LedgerChampions
from platform_assets.serving.live_models import LiveModels
from platform_assets.serving.prediction_log import PredictionLog, TableSink
from platform_assets.serving.predictor import Predictor
from platform_assets.serving.prometheus import Metrics
from platform_assets.training.proposal import proposal_of
from platform_assets.web.request_identity import Asked
from platform_assets_tests.approval.proposals import ANNA
from platform_assets_tests.approval.test_pages import text_of
from platform_assets_tests.postgres import wait_until
from platform_assets_tests.service import Visitor
from platform_assets_tests.training.bench import Bench, opened
from platform_assets_tests.training.load_model import LOAD, TABLE, loads

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastapi import FastAPI

    from platform_assets.approval.requests import Request
    from platform_assets.services import Services
    from platform_assets.training.training_results import Training
    from platform_assets_tests.service import People


class Plant:
    """Trains the regression model, opens approval requests in the services' ledger, and promotes versions."""

    def __init__(self, bench: Bench, services: Services) -> None:
        self.bench = bench
        self.ledger = services.ledger
        self.promoter = Promoter(services.ledger, bench.registry, bench.artefacts, services.database.lock)

    def train(self, days: int) -> tuple[Training, Request]:
        """Train on the loads of `days` days; return the training and its approval request."""
        with self.bench.engine.stage(loads(days)) as staged:
            self.bench.tables.publish(TABLE, staged, metadata={"demo": True})
        self.ledger.settle_policy(LOAD.name, LOAD.approval)
        training = self.bench.train(LOAD)
        request = request_approval(self.ledger, proposal_of(LOAD, training))
        assert request is not None
        return training, request

    def promote(self, request: Request) -> None:
        """Approve and promote."""
        self.ledger.decide(request.id, "approve", ANNA, "better")
        self.promoter.promote(request.id)


@pytest.fixture
def plant(services: Services, tmp_path: Path) -> Iterator[Plant]:
    with opened(tmp_path) as bench:
        yield Plant(bench, services)


@pytest.mark.slow
@pytest.mark.requirement("ESI-7", "PRO-4", "PRO-5", "PLT-7", "PLT-11")
def test_a_regression_model_is_trained_approved_served_and_rolled_back(
    plant: Plant, services: Services, app: FastAPI, people: People, tmp_path: Path
) -> None:
    training, request = plant.train(50)
    assert (request.passed, request.threshold, training.version.threshold) == (True, None, None)
    shown = text_of(Visitor(app).sign_in(people.anna).see(f"/approvals/{request.id}").text)
    for expected in ("MAE (MW)", "Interval coverage", "Skill over week_before_mw", "By weekend, 2 values"):
        assert expected in shown
    for plot in ("Predicted and true values of the last week", "Errors over time", "Interval coverage by group"):
        assert plot in shown
    assert "Threshold" not in shown
    assert any(line.startswith("  skill_over_week_before_mw: 0.") for line in told(request))
    plant.promote(request)

    served(plant, services, request)
    _, second = plant.train(55)
    shown = text_of(Visitor(app).sign_in(people.anna).see(f"/approvals/{second.id}").text)
    assert "Metrics of version 2 and of the champion, version 1" in shown
    assert "MAE differs from the champion's by" in shown
    plant.promote(second)
    plant.promoter.rollback(LOAD.name, ANNA, "the intervals of version 2 are too narrow")
    champion = plant.ledger.champion(LOAD.name)
    assert champion is not None
    assert (champion.version, champion.threshold) == (1, None)
    back = plant.bench.registry.by_alias(LOAD.name, CHAMPION)
    assert back is not None
    assert back.version == 1
    assert plant.ledger.audit() == []
    assert plant.promoter.altered(LOAD.name) == []

    bundle = open_bundle(export(plant.ledger, plant.bench.artefacts, LOAD.name, tmp_path / "bundle").folder)
    assert bundle.threshold is None
    rows = loads(2)
    np.testing.assert_array_equal(
        BundledChampion(bundle).load(bundle.digest).outputs(rows),
        plant.bench.artefacts.load(training.version.digest).outputs(rows),
    )


def served(plant: Plant, services: Services, request: Request) -> None:
    """Check the champion's forecasts, the prediction log, and the metrics calculated from labels."""
    source = LedgerChampions(services._own_connection, plant.bench.artefacts.load)
    models = LiveModels(source)
    log = PredictionLog(TableSink(services._own_connection))
    predictor = Predictor(models, log)
    metrics = Metrics(predictor, models.state, log, None)
    models.start([LOAD.name])
    with closing(models):
        wait_until(lambda: models.state()[LOAD.name].live, "the champion is live")
        hours = loads(60).tail(48).reset_index(drop=True)
        rows: list[dict[str, Any]] = [
            {name: float(row[name]) for name in LOAD.feature_names} for row in hours.to_dict("records")
        ]
        predicted = predictor.predict(LOAD.name, [f"h{place}" for place in range(48)], rows, Asked("trader", "r-1"))
        values = predicted.values
        assert set(values) == {"value", "lower", "upper"}
        assert (values["lower"] < values["value"]).all()
        with pytest.raises(ArtefactError, match="predicts values, so it makes no decisions"):
            _ = predicted.positive
        np.testing.assert_array_equal(models.live(LOAD.name).predict(hours)["upper"], values["upper"])
    log.close()
    text = metrics.text().decode()
    assert 'platform_predictions_total{model="load_model",outcome="value",version="1"} 48.0' in text
    assert 'platform_prediction_score_count{model="load_model"}' not in text
    with services.database.pooled() as connection:
        logged = connection.execute(
            "select score, positive, threshold from platform.predictions where model = %s order by place", [LOAD.name]
        ).fetchall()
    assert logged == [(value, None, None) for value in values["value"].tolist()]
    labels(services, hours["load_mw"].tolist())
    performance = real_performance(LOAD, plant.ledger, services.labels)
    assert performance is not None
    assert performance.assessment is not None
    expected = np.abs(values["value"] - hours["load_mw"].to_numpy())[:30].mean()
    assert performance.assessment.estimates["mae"].value == pytest.approx(expected)
    # The prediction log contains no intervals and no baselines, so only the criterion on MAPE is evaluated.
    assert [reason.name for reason in performance.assessment.verdict.reasons] == ["mape_is_at_most_0_04"]
    assert "30 of 48 predictions of version 1 have a label" in performance.told
    assert {"last_week.png", "residuals.png", "values.png"} == set(performance.assessment.plots)
    assert performance.champion.request_id == request.id


def labels(services: Services, truths: list[float]) -> None:
    """Store labels for 30 hours. A NaN label, sent in the same call, must be refused."""
    now = datetime.now(UTC)
    sent = [
        Label(truth, now + timedelta(seconds=30), request_id="r-1", subject=f"h{place}")
        for place, truth in enumerate([float("nan"), *truths[:30]], -1)
    ]
    refused, *filed = services.labels.store(LOAD, sent, "meter")
    assert refused.reason == "the label is nan; send a finite number in MW"
    assert {one.outcome for one in filed} == {"stored"}
