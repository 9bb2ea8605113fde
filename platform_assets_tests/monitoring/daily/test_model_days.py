"""Daily measurements of models, the checks of these measurements, and the job that stores them."""

from __future__ import annotations

import uuid
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pytest

from platform_assets.lake.assets import IO_MANAGER
from platform_assets.lake.io_manager import TablesIOManager
from platform_assets.lake.validation import Validator
from platform_assets.monitoring.daily.assets import daily_definitions
from platform_assets.monitoring.daily.measurements import measure_models, newest
from platform_assets.monitoring.daily.model_days import ModelSources
from platform_assets.monitoring.daily.series import MODEL_SERIES
from platform_assets.monitoring.label_store import Labels
from platform_assets.monitoring.labels import Label
from platform_assets.orchestration.declared import Declared
from platform_assets.serving.prediction_log import Predictions, TableSink
from platform_assets.serving.request_statistics import Counts
from platform_assets.settings import Settings
from platform_assets_tests.approval.proposals import prepared, promote
from platform_assets_tests.instances import empty_instance
from platform_assets_tests.monitoring.drift.arrivals import SPEC, batch

if TYPE_CHECKING:
    import pandas as pd

    from platform_assets_tests.monitoring.drift.arrivals import Station

NOW = datetime.now(UTC)
TODAY = NOW.date()
PER_CHECK = 1_000.0
WATCHED = replace(SPEC, incoming=None)


class Service:
    """A simulated service with logged requests on many days, and the daily measurements of its model."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.database = station.database
        self.ledger = prepared(station.database)
        self.labels = Labels(station.database.pooled)
        self.history: pd.DataFrame | None = None
        bench = station.bench
        self.sources = ModelSources(
            self.database.pooled,
            bench.engine,
            bench.tables,
            bench.registry,
            self.ledger,
            self.labels,
            station.monitor,
            station.history,
        )

    def promote(self) -> int:
        """Make version 1 the champion, and return the id of its approval request."""
        champion = self.ledger.champion(SPEC.name)
        return champion.request_id if champion else promote(self.ledger, 1, model=SPEC.name, threshold=0.5)

    def answer(self, days_ago: int, rows: int, *, shift: float = 0.0, approval: int = 1, failures: int = 0) -> str:
        """Log a day's predictions and request statistics. Return the request id of the predictions."""
        at = datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC) - timedelta(days=days_ago)
        frame = batch(f"{days_ago}", rows, shift=shift, seed=1)[["heat", "noise"]]
        columns = {name: frame[name].astype(object).where(frame[name].notna(), None) for name in ("heat", "noise")}
        features = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        model = self.station.bench.artefacts.load(self.station.bench.registry.version(SPEC.name, 1).digest)
        scores = model.scores(frame).tolist()
        request = uuid.uuid4().hex
        subjects = [f"{days_ago}-{number}" for number in range(rows)]
        with closing(TableSink(lambda: self.database.connect("platform"))) as sink:
            sink.write(
                uuid.uuid4(),
                [Predictions(SPEC.name, 1, approval, 0.5, "shop", request, subjects, features, scores, at)],
            )
        counts = Counts()
        for number in range(rows):
            counts.add(500 if number < failures else 200, 0.01)
        with self.database.pooled() as connection:
            connection.execute(
                b"insert into platform.request_statistics (model, at, requests, failures, durations) "
                b"values (%s, %s, %s, %s, %s)",
                [SPEC.name, at, counts.requests, counts.failures, counts.durations],
            )
            connection.commit()
        return request

    def measure(self, now: datetime = NOW) -> pd.DataFrame:
        self.history = measure_models(self.sources, [WATCHED], self.history, PER_CHECK, now, "a run")
        return self.history

    def values(self, days_ago: int) -> dict[str, float]:
        """Return a day's value of each series that is not measured per column."""
        days = self.measure()
        found = days[(days["day"] == TODAY - timedelta(days=days_ago)) & (days["column"] == "")]
        return dict(zip(found["series"], found["value"], strict=True))

    def alarms(self, now: datetime = NOW) -> set[str]:
        judged = newest(self.measure(now), MODEL_SERIES)
        return set(judged.loc[judged["is_open"].astype(bool), "check"])


@pytest.fixture
def service(station: Station) -> Service:
    with station.database.pooled() as connection:
        for table in ("predictions", "request_statistics"):
            connection.execute(f"delete from platform.{table}".encode())
        connection.commit()
    return Service(station)


@pytest.mark.requirement("MON-1")
def test_daily_values_of_a_model_are_calculated_from_the_logs(service: Service) -> None:
    service.answer(5, 30, failures=3)
    service.answer(2, 20)
    service.answer(0, 7)  # today is not measured, because the day is not over
    assert service.values(5) | {"latency_p50": 0.0, "latency_p95": 0.0, "latency_p99": 0.0} == {
        "predictions": 30,
        "mean_prediction": pytest.approx(service.values(5)["mean_prediction"]),
        "spread_of_predictions": pytest.approx(service.values(5)["spread_of_predictions"]),
        "requests": 30,
        "failed_share": 0.1,
        "latency_p50": 0.0,
        "latency_p95": 0.0,
        "latency_p99": 0.0,
    }
    assert service.values(5)["latency_p95"] == pytest.approx(10, rel=0.16)
    assert service.values(4) == {"predictions": 0}
    assert "predictions" not in service.values(0)
    assert service.values(6) == {}
    days = service.measure()
    drifted = days[(days["series"] == "drift") & (days["day"] == TODAY - timedelta(days=5))]
    assert set(drifted["column"]) == {
        f"{name}, requested rows" for name in ("heat", "noise", "all numeric features", "predicted probability")
    }


@pytest.mark.requirement("MON-1")
def test_faults_in_the_last_days_raise_the_alarms_of_the_matching_checks(service: Service) -> None:
    random = np.random.default_rng(4)
    for day in range(45, 3, -1):
        service.answer(day, 100 + int(random.integers(-8, 9)))
    assert service.alarms(NOW - timedelta(days=3)) == set()
    for day in range(3, 0, -1):
        service.answer(day, 30, shift=1.5, failures=6)
    found = service.alarms()
    assert {"volume_is_as_usual", "failures_are_as_usual", "requested_rows_are_as_in_training"} <= found


@pytest.mark.requirement("MON-1")
def test_a_drift_alarm_closes_after_days_without_drift(service: Service) -> None:
    for day in range(12, 6, -1):
        service.answer(day, 60, shift=1.5 if day < 9 else 0.0)
    assert "requested_rows_are_as_in_training" in service.alarms(NOW - timedelta(days=6))
    for day in range(6, 0, -1):
        service.answer(day, 60)
    assert "requested_rows_are_as_in_training" not in service.alarms()


@pytest.mark.requirement("MON-1", "MON-5")
def test_disagreeing_labels_raise_an_alarm_and_a_promotion_clears_it(service: Service) -> None:
    service.answer(1, 60, approval=service.promote())
    with service.database.pooled() as connection:
        predicted = connection.execute(b"select request_id, subject, positive, at from platform.predictions").fetchall()
    sent = [Label(0.0 if positive else 1.0, NOW, request, subject=one) for request, one, positive, _ in predicted]
    assert {filed.outcome for filed in service.labels.store(WATCHED, sent, "workshop")} == {"stored"}
    assert "labels_agree_with_predictions" in service.alarms()
    today = service.values(0)
    assert (today["labelled"], today["disagreeing"], today["agreement"]) == (60, 60, 0.0)
    assert today["champion_age"] == pytest.approx(0, abs=0.1)
    promote(service.ledger, 2, model=SPEC.name, threshold=0.5)
    assert "labels_agree_with_predictions" not in service.alarms(NOW + timedelta(days=1))


@pytest.mark.requirement("MON-1")
def test_a_champion_older_than_the_monitoring_policy_allows_raises_an_alarm(service: Service) -> None:
    service.promote()
    old = NOW + WATCHED.monitoring.max_champion_age + timedelta(days=1)
    judged = newest(service.measure(old), MODEL_SERIES)
    assert judged.loc[judged["check"] == "champion_is_recent", "is_open"].tolist() == [True]


@pytest.mark.requirement("MON-1", "MON-2")
def test_the_job_stores_measurements_and_its_checks_have_the_declared_severity(service: Service) -> None:
    bench = service.station.bench
    for day in range(45, 1, -1):
        service.answer(day, 50)
    service.answer(1, 1)
    key = dg.AssetKey(WATCHED.key.split("/"))
    declared = Declared([WATCHED], dg.Definitions(assets=[dg.AssetSpec(key)]))
    online: Any = type("NoOnlineTables", (), {"versions": list, "current": lambda *_: None})()
    resources = {
        "tables": bench.tables,
        "online": online,
        "model_sources": service.sources,
        "database": service.database,
        "validator": Validator(bench.engine, 0.05),
    }
    io_manager = dg.IOManagerDefinition.hardcoded_io_manager(TablesIOManager(bench.tables, online, bench.engine))
    definitions = dg.Definitions.merge(
        declared.definitions,
        daily_definitions(declared, Settings(home=bench.folder)),
        dg.Definitions(
            executor=dg.in_process_executor,
            resources={
                IO_MANAGER: io_manager,
                **{name: dg.ResourceDefinition.hardcoded_resource(one) for name, one in resources.items()},
            },
        ),
    )
    with empty_instance() as instance:
        result = definitions.resolve_job_def("monitor").execute_in_process(instance=instance)
    found = {check.check_name: check for check in result.get_asset_check_evaluations() if check.asset_key == key}
    volume, latency = found["volume_is_as_usual"], found["latency_is_as_usual"]
    assert (volume.passed, volume.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert volume.description is not None
    assert volume.description.startswith("Predictions per day: 1 on ")
    assert volume.metadata["predictions"].value == 1
    assert "data:image/png" in str(volume.metadata["plot of predictions"].value)
    assert (latency.passed, latency.severity) == (True, dg.AssetCheckSeverity.WARN)
    assert bench.tables.current("monitoring/model_days") is not None
