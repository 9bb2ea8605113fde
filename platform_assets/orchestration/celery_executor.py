"""The executor whose steps run on Celery workers.

If the worker of a step was killed, dagster-celery's own executor waits forever for the step's result. This executor
uses Dagster's loop for steps on other machines. The loop asks `CelerySteps` whether a step is alive.
"""

from collections.abc import Iterator

import dagster as dg
from celery import Celery, states
from celery.result import AsyncResult
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.step_delegating import (
    CheckStepHealthResult,
    StepDelegatingExecutor,
    StepHandler,
    StepHandlerContext,
)
from dagster._serdes import pack_value
from dagster._utils.hosted_user_process import recon_job_from_origin

from platform_assets.base.errors import PlatformError, first_line
from platform_assets.orchestration.celery_app import STEPS, celery_app, event_log, step_task
from platform_assets.settings import load_settings

HEALTH_SECONDS = 5
"""Seconds between two checks of the running steps."""


@dg.executor(name="celery", requirements=dg.multiple_process_executor_requirements())
def celery_executor(_: dg.InitExecutorContext) -> dg.Executor:
    """Return the executor with the broker of the settings."""
    return StepDelegatingExecutor(
        CelerySteps(celery_app(load_settings())),
        retries=RetryMode.ENABLED,
        check_step_health_interval_seconds=HEALTH_SECONDS,
    )


class CelerySteps(StepHandler):
    """Starts steps as Celery tasks, and checks whether they are alive.

    Parameters
    ----------
    app
        The Celery application.
    """

    def __init__(self, app: Celery) -> None:
        super().__init__()
        self._app = app
        self._task = step_task(app)

    @property
    def name(self) -> str:
        """Name in the event log."""
        return "Celery"

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[dg.DagsterEvent]:
        """Put the step into the queue.

        Raises
        ------
        PlatformError
            The broker does not respond.
        """
        from kombu.exceptions import OperationalError

        arguments = step_handler_context.execute_step_args
        job = recon_job_from_origin(arguments.job_origin)
        signature = self._task.si(execute_step_args_packed=pack_value(arguments), executable_dict=job.to_dict())
        try:
            signature.apply_async(task_id=_task_id(step_handler_context), queue=STEPS)
        except OperationalError as error:
            raise PlatformError(
                f"PLATFORM_CELERY_BROKER_URL: Redis does not respond ({first_line(error)}); start it, and launch the "
                "run again"
            ) from None
        yield from ()

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        """Return unhealthy if the step failed or its process died, and healthy if it is queued, running or complete."""
        locks = event_log(step_handler_context.instance).run_locks
        task_id = _task_id(step_handler_context)
        if locks.are_incomplete() or not locks.try_take(task_id):
            return CheckStepHealthResult.healthy()
        locks.release(task_id)
        # The task's process takes the lock, sets the state STARTED, sets a final state, and releases the lock. So check
        # the lock first and then the state: a task that is STARTED without a lock is dead.
        result = self._result(step_handler_context)
        state = result.state
        if state == states.STARTED:
            return CheckStepHealthResult.unhealthy(
                "its Celery worker has died: it was killed, ran out of memory, or its machine stopped. Tables that the "
                "step published are kept; launch the run again"
            )
        if state in {states.FAILURE, states.REVOKED}:
            return CheckStepHealthResult.unhealthy(first_line(result.result))
        return CheckStepHealthResult.healthy()

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[dg.DagsterEvent]:
        """Remove the step from the queue, or end its process."""
        self._result(step_handler_context).revoke(terminate=True)
        yield from ()

    def _result(self, context: StepHandlerContext) -> AsyncResult:
        return self._app.AsyncResult(_task_id(context))


def _task_id(context: StepHandlerContext) -> str:
    """Return the id of a step's task, which any process of the run can compute."""
    arguments = context.execute_step_args
    [step] = arguments.step_keys_to_execute or ()
    state = arguments.known_state
    attempt = state.get_retry_state().get_attempt_count(step) if state else 0
    return f"{arguments.run_id} {step} {attempt}"
