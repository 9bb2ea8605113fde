"""Dagster definitions of a model: materialisation, checks, jobs, sensor and schedule."""

from __future__ import annotations

import base64
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.definitions.assets.job.asset_job import IMPLICIT_ASSET_JOB_NAME
from sqlalchemy import make_url

from platform_assets.approval.requests import State
from platform_assets.database.connections import Database
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.assets import IO_MANAGER
from platform_assets.lake.delta_tables import MEMORY, TableStore
from platform_assets.models.artefact_store import ArtefactStore
from platform_assets.models.memory_registry import MemoryRegistry
from platform_assets.models.registry import CHALLENGER, CHAMPION
from platform_assets.operations.run_report import materialise_all
from platform_assets.training.assets import EVALUATION, LastTraining, launched_by, model_definitions, why_not
from platform_assets.training.model_spec import Candidate, Retraining
from platform_assets.training.trainer import Trainer
from platform_assets_tests.approval.proposals import prepared
from platform_assets_tests.instances import empty_instance
from platform_assets_tests.training.breakage_model import ONE_CANDIDATE, TABLE, linear, publish, readings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from platform_assets.approval.ledger import Ledger
    from platform_assets.training.model_spec import ModelSpec

KEY = dg.AssetKey(["somewhere", "breakage_model"])
NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
POLICY = Retraining(min_new_rows=100, cool_down=timedelta(hours=6))


class Workshop:
    """Definitions of a model, with stores in memory and in a temporary folder, and a ledger in PostgreSQL."""

    def __init__(self, folder: Path, ledger: Ledger, instance: dg.DagsterInstance) -> None:
        self.ledger = ledger
        self.engine = Engine(folder / "scratch")
        self.tables = TableStore(MEMORY, self.engine)
        self.registry = MemoryRegistry()
        self.instance = instance
        self._trainer = Trainer(self.tables, ArtefactStore(str(folder)), self.registry)
        self.definitions = self.defined(ONE_CANDIDATE)

    def defined(self, spec: ModelSpec) -> dg.Definitions:
        """Return the definitions of a model, with the workshop's stores as resources."""
        return dg.Definitions.merge(
            model_definitions(spec),
            dg.Definitions(
                executor=dg.in_process_executor,
                resources={
                    "trainer": dg.ResourceDefinition.hardcoded_resource(self._trainer),
                    "tables": dg.ResourceDefinition.hardcoded_resource(self.tables),
                    "ledger": dg.ResourceDefinition.hardcoded_resource(self.ledger),
                    IO_MANAGER: dg.mem_io_manager,
                },
            ),
        )

    def publish(self, frame: Any) -> None:
        publish(self.tables, self.engine, frame)

    def run(
        self, job: str, *, tags: dict[str, str] | None = None, definitions: dg.Definitions | None = None
    ) -> dg.ExecuteInProcessResult:
        found = (definitions or self.definitions).resolve_job_def(job)
        return found.execute_in_process(instance=self.instance, tags=tags, raise_on_error=False)

    def evaluate(self) -> dg.ExecuteInProcessResult:
        """Run the check that evaluates the newest version, as the job `evaluate_breakage_model` does."""
        every = self.definitions.resolve_implicit_global_asset_job_def()
        job = every.get_subset(asset_selection=set(), asset_check_selection={dg.AssetCheckKey(KEY, EVALUATION)})
        return job.execute_in_process(instance=self.instance, raise_on_error=False)

    def evaluate_sensor(self) -> dg.RunRequest | dg.SkipReason:
        sensor = self.definitions.get_repository_def().get_sensor_def("breakage_model_new_data")
        context = dg.build_sensor_context(
            instance=self.instance,
            resources={"tables": self.tables},
            repository_def=self.definitions.get_repository_def(),
        )
        data = sensor.evaluate_tick(context)
        return data.run_requests[0] if data.run_requests else dg.SkipReason(data.skip_message)


@pytest.fixture
def workshop(tmp_path: Path, database_url: str) -> Iterator[Workshop]:
    database = Database(make_url(database_url))
    with empty_instance() as instance:
        workshop = Workshop(tmp_path, prepared(database), instance)
        yield workshop
    workshop.engine.close()
    database.close()


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


@pytest.mark.requirement("PLT-1", "PRO-1", "PRO-2")
def test_a_materialisation_has_metadata_and_check_results(workshop: Workshop) -> None:
    workshop.publish(readings())
    result = workshop.run("train_breakage_model", tags={"dagster/schedule_name": "nightly"})
    assert result.success
    [materialisation] = result.asset_materializations_for_node("somewhere__breakage_model")
    metadata = materialisation.metadata
    assert metadata["verdict"].value == "passed"
    for plot in ("calibration", "roc", "precision_recall", "confusion", "importance", "scores"):
        text = str(metadata[f"plot_{plot}"].value)
        assert text.startswith(f"![{plot}.png](data:image/png;base64,")
        assert base64.b64decode(text.split(",")[1].rstrip(")")).startswith(b"\x89PNG")
    assert "| roc_auc" in str(metadata["metrics"].value)
    assert "95 % interval" in str(metadata["metrics"].value)
    assert "| north" in str(metadata["metrics_by_site"].value)
    assert "always the base rate" in str(metadata["leaderboard"].value)
    assert "Which device will break?" in str(metadata["card"].value)
    assert metadata["first_table_rows"].value == 1_200
    split = sum(int(str(metadata[f"{part}_rows"].value)) for part in ("training", "holdout", "left_out"))
    assert split == 1_200
    assert {name: check.passed for name, check in checks(result).items()} == {
        "roc_auc_is_at_least_0_7": True,
        "recall_is_at_least_0_5": True,
        "roc_auc_is_not_worse_than_champion": True,
    }
    target = checks(result)["roc_auc_is_at_least_0_7"].target_materialization_data
    assert target is not None
    assert target.run_id == result.run_id
    numbers = {name: value.value for name, value in checks(result)["roc_auc_is_at_least_0_7"].metadata.items()}
    assert set(numbers) == {"low", "value", "high"}
    assert numbers["value"] == metadata["roc_auc"].value
    assert checks(result)["roc_auc_is_not_worse_than_champion"].metadata == {}
    version = workshop.registry.by_alias("breakage_model", CHALLENGER)
    assert version is not None
    assert version.tags["launched_by"] == "schedule:nightly"
    assert metadata["digest"].value == version.digest


@pytest.mark.requirement("SEN-5")
def test_a_training_run_in_progress_does_not_delay_other_runs(workshop: Workshop) -> None:
    """The other run uses the same storage, tables, registry and ledger."""
    began, may_end = threading.Event(), threading.Event()

    def slow(seed: int) -> Any:
        began.set()
        assert may_end.wait(300)
        return linear(seed)

    workshop.publish(readings())
    assert workshop.run("train_breakage_model").success
    workshop.publish(readings(1_300))
    definitions = workshop.defined(replace(ONE_CANDIDATE, candidates=(Candidate("linear", slow),)))
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(workshop.run, "train_breakage_model", definitions=definitions)
        try:
            assert began.wait(120)
            assert workshop.evaluate().success
            assert [request.version for request in workshop.ledger.requests()] == [1]
            assert not training.done()
        finally:
            may_end.set()
        assert training.result().success
    assert workshop.registry.by_alias("breakage_model", CHALLENGER) != workshop.registry.version("breakage_model", 1)


@pytest.mark.requirement("PRO-3", "PRO-6")
def test_training_opens_one_request_which_a_newer_version_supersedes(workshop: Workshop) -> None:
    def said() -> list[str]:
        result = workshop.run("train_breakage_model")
        [materialisation] = result.asset_materializations_for_node("somewhere__breakage_model")
        return str(materialisation.metadata["approval"].value).split()

    def asked() -> list[tuple[int, int, State]]:
        return [(one.id, one.version, one.state) for one in workshop.ledger.requests()]

    workshop.publish(readings())
    assert {"request", "1"} <= {word.strip(",;:.()") for word in said()}
    assert asked() == [(1, 1, State.PENDING)]
    said()
    assert asked() == [(1, 1, State.PENDING)]
    workshop.publish(readings(1_400))
    said()
    assert asked() == [(2, 2, State.PENDING), (1, 1, State.SUPERSEDED)]
    assert workshop.ledger.request(2).launched_by == "user"
    assert workshop.registry.by_alias("breakage_model", CHAMPION) is None


@pytest.mark.requirement("PRO-2")
def test_a_failed_gate_fails_its_check_but_not_the_run(workshop: Workshop) -> None:
    workshop.publish(readings(signal=0.0))
    report = materialise_all(workshop.definitions, workshop.instance, lambda _: None)
    [outcome] = report.outcomes
    assert report.complete
    assert outcome.failed == ["roc_auc_is_at_least_0_7"]
    assert outcome.verdict.startswith("FAILED: ROC AUC is 0.")
    result = workshop.run("train_breakage_model")
    check = checks(result)["roc_auc_is_at_least_0_7"]
    assert (check.passed, check.blocking, check.severity) == (False, False, dg.AssetCheckSeverity.WARN)
    assert "required: at least 0.7" in str(check.description)


def test_the_search_for_the_best_candidate_reports_progress(workshop: Workshop) -> None:
    workshop.publish(readings())
    lines: list[str] = []
    materialise_all(workshop.definitions, workshop.instance, lambda _: None, lines.append)
    assert [line.split(" ")[0] for line in lines if "linear (as it is): roc_auc" in line] == ["1"]


def test_a_missing_table_fails_the_step_with_a_one_line_message(workshop: Workshop) -> None:
    result = workshop.run("train_breakage_model")
    assert not result.success
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert failure.step_failure_data.error is not None
    assert failure.step_failure_data.error.message.endswith(
        "table somewhere/readings does not exist yet; materialise the asset first\n"
    )


@pytest.mark.requirement("PLT-2", "CRE-3")
@pytest.mark.parametrize(
    ("rows", "last", "reason"),
    [
        (100, None, None),
        (99, None, "99 new rows; 100 are required"),
        (600, LastTraining(NOW - timedelta(hours=7), 500), None),
        (599, LastTraining(NOW - timedelta(hours=7), 500), "99 new rows; 100 are required"),
        (400, LastTraining(NOW - timedelta(days=7), 500), "-100 new rows; 100 are required"),
        (900, LastTraining(NOW - timedelta(hours=6), 500), None),
        (
            900,
            LastTraining(NOW - timedelta(hours=5, minutes=59), 500),
            "last trained 2026-01-02 06:01 UTC; the cool-down is 6:00:00 (h:mm:ss)",
        ),
    ],
)
def test_the_reason_why_no_training_run_is_due_is_returned(
    rows: int, last: LastTraining | None, reason: str | None
) -> None:
    assert why_not(POLICY, rows, last, NOW) == reason


@pytest.mark.requirement("PLT-2", "CRE-3")
def test_the_sensor_launches_training_when_the_first_table_has_enough_new_rows(workshop: Workshop) -> None:
    assert workshop.evaluate_sensor() == dg.SkipReason(f"table {TABLE} does not exist yet")
    workshop.publish(readings(1_200))
    request = workshop.evaluate_sensor()
    assert isinstance(request, dg.RunRequest)
    assert request.run_key == f"{TABLE} version 0"
    workshop.run("train_breakage_model", tags={"dagster/sensor_name": "breakage_model_new_data"})
    version = workshop.registry.by_alias("breakage_model", CHALLENGER)
    assert version is not None
    assert version.tags["launched_by"] == "sensor:breakage_model_new_data"
    assert workshop.evaluate_sensor() == dg.SkipReason("0 new rows; 1,000 are required")
    workshop.publish(readings(2_200))
    skipped = workshop.evaluate_sensor()
    assert isinstance(skipped, dg.SkipReason)
    assert str(skipped.skip_message).startswith("last trained 20")


@pytest.mark.parametrize(
    ("job", "selection"), [("train_breakage_model", None), (IMPLICIT_ASSET_JOB_NAME, frozenset({KEY}))]
)
def test_the_sensor_skips_while_a_run_is_training_the_model(
    workshop: Workshop, job: str, selection: frozenset[dg.AssetKey] | None
) -> None:
    workshop.publish(readings())
    run = workshop.instance.create_run_for_job(
        job_def=workshop.definitions.resolve_job_def(job),
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=selection,
    )
    assert workshop.evaluate_sensor() == dg.SkipReason(f"run {run.run_id} is already training the model")


def test_the_sensor_ignores_other_runs(workshop: Workshop) -> None:
    workshop.publish(readings())
    evaluation = workshop.definitions.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=set(), asset_check_selection={dg.AssetCheckKey(KEY, EVALUATION)}
    )
    workshop.instance.create_run_for_job(job_def=evaluation, status=dg.DagsterRunStatus.STARTED)
    assert isinstance(workshop.evaluate_sensor(), dg.RunRequest)


@pytest.mark.requirement("PLT-2", "CRE-3")
def test_the_nightly_schedule_launches_training(workshop: Workshop) -> None:
    schedule = workshop.definitions.get_repository_def().get_schedule_def("train_breakage_model_nightly")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 2 * * *", "UTC")
    context = dg.build_schedule_context(instance=workshop.instance, scheduled_execution_time=NOW)
    [request] = schedule.evaluate_tick(context).run_requests or []
    assert request.job_name in {None, "train_breakage_model"}
    assert schedule.job_name == "train_breakage_model"


def test_the_training_job_refreshes_the_tables_and_their_downstream_assets(workshop: Workshop) -> None:
    @dg.asset(key=["somewhere", "readings"])
    def table() -> None:
        """Readings."""

    @dg.asset(key=["somewhere", "newest"], deps=[table])
    def online() -> None:
        """Newest readings."""

    job = dg.Definitions.merge(dg.Definitions(assets=[table, online]), workshop.definitions).resolve_job_def(
        "train_breakage_model"
    )
    assert job.asset_layer.executable_asset_keys == {
        KEY,
        dg.AssetKey(["somewhere", "readings"]),
        dg.AssetKey(["somewhere", "newest"]),
    }


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, "user"),
        ({"dagster/schedule_name": "nightly"}, "schedule:nightly"),
        ({"dagster/sensor_name": "new_data"}, "sensor:new_data"),
        ({"dagster/sensor_name": ""}, "user"),
    ],
)
def test_the_launcher_of_a_run_is_read_from_its_tags(tags: dict[str, str], expected: str) -> None:
    assert launched_by(tags) == expected
