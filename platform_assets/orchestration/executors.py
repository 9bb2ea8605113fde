"""The step executor that PLATFORM_EXECUTOR selects, and a check that an extra is installed."""

from importlib.util import find_spec
from typing import Literal

import dagster as dg

from platform_assets.base.errors import PlatformError
from platform_assets.settings import Settings

Extra = Literal["celery", "k8s"]
_PACKAGES = {"celery": "dagster_celery", "k8s": "dagster_k8s"}


def step_executor(settings: Settings) -> dg.ExecutorDefinition:
    """Return the executor that the settings select.

    Raises
    ------
    PlatformError
        The extra that the executor needs is not installed, or its configuration is invalid.
    """
    match settings.executor:
        case "in_process":
            return dg.in_process_executor
        case "multiprocess":
            # Fork the steps from a process that has imported the libraries; by default, each step imports them again.
            return dg.multiprocess_executor.configured({"start_method": {"forkserver": {}}}, name="multiprocess")
        case "celery":
            demand_extra("celery")
            from platform_assets.orchestration.celery_executor import celery_executor

            return celery_executor
        case "k8s":
            demand_extra("k8s")
            from platform_assets.orchestration.kubernetes import kubernetes_executor

            return kubernetes_executor()


def demand_extra(extra: Extra) -> None:
    """Raise an error if an extra is not installed.

    Raises
    ------
    PlatformError
        The extra is not installed; the message says how to install it.
    """
    if find_spec(_PACKAGES[extra]) is None:
        raise PlatformError(
            f"the extra `{extra}` is not installed; run `pip install 'platform-assets[{extra}]'`, or in a clone "
            f"`export EXTRAS={extra}` before `make run`"
        )
