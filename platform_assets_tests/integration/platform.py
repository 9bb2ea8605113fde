"""A platform for one test, with real PostgreSQL and MLflow. It executes the runs that Dagster's daemon would launch."""

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
    """A platform with the settings of the environment, and methods that execute Dagster runs on it.

    Parameters
    ----------
    spec
        The model under test.
    instance
        Dagster's instance.
    """

    def __init__(self, spec: ModelSpec, instance: dg.DagsterInstance) -> None:
        self.spec = spec
        self.services = open_services(load_settings())
        self.instance = instance
        self.definitions = definitions.defs()
        self.cursors: dict[str, str | None] = {}

    def command(self, *arguments: str, **variables: str) -> Done:
        """Run a command of `platform-assets`."""
        return platform_assets(*arguments, **variables)

    def train(self, **variables: str) -> Request:
        """Run the training job with additional environment variables; return the model's newest approval request."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            result = self.run(f"train_{self.spec.name}")
        assert result.success
        return self.services.ledger.requests(self.spec.name)[0]

    def promote(self, number: int) -> dg.ExecuteInProcessResult:
        """Run the job `promote_model` for a request."""
        return self.run("promote_model", run_config={"ops": {"load_request": {"config": {"request": number}}}})

    def follow_decisions(self) -> list[tuple[str, list[str]]]:
        """Execute the runs that the sensor `model_decided` requests.

        Return, for each run, the number of the approval request and the names of the successful ops.
        """
        ran = []
        for wanted in self.evaluate("model_decided", ledger=self.services.ledger):
            result = self.run("promote_model", run_config=wanted.run_config, tags=wanted.tags)
            assert result.success
            steps = [event.step_key for event in result.all_events if event.is_step_success and event.step_key]
            ran.append((wanted.tags[REQUEST_TAG], steps))
        return ran

    def evaluate(self, sensor: str, **resources: Any) -> Sequence[dg.RunRequest]:
        """Evaluate a sensor with the cursor of its last evaluation; return the runs that it requests."""
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursors.get(sensor), resources=resources)
        tick = self.definitions.get_repository_def().get_sensor_def(sensor).evaluate_tick(context)
        self.cursors[sensor] = tick.cursor
        return tick.run_requests or ()

    def registry_equals_ledger(self) -> bool:
        """Return whether the check `registry_equals_ledger` passes."""
        check = dg.AssetCheckKey(dg.AssetKey(self.spec.key.split("/")), "registry_equals_ledger")
        job = self.definitions.resolve_implicit_global_asset_job_def()
        result = self.execute(job.get_subset(asset_selection=set(), asset_check_selection={check}))
        [found] = result.get_asset_check_evaluations()
        return found.passed

    def champion(self) -> int | None:
        """Return the version that has MLflow's alias `champion`; None if no version has it."""
        aliases = self.mlflow().get_registered_model(self.spec.name).aliases
        return int(aliases[CHAMPION]) if CHAMPION in aliases else None

    def mlflow(self) -> MlflowClient:
        """Return an MLflow client that can change the registry directly."""
        from mlflow import MlflowClient

        uri = self.services.mlflow_tracking_uri
        return MlflowClient(uri, uri)

    def run(self, job: str, **options: Any) -> dg.ExecuteInProcessResult:
        """Execute a job by name."""
        return self.execute(self.definitions.resolve_job_def(job), **options)

    def execute(self, job: dg.JobDefinition, **options: Any) -> dg.ExecuteInProcessResult:
        """Execute a job in a new thread: Dagster starts an event loop, but the test's thread already runs one."""

        def work() -> dg.ExecuteInProcessResult:
            return job.execute_in_process(instance=self.instance, raise_on_error=False, **options)

        with _services(), ThreadPoolExecutor(1) as thread:
            return thread.submit(work).result()


@contextmanager
def _services() -> Iterator[None]:
    """Open the services of this process with the current environment, and close them at the end."""
    definitions.services.cache_clear()
    try:
        yield
    finally:
        definitions.services().close()
        definitions.services.cache_clear()


@contextmanager
def platform_of(spec: ModelSpec) -> Iterator[Platform]:
    """Yield a platform with the settings of the environment."""
    # Use an in-memory instance, because other tests cover Dagster's history in PostgreSQL.
    with empty_instance() as instance:
        platform = Platform(spec, instance)
        yield platform
        platform.services.close()
