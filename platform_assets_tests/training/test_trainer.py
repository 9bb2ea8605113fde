"""The trainer: registration, comparison with the champion, evaluation and reproduction."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from platform_assets.base.errors import RegistryError, TableError, TrainingError
from platform_assets.base.provenance import code_version, git_commit
from platform_assets.evaluation.costs import Costs
from platform_assets.evaluation.gate import Criterion
from platform_assets.evaluation.split_rules import GroupSplit, StratifiedSplit
from platform_assets.evaluation.splits import Holdout, in_holdout
from platform_assets.evaluation.thresholds import reaching_recall
from platform_assets.models.memory_registry import MemoryRegistry
from platform_assets.models.registry import CHALLENGER, CHAMPION
from platform_assets.training.binary_classification import FEWEST_OF_A_CLASS, REFERENCE, BinaryClassification
from platform_assets.training.explanations import decision_surface
from platform_assets.training.fitting import labels_of
from platform_assets.training.metadata import of_check
from platform_assets.training.model_spec import Candidate
from platform_assets.training.trainer import Trainer
from platform_assets_tests.training.bench import Bench, opened
from platform_assets_tests.training.breakage_model import ONE_CANDIDATE, SPEC, TABLE, forest, linear, readings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from platform_assets.models.registry import ModelVersion, Registration
    from platform_assets.training.training_results import Training


@dataclass(frozen=True)
class Trained:
    """A bench and its first training run. Tests share the bench, so they must not change it."""

    bench: Bench
    first: Training


@pytest.fixture(scope="module")
def of_one_candidate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    with opened(tmp_path_factory.mktemp("of_one_candidate")) as bench:
        yield Trained(bench, bench.train())


@pytest.fixture(scope="module")
def of_several_candidates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    with opened(tmp_path_factory.mktemp("of_several_candidates")) as bench:
        yield Trained(bench, bench.train(SPEC, "schedule:nightly"))


@pytest.fixture
def first(bench: Bench, of_one_candidate: Trained) -> Training:
    """First training run of the model with one candidate, copied to the bench of this test."""
    bench.take_over(of_one_candidate.bench)
    return of_one_candidate.first


@pytest.fixture
def first_of_several(bench: Bench, of_several_candidates: Trained) -> Training:
    """First training run of the model with several candidates, copied to the bench of this test."""
    bench.take_over(of_several_candidates.bench)
    return of_several_candidates.first


@pytest.mark.requirement("PRO-1", "PLT-7")
def test_training_registers_a_challenger_with_its_provenance(of_several_candidates: Trained) -> None:
    bench, training = of_several_candidates.bench, of_several_candidates.first
    version = bench.registry.by_alias("breakage_model", CHALLENGER)
    table = bench.tables.current(TABLE)
    assert table is not None
    assert version == training.version
    assert version.tables == {TABLE: table.version}
    assert version.table_digests == {TABLE: table.digest}
    assert version.tags["launched_by"] == "schedule:nightly"
    assert version.tags["code_version"] == code_version()
    assert version.tags.get("git_commit", "") == git_commit()
    assert len(version.tags["lock_digest"]) == 64
    assert version.parameters["candidate"] == "linear"
    assert version.metrics["roc_auc_low"] < version.metrics["roc_auc"] < version.metrics["roc_auc_high"]
    assert bench.artefacts.load(version.digest).features == ("heat", "noise")
    assert bench.registry.by_alias("breakage_model", CHAMPION) is None


@pytest.mark.requirement("PLT-7", "PLT-14")
def test_the_metrics_of_a_classifier_equal_those_of_earlier_releases(of_several_candidates: Trained) -> None:
    # The numbers come from a release before regression was added. Only the last bits may differ between processors.
    training = of_several_candidates.first
    expected = {
        "roc_auc": 0.7386956521739131,
        "roc_auc_low": 0.6374307727835744,
        "roc_auc_high": 0.8280926795250744,
        "average_precision": 0.459096205085104,
        "brier": 0.17775866704194862,
        "calibration_error": 0.14713134910787212,
        "recall": 0.64,
        "f2": 0.5517241379310345,
    }
    assert {name: training.version.metrics[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert training.version.threshold == pytest.approx(0.2757520367529436, rel=1e-9)
    best = training.record["leaderboard"][0]
    assert (best["mean"], best["metrics"]["brier"]) == pytest.approx((0.8403423896791832, 0.1363273140363542), rel=1e-9)
    # Versions of earlier releases have this digest. Another digest would mean that the declaration has changed.
    digest = "5052eecaf431026e0fa594b2b68bb977eb336532448985a56f29614abf104d8c"
    assert training.version.tags["parameters_digest"] == digest


def test_the_leaderboard_has_all_hyperparameters_and_the_baseline(
    of_several_candidates: Trained,
) -> None:
    bench, training = of_several_candidates.bench, of_several_candidates.first
    lines = training.record["leaderboard"]
    assert sorted((line["candidate"], str(line["parameters"])) for line in lines) == [
        (REFERENCE, "{}"),
        ("forest", "{}"),
        ("linear", "{'logisticregression__C': '0.1'}"),
        ("linear", "{'logisticregression__C': '1.0'}"),
    ]
    assert [line["mean"] for line in lines] == sorted((line["mean"] for line in lines), reverse=True)
    assert [line["mean"] for line in lines if line["candidate"] == REFERENCE] == [0.5]
    assert [line.split(":")[0] for line in bench.lines if " of 3" in line] == ["1 of 3", "2 of 3", "3 of 3"]


@pytest.mark.requirement("PLT-7")
def test_training_with_unchanged_inputs_registers_no_new_version(bench: Bench, first: Training) -> None:
    again = bench.train()
    assert (again.version, again.is_new) == (first.version, False)
    assert again.assessment.estimates == first.assessment.estimates
    assert [version.version for version in bench.registry.versions("breakage_model")] == [1]
    assert bench.artefacts.digests() == [first.version.digest]


@pytest.mark.requirement("PRO-1")
@pytest.mark.usefixtures("first")
def test_the_challenger_is_the_version_of_the_newest_training_run(bench: Bench) -> None:
    bench.publish(readings(1_300))
    bench.train()
    bench.publish(readings())
    back = bench.train()
    assert (back.version.version, back.is_new) == (1, False)
    assert bench.registry.by_alias("breakage_model", CHALLENGER) == back.version


@pytest.mark.requirement("PLT-7")
@pytest.mark.parametrize("damage", ["removed", "altered"])
def test_a_known_version_with_an_unusable_artefact_is_retrained(
    bench: Bench, first: Training, tmp_path: Path, damage: str
) -> None:
    file = tmp_path / "models" / f"{first.version.digest}.skops"
    if damage == "removed":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    second = bench.train()
    assert (second.version.version, second.is_new) == (2, True)
    assert any("version 1 is unusable and will be retrained: the model file" in line for line in bench.lines)
    third = bench.train()
    assert (third.version, third.is_new) == (second.version, False)
    assert bench.registry.by_alias("breakage_model", CHALLENGER) == second.version


class Slow(MemoryRegistry):
    """A registry in which another trainer registers the same training run first."""

    other: Trainer | None = None

    def register(self, registration: Registration) -> ModelVersion:
        if self.other:
            other, self.other = self.other, None
            other.train(ONE_CANDIDATE, "somebody else", lambda _: None)
        return super().register(registration)


def test_the_second_of_two_concurrent_training_runs_returns_the_version_of_the_first(bench: Bench) -> None:
    registry = Slow()
    registry.other = trainer = Trainer(bench.tables, bench.artefacts, registry)
    training = trainer.train(ONE_CANDIDATE, "user", bench.lines.append)
    assert (training.version.version, training.is_new) == (1, False)
    assert training.version.tags["launched_by"] == "somebody else"
    assert len(registry.versions("breakage_model")) == 1


@pytest.mark.requirement("PRO-2")
def test_the_holdout_does_not_influence_the_model(bench: Bench, first_of_several: Training) -> None:
    frame = readings()
    rows = bench.tables.read(TABLE)
    parts = SPEC.split.split(rows, labels_of(SPEC, rows))
    held_out = frame["reading"].isin(rows["reading"].iloc[parts.holdout])
    assert held_out.sum() > 50
    before = first_of_several
    bench.publish(frame.assign(broken=np.where(held_out, 1 - frame["broken"], frame["broken"])))
    after = bench.train(SPEC)
    assert after.is_new
    assert after.version.threshold == before.version.threshold
    assert [line["mean"] for line in after.record["leaderboard"]] == [
        line["mean"] for line in before.record["leaderboard"]
    ]
    old, new = (bench.artefacts.load(training.version.digest) for training in (before, after))
    assert np.array_equal(old.scores(frame), new.scores(frame))
    assert after.version.metrics["roc_auc"] == pytest.approx(1 - before.version.metrics["roc_auc"])


@pytest.mark.requirement("PRO-2")
def test_a_challenger_is_compared_with_the_champion(bench: Bench) -> None:
    bench.publish(readings(signal=0.0))
    useless = bench.train()
    bench.registry.set_alias("breakage_model", CHAMPION, useless.version.version)
    bench.publish(readings())
    better = bench.train()
    assert better.champion == useless.version
    assert better.assessment.difference is not None
    assert better.assessment.difference["roc_auc"].low > 0.1
    assert better.assessment.verdict.passed


def test_the_champion_is_not_compared_with_itself(bench: Bench, first: Training) -> None:
    bench.registry.set_alias("breakage_model", CHAMPION, first.version.version)
    again = bench.train()
    assert again.champion == first.version
    assert again.assessment.difference is None
    assert again.assessment.verdict.reasons[-1].told == "this version is the champion"


@pytest.mark.requirement("PRO-2")
@pytest.mark.parametrize(
    "then",
    [
        GroupSplit("device", "day", Holdout(groups=0.1, newest=0.4)),
        GroupSplit("site", "day", Holdout(groups=0.3, newest=0.4)),
    ],
)
def test_a_champion_that_may_have_been_trained_on_the_holdout_is_not_compared(bench: Bench, then: GroupSplit) -> None:
    if then.group == "site":
        bench.publish(readings().assign(site=lambda rows: rows["device"] % 40))
    champion = bench.train(replace(ONE_CANDIDATE, split=then, folds=2))
    bench.registry.set_alias("breakage_model", CHAMPION, champion.version.version)
    reason = bench.train().assessment.verdict.reasons[-1]
    assert not reason.passed
    assert "it may have been trained on held-out examples" in reason.told


@pytest.mark.requirement("PRO-2")
def test_a_version_that_fails_the_gate_is_registered_with_the_reasons(
    bench: Bench,
) -> None:
    bench.publish(readings(signal=0.0))
    training = bench.train()
    verdict = training.assessment.verdict
    assert not verdict.passed
    [reason] = [reason for reason in verdict.reasons if not reason.passed]
    assert reason.name == "roc_auc_is_at_least_0_7"
    assert "required: at least 0.7" in reason.told
    assert training.version.tags["verdict"] == "failed"
    assert "**FAILED.**\n- ROC AUC is" in training.record["card"]
    assert "no better than chance (0.5)" in reason.told


def test_the_comparison_fails_if_the_champion_cannot_be_loaded(bench: Bench, first: Training, tmp_path: Path) -> None:
    bench.registry.set_alias("breakage_model", CHAMPION, first.version.version)
    (tmp_path / "models" / f"{first.version.digest}.skops").unlink()
    bench.publish(readings(1_300))
    verdict = bench.train().assessment.verdict
    assert not verdict.passed
    assert verdict.reasons[-1].name == "roc_auc_is_not_worse_than_champion"
    assert "champion, version 1: the model file" in verdict.reasons[-1].told


@pytest.mark.requirement("PLT-7")
def test_a_version_is_reproduced_from_its_recorded_table_versions(bench: Bench, first_of_several: Training) -> None:
    bench.publish(readings(1_500, seed=2))
    bench.train(SPEC)
    found = bench.trainer.reproduce(SPEC, 1, bench.lines.append)
    assert found.same
    assert found.largest_difference == 0
    assert found.rows == first_of_several.record["split"]["holdout_rows"]
    assert {then == now for then, now in found.metrics.values()} == {True}
    assert found.told()[-1] == "breakage_model version 1 is reproduced"


@pytest.mark.requirement("PLT-7")
@pytest.mark.usefixtures("first")
def test_reproduce_reports_the_differences_if_the_retrained_model_is_not_identical(bench: Bench) -> None:
    other = replace(SPEC, candidates=(Candidate("forest", forest),))
    found = bench.trainer.reproduce(other, 1, bench.lines.append)
    assert not found.same
    assert "roc_auc" in found.other_metrics
    assert found.told()[-1] == "breakage_model version 1 is NOT reproduced"
    assert any(" holdout metrics: " in line and "roc_auc: was " in line for line in found.told())


def test_versions_that_cannot_be_reproduced_are_refused(bench: Bench) -> None:
    with pytest.raises(RegistryError, match="breakage_model"):
        bench.trainer.reproduce(SPEC, 1, bench.lines.append)
    bench.train()
    other = Bench(bench.engine.folder("other"))
    other.registry = bench.registry
    other.publish(readings(seed=3))
    with pytest.raises(TrainingError, match="The table was replaced"):
        Trainer(other.tables, bench.artefacts, bench.registry).reproduce(SPEC, 1, bench.lines.append)
    other.engine.close()


@pytest.mark.requirement("CRE-3")
def test_the_champion_is_evaluated_on_examples_labelled_since_its_training(bench: Bench, first: Training) -> None:
    bench.registry.set_alias("breakage_model", CHAMPION, 1)
    old = readings()
    bench.publish(pd.concat([old, readings(300, first=10_000)]))
    second = bench.train()
    assert second.version.version == 2
    evaluation = bench.trainer.evaluate(SPEC)
    assert evaluation.version == first.version
    assert evaluation.examples == "300 examples labelled since the version was trained"
    assert evaluation.assessment.estimates["rows"].value == 300
    assert evaluation.assessment.difference is None
    assert [reason.name for reason in evaluation.assessment.verdict.reasons] == [
        "roc_auc_is_at_least_0_7",
        "recall_is_at_least_0_5",
    ]
    fresh = readings(300, first=10_000)
    strangers = in_holdout(fresh["device"], 0.3) | ~fresh["device"].isin(old["device"])
    groups = evaluation.assessment.subgroups["groups"]
    assert groups["never seen"]["rows"].value == strangers.sum()
    assert groups["seen in training"]["rows"].value == 300 - strangers.sum()


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize(("rows", "labels"), [(3, {}), (0, {}), (50, {"broken": 0}), (50, {"broken": 1})])
def test_the_holdout_is_evaluated_if_there_are_few_new_labels(bench: Bench, rows: int, labels: dict[str, int]) -> None:
    bench.publish(pd.concat([readings(), readings(rows, first=10_000).assign(**labels)]))
    told = bench.trainer.evaluate(SPEC).examples
    assert f"because only {rows} were labelled since the version was trained (" in told
    assert f"{FEWEST_OF_A_CLASS} of each class are required" in told


@pytest.mark.usefixtures("first")
def test_the_newest_version_is_evaluated_if_there_is_no_champion(bench: Bench) -> None:
    bench.publish(readings(1_300))
    newest = bench.train()
    assert bench.trainer.evaluate(SPEC).version == newest.version


def test_errors_name_the_missing_table_and_the_model_without_a_version(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(TableError, match="table somewhere/readings does not exist yet"):
        bench.train()
    with pytest.raises(TrainingError, match="somewhere/breakage_model has no version yet"):
        bench.trainer.evaluate(SPEC)
    bench.engine.close()


def test_the_order_of_rows_does_not_change_the_model(bench: Bench, first_of_several: Training) -> None:
    bench.publish(readings().sample(frac=1, random_state=1))
    assert bench.train(SPEC).version == first_of_several.version


def test_hyperparameters_of_numpy_types_are_recorded_as_text(bench: Bench) -> None:
    def features(seed: int) -> Any:
        return linear(seed)

    grid: dict[str, Any] = {"logisticregression__C": np.array([0.5]), "logisticregression__tol": (np.float64(1e-4),)}
    training = bench.train(replace(SPEC, candidates=(Candidate("linear", features, grid),)))
    assert training.record["leaderboard"][0]["parameters"] == {
        "logisticregression__C": "0.5",
        "logisticregression__tol": "0.0001",
    }


STRATIFIED = replace(
    ONE_CANDIDATE,
    split=StratifiedSplit("reading", share=0.3),
    criteria=(Criterion("recall", at_least=0.3, lower_bound=True),),
    task=BinaryClassification("broken", reaching_recall(0.8), Costs(20, why="The owner said so.")),
    learning_curve=(50, 100, 5_000),
    explanations=(decision_surface,),
)


@pytest.mark.requirement("SEN-2", "SEN-4", "SEN-7", "PLT-11")
def test_training_with_a_stratified_split_records_the_learning_curve_and_the_costs_and_the_split(bench: Bench) -> None:
    bench.publish(readings())
    training = bench.train(STRATIFIED)
    record, labels = training.record, readings()["broken"]
    held = {label: round(0.3 * int((labels == label).sum())) for label in (0, 1)}
    assert record["split"]["holdout_rows"] == sum(held.values())
    assert training.assessment.estimates["positives"].value == held[1]
    assert training.version.parameters["holdout_seed"] == str(StratifiedSplit("reading").seed)
    assert "30% of each class, other values of reading" in record["card"]
    assert record["costs"]["missed"] == 20
    assert "Assumption: a missed positive costs as much as 20 false alarms. The owner said so." in record["card"]
    points = record["learning_curve"]["points"]
    # The learning curve has no point for 5,000 examples, because the table is smaller.
    assert [(point["candidate"], point["examples"]) for point in points] == [("linear", 50), ("linear", 100)]
    assert all(point["fit_seconds"] > 0 and 0.5 < point["mean"] < 1 for point in points)
    assert set(record["decision_surface"]["ranges"]) == {"heat", "noise"}
    drawn = {"costs.png", "decision_surface.png", "learning_curve.png", "fit_times.png"}
    assert drawn < set(training.plots)
    found = of_check(training.assessment, STRATIFIED.criteria[0])
    assert found["lower_bound"] < found["value"]
    # A second training run finds the existing version and evaluates it again, with the same plots.
    again = bench.train(STRATIFIED)
    assert not again.is_new
    assert again.plots["learning_curve.png"] == training.plots["learning_curve.png"]


@pytest.mark.requirement("SEN-2", "PRO-2")
def test_the_comparison_uses_only_examples_that_the_champion_was_not_trained_on(bench: Bench) -> None:
    bench.publish(readings())
    champion = bench.train(STRATIFIED)
    bench.registry.set_alias("breakage_model", CHAMPION, champion.version.version)
    bench.publish(pd.concat([readings(), readings(300, first=5_000)], ignore_index=True))
    training = bench.train(STRATIFIED)
    told = training.assessment.verdict.reasons[-1].told
    assert "ROC AUC differs from the champion's by" in told
    held = len(training.assessment.judged.labels)
    compared = int(told.split("compared on the ")[1].split(" of ")[0])
    assert 0.85 * held < compared < held
    assert told.endswith(f"{compared} of {held} held-out examples that the champion was not trained on")
    evaluation = bench.trainer.evaluate(STRATIFIED)
    assert "labelled since the version was trained" in evaluation.examples


@pytest.mark.requirement("SEN-3")
def test_the_leaderboard_has_metrics_times_and_sizes(of_several_candidates: Trained) -> None:
    for line in of_several_candidates.first.record["leaderboard"]:
        assert set(line["metrics"]) == {"recall", "precision", "f2", "roc_auc", "average_precision", "brier"}
        assert 0 < line["fit_seconds"] < line["seconds"] + 1
        assert line["microseconds_per_row"] > 0
        if line["candidate"] != REFERENCE:
            # The metrics are pooled over the folds, not averaged.
            assert line["metrics"]["roc_auc"] == pytest.approx(line["mean"], abs=0.03)
            assert line["artefact_bytes"] > 500


@pytest.mark.requirement("PLT-7")
def test_a_version_of_a_release_with_fewer_metrics_can_be_reproduced(bench: Bench, first: Training) -> None:
    version = first.version.version
    record = bench.registry.record("breakage_model", version)
    fewer = {name: one for name, one in record["metrics"].items() if name not in {"f2", "false_positive_rate"}}
    bench.registry._records["breakage_model", version] = json.dumps({**record, "metrics": fewer})
    found = bench.trainer.reproduce(ONE_CANDIDATE, version, bench.lines.append)
    assert found.same
    assert "recall" in found.metrics
    assert "f2" not in found.metrics
