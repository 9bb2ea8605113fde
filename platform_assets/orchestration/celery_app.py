"""The Celery application: the queues of runs and steps in Redis, and the tasks of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from celery import Task, states
from dagster._grpc.types import ExecuteStepArgs
from dagster._serdes import unpack_value
from dagster_celery.config import DEFAULT_CONFIG
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task, create_task

from platform_assets.base.errors import PlatformError, first_line
from platform_assets.orchestration.storage import PlatformEventLog, dagster_instance

if TYPE_CHECKING:
    from celery import Celery
    from dagster import DagsterInstance

    from platform_assets.settings import Settings

Queue = Literal["runs", "steps"]
# A run occupies a worker process until its steps have ended. With a single queue, runs could occupy all processes and
# wait for their steps forever.
RUNS: Queue = "runs"
STEPS: Queue = "steps"
OPTIONS = {
    **DEFAULT_CONFIG,
    # Start a new process for each run or step, to free the memory of the previous run or step.
    "worker_max_tasks_per_child": 1,
    # Do not prefetch tasks, because the prefetched tasks of a killed worker return to the queue only after an hour.
    "worker_disable_prefetch": True,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "broker_connection_retry_on_startup": True,
}
REACH_SECONDS = 5
INSPECT_SECONDS = 2


class StepTask(Task):  # type: ignore[misc]  # Celery has no types
    """Celery task that executes a step. The task's process holds the lock of the step until the process ends."""

    def before_start(self, task_id: str, args: Any, kwargs: dict[str, Any]) -> None:  # noqa: ARG002 - Celery's signature
        """Take the lock of the step, and then report the task as started.

        Raises
        ------
        PlatformError
            The database of this worker does not contain the run.
        """
        run_id = unpack_value(kwargs["execute_step_args_packed"], as_type=ExecuteStepArgs).run_id
        # Keep the instance, because its connection holds the lock.
        self.instance = dagster_instance()
        if self.instance.get_run_by_id(run_id) is None:
            raise PlatformError(
                f"the database of the worker {self.request.hostname} has no run {run_id}; set PLATFORM_DATABASE_URL of "
                "the worker to the same value as on the other machines"
            )
        event_log(self.instance).run_locks.take(task_id)
        self.update_state(state=states.STARTED)


def event_log(instance: DagsterInstance) -> PlatformEventLog:
    """Return the event log of the platform's instance. It contains the run locks."""
    log = instance.event_log_storage
    if not isinstance(log, PlatformEventLog):
        raise TypeError(f"needs a PlatformEventLog, not {type(log).__name__}")
    return log


def broker_arguments(settings: Settings) -> dict[str, Any]:
    """Return the arguments of a Celery application: Redis is its broker, and stores its results."""
    url = settings.celery_broker_url.get_secret_value()
    return {"broker": url, "backend": url, "config_source": OPTIONS}


def celery_app(settings: Settings) -> Celery:
    """Return the application, without tasks."""
    app: Celery = make_app(broker_arguments(settings))
    return app


def step_task(app: Celery) -> StepTask:
    """Return the task that executes a step."""
    task: StepTask = create_task(app, base=StepTask)
    return task


def worker_app(settings: Settings) -> Celery:
    """Return the application with the tasks of a worker."""
    app = celery_app(settings)
    step_task(app)
    create_execute_job_task(app)
    create_resume_job_task(app)
    return app


def demand_broker(app: Celery) -> None:
    """Raise an error if the broker does not respond.

    Raises
    ------
    PlatformError
        The broker does not respond.
    """
    from kombu.exceptions import OperationalError

    try:
        with app.connection_for_read(connect_timeout=REACH_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, timeout=REACH_SECONDS)
    except OperationalError as error:
        raise PlatformError(
            f"PLATFORM_CELERY_BROKER_URL: Redis does not respond ({first_line(error)}); start it, or correct the URL"
        ) from None


def workers_of(app: Celery) -> dict[str, list[str]]:
    """Return the names of the workers that respond, by queue."""
    found = app.control.inspect(timeout=INSPECT_SECONDS).active_queues() or {}
    serves = {worker: {queue["name"] for queue in queues} for worker, queues in found.items()}
    return {queue: sorted(worker for worker, names in serves.items() if queue in names) for queue in (RUNS, STEPS)}
