"""A platform of a test's own: trains, promotes and follows decisions as Dagster does, on PostgreSQL and MLflow."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from platform_assets import definitions
from platform_assets.approval.defs import REQUEST_TAG
from platform_assets.models.registry import CHAMPION
from platform_assets.services import open_services
from platform_assets.settings import load_settings
from platform_assets_tests.command_line import Done, platform_assets
from platform_assets_tests.instances import empty_instance

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlflow import MlflowClient

    from platform_assets.approval.requests import Request
    from platform_assets.training.model_spec import ModelSpec


class Platform:
    """A platform of its own, and what Dagster does on it.

    Parameters
    ----------
    spec
        The model that it is about.
    instance
        Dagster's.
    """

    def __init__(self, spec: ModelSpec, instance: dg.DagsterInstance) -> None:
        self.spec = spec
        self.services = open_services(load_settings())
        self.instance = instance
        self.definitions = definitions.defs()
        self.cursors: dict[str, str | None] = {}

    def command(self, *arguments: str, **variables: str) -> Done:
        """What `platform-assets` says."""
        return platform_assets(*arguments, **variables)

    def train(self, **variables: str) -> Request:
        """Run the training job in this environment; the request that came of it."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            result = self.run(f"train_{self.spec.name}")
        assert result.success
        return self.services.ledger.requests(self.spec.name)[0]

    def promote(self, number: int) -> dg.ExecuteInProcessResult:
        """Launch the promotion of a request, as anybody can."""
        return self.run("promote_model", run_config={"ops": {"load_request": {"config": {"request": number}}}})

    def follow_decisions(self) -> list[tuple[str, list[str]]]:
        """Do what the sensor asks for: of each run, the request and the ops that ran."""
        ran = []
        for wanted in self.evaluate("model_decided", ledger=self.services.ledger):
            result = self.run("promote_model", run_config=wanted.run_config, tags=wanted.tags)
            assert result.success
            steps = [event.step_key for event in result.all_events if event.is_step_success and event.step_key]
            ran.append((wanted.tags[REQUEST_TAG], steps))
        return ran

    def evaluate(self, sensor: str, **resources: Any) -> Sequence[dg.RunRequest]:
        """The runs that a sensor asks for, looking once more."""
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursors.get(sensor), resources=resources)
        tick = self.definitions.get_repository_def().get_sensor_def(sensor).evaluate_tick(context)
        self.cursors[sensor] = tick.cursor
        return tick.run_requests or ()

    def registry_equals_ledger(self) -> bool:
        """What the check says."""
        check = dg.AssetCheckKey(dg.AssetKey(self.spec.key.split("/")), "registry_equals_ledger")
        job = self.definitions.resolve_implicit_global_asset_job_def()
        result = self.execute(job.get_subset(asset_selection=set(), asset_check_selection={check}))
        [found] = result.get_asset_check_evaluations()
        return found.passed

    def champion(self) -> int | None:
        """The version to which MLflow's alias points."""
        aliases = self.mlflow().get_registered_model(self.spec.name).aliases
        return int(aliases[CHAMPION]) if CHAMPION in aliases else None

    def mlflow(self) -> MlflowClient:
        """MLflow itself, past the platform."""
        from mlflow import MlflowClient

        uri = self.services.mlflow_tracking_uri
        return MlflowClient(uri, uri)

    def run(self, job: str, **options: Any) -> dg.ExecuteInProcessResult:
        """Execute a job by its name."""
        return self.execute(self.definitions.resolve_job_def(job), **options)

    def execute(self, job: dg.JobDefinition, **options: Any) -> dg.ExecuteInProcessResult:
        """Execute a job, in a thread of its own: the browser's event loop holds this one, and Dagster needs one too."""

        def work() -> dg.ExecuteInProcessResult:
            return job.execute_in_process(instance=self.instance, raise_on_error=False, **options)

        with _services(), ThreadPoolExecutor(1) as thread:
            return thread.submit(work).result()


@contextmanager
def _services() -> Iterator[None]:
    """Of this process, as the environment says now."""
    definitions.services.cache_clear()
    try:
        yield
    finally:
        definitions.services().close()
        definitions.services.cache_clear()


@contextmanager
def platform_of(spec: ModelSpec) -> Iterator[Platform]:
    """The platform that the environment describes."""
    # Its history is proven elsewhere; the decisions' is in the ledger.
    with empty_instance() as instance:
        platform = Platform(spec, instance)
        yield platform
        platform.services.close()
