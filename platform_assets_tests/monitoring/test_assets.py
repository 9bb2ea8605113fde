"""The job that evaluates a model on newly labelled examples and on labelled predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import numpy as np
import pytest
from sqlalchemy import make_url

from platform_assets.database.connections import Database
from platform_assets.models.registry import CHAMPION
from platform_assets.monitoring.assets import REAL_PERFORMANCE, evaluation_job, real_performance_check
from platform_assets.monitoring.label_store import Labels
from platform_assets.training.assets import EVALUATION
from platform_assets_tests.approval.proposals import prepared, promote
from platform_assets_tests.instances import empty_instance
from platform_assets_tests.monitoring.label_history import LATER, MODEL, of_subject, predicted
from platform_assets_tests.training.breakage_model import ONE_CANDIDATE, readings
from platform_assets_tests.training.test_assets import Workshop, checks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JOB = f"evaluate_{MODEL}"


class Office(Workshop):
    """A workshop with labels and the definitions of the package `monitoring`."""

    def __init__(self, folder: Path, database: Database, instance: dg.DagsterInstance) -> None:
        super().__init__(folder, prepared(database), instance)
        self.database = database
        self.labels = Labels(database.pooled)
        self.definitions = dg.Definitions.merge(
            self.definitions,
            dg.Definitions(
                asset_checks=[real_performance_check(ONE_CANDIDATE)],
                jobs=[evaluation_job(ONE_CANDIDATE)],
                resources={"labels": dg.ResourceDefinition.hardcoded_resource(self.labels)},
            ),
        )

    def evaluated(self) -> dict[str, dg.AssetCheckEvaluation]:
        """Run the job and return the results of its checks, by name."""
        result = self.run(JOB)
        assert result.success
        assert not result.get_asset_materialization_events()
        return checks(result)


@pytest.fixture
def office(tmp_path: Path, database_url: str) -> Iterator[Office]:
    database = Database(make_url(database_url))
    with empty_instance() as instance:
        office = Office(tmp_path, database, instance)
        yield office
    office.engine.close()
    database.close()


@pytest.mark.requirement("CRE-3", "SEN-5")
def test_the_job_evaluates_new_examples_and_registers_no_version(office: Office) -> None:
    office.publish(readings())
    office.run(f"train_{MODEL}")
    office.registry.set_alias(MODEL, CHAMPION, 1)
    office.publish(readings(1_400))
    found = office.evaluated()
    assert set(found) == {EVALUATION, REAL_PERFORMANCE}
    check = found[EVALUATION]
    assert (check.passed, check.severity) == (True, dg.AssetCheckSeverity.WARN)
    assert check.metadata["model_version"].value == 1
    assert check.metadata["examples"].value == "200 examples labelled since the version was trained"
    assert len(office.registry.versions(MODEL)) == 1
    assert (found[REAL_PERFORMANCE].passed, found[REAL_PERFORMANCE].description) == (True, "there is no champion yet")


@pytest.mark.requirement("MON-5", "SEN-5")
def test_the_job_evaluates_the_champion_on_its_own_labelled_predictions(office: Office) -> None:
    office.publish(readings())
    office.run(f"train_{MODEL}")
    approval = promote(office.ledger, 1, model=MODEL, threshold=0.5)
    devices = [f"device-{number}" for number in range(200)]
    random = np.random.default_rng(1)
    scores = random.random(200)
    of_champion = {"version": 1, "approval_id": approval}
    predicted(office.database, "r-1", devices, scores=scores.tolist(), **of_champion)

    def label(signal: bool, first: int) -> None:
        truth = scores > random.random(200) if signal else scores < random.random(200)
        labels = [of_subject(device, float(broken)) for device, broken in zip(devices, truth, strict=True)]
        office.labels.store(ONE_CANDIDATE, labels[first : first + 100], "")

    assert str(office.evaluated()[REAL_PERFORMANCE].description).startswith("not enough labels")
    label(signal=True, first=0)
    good = office.evaluated()[REAL_PERFORMANCE]
    assert good.passed
    assert good.metadata["labelled_share"].value == 0.5
    assert str(good.description).startswith("100 of 200 predictions of version 1 have a label (50.0%;")
    # The labels of the other half of the devices contradict the predictions.
    label(signal=False, first=100)
    bad = office.evaluated()[REAL_PERFORMANCE]
    assert (bad.passed, bad.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "required: at least 0.7" in str(bad.description)
    # A new champion has no predictions yet.
    promote(office.ledger, 2, model=MODEL, threshold=0.5)
    office.labels.store(ONE_CANDIDATE, [of_subject("device-1", 0, LATER.replace(hour=20))], "")
    after = office.evaluated()[REAL_PERFORMANCE]
    assert after.passed
    assert "0 of 0 predictions of version 2" in str(after.description)


def test_training_does_not_evaluate_the_champion_on_new_examples(office: Office) -> None:
    office.publish(readings())
    assert EVALUATION not in checks(office.run(f"train_{MODEL}"))
