"""The jobs and the sensor of one model with a real ledger, and the results of their runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.approval.defs import (
    promotion_definitions,
    run_config,
)
from platform_assets.base.errors import RegistryError
from platform_assets.models.memory_registry import MemoryRegistry
from platform_assets.models.registry import CHAMPION
from platform_assets_tests.approval.proposals import MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dagster._core.definitions.sensor_definition import SensorExecutionData

    from platform_assets_tests.approval.promotions import Works

KEY = dg.AssetKey(["somewhere", MODEL])
REPORT = "it flags everybody"


class AwayRegistry(MemoryRegistry):
    """A registry that refuses writes while `away` is set."""

    away = False

    def set_tags(self, name: str, number: int, tags: Mapping[str, str]) -> None:
        if self.away:
            raise RegistryError("MLflow is unreachable")
        super().set_tags(name, number, tags)


class Office:
    """The Dagster definitions for one model, with their resources."""

    def __init__(self, works: Works, instance: dg.DagsterInstance) -> None:
        self.works = works
        self.instance = instance
        self.resources = {"ledger": works.ledger, "promoter": works.promoter}
        self.definitions = dg.Definitions.merge(
            promotion_definitions({MODEL: f"somewhere/{MODEL}"}),
            dg.Definitions(
                assets=[dg.AssetSpec(KEY)],
                executor=dg.in_process_executor,
                resources={
                    name: dg.ResourceDefinition.hardcoded_resource(value) for name, value in self.resources.items()
                },
            ),
        )

    def run(self, job: str, config: Any) -> dg.ExecuteInProcessResult:
        found = self.definitions.resolve_job_def(job)
        return found.execute_in_process(run_config=config, instance=self.instance, raise_on_error=False)

    def promote(self, number: int) -> dg.ExecuteInProcessResult:
        return self.run("promote_model", run_config(number))

    def decide(self, number: int, decision: str, **others: Any) -> dg.ExecuteInProcessResult:
        return self.run("decide", decided(number, decision, **others))

    def tick(self, cursor: str | None = None) -> SensorExecutionData:
        repository = self.definitions.get_repository_def()
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=cursor,
            resources={"ledger": self.works.ledger},
            repository_def=repository,
        )
        return repository.get_sensor_def("model_decided").evaluate_tick(context)

    def follow(self, data: SensorExecutionData) -> list[dg.ExecuteInProcessResult]:
        """Execute the run requests of the sensor; return the results."""
        return [self.run("promote_model", request.run_config) for request in data.run_requests or []]

    def check(self) -> dg.AssetCheckEvaluation:
        selection = dg.AssetSelection.checks(dg.AssetCheckKey(KEY, "registry_equals_ledger"))
        job = dg.Definitions.merge(
            self.definitions, dg.Definitions(jobs=[dg.define_asset_job("look", selection)])
        ).resolve_job_def("look")
        [evaluation] = job.execute_in_process(instance=self.instance).get_asset_check_evaluations()
        return evaluation

    def champion(self) -> int | None:
        found = self.works.registry.by_alias(MODEL, CHAMPION)
        return found.version if found else None

    def kinds(self, number: int) -> list[str]:
        return [event.kind for event in self.works.ledger.history(number)]


def decided(number: int, decision: str, **others: Any) -> dict[str, Any]:
    """Return the run configuration of the job `decide`."""
    config = {"request": number, "decision": decision, "reason": "better", "approver": "anna"} | others
    return {"ops": {"record_decision": {"config": config}}}


def keys(data: SensorExecutionData) -> list[str | None]:
    return [request.run_key for request in data.run_requests or []]


def states(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """Return the outcome of each op."""
    said = {"STEP_SUCCESS": "done", "STEP_FAILURE": "failed", "STEP_SKIPPED": "skipped"}
    return {
        str(event.step_key): said[event.event_type_value]
        for event in result.all_events
        if event.event_type_value in said
    }


def failure(result: dg.ExecuteInProcessResult) -> str:
    """Return the error message of a failed run."""
    [event] = [event for event in result.all_events if event.is_step_failure]
    assert event.step_failure_data.error is not None
    return event.step_failure_data.error.message


def observations(result: dg.ExecuteInProcessResult) -> list[dg.AssetObservation]:
    return [event.asset_observation_data.asset_observation for event in result.all_events if event.is_asset_observation]


def registry_goes(office: Office, *, away: bool) -> None:
    assert isinstance(office.works.registry, AwayRegistry)
    office.works.registry.away = away


def pending(works: Works) -> int:
    return works.ask(works.train("new")).id


def rolled_back(office: Office, **others: Any) -> dg.ExecuteInProcessResult:
    config = {"model": MODEL, "reason": REPORT, "approver": "carla"} | others
    return office.run("rollback_model", {"ops": {"roll_back": {"config": config}}})
