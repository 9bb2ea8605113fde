"""The run launcher that PLATFORM_RUN_LAUNCHER selects. `dagster.yaml` names the class `PlatformLauncher`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dagster import DefaultRunLauncher
from dagster._core.launcher import RunLauncher
from dagster._serdes import ConfigurableClass

from platform_assets.orchestration.executors import demand_extra
from platform_assets.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dagster._serdes import ConfigurableClassData


class PlatformLauncher(RunLauncher, ConfigurableClass):
    """Class that `dagster.yaml` names. It creates the launcher that the settings select."""

    @classmethod
    def config_type(cls) -> Any:
        """Return an empty configuration schema, because the platform's settings select the launcher."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> RunLauncher:  # type: ignore[override]  # noqa: ARG003 - signature required by Dagster; the values are unused
        """Create the launcher.

        Raises
        ------
        PlatformError
            The extra that the launcher needs is not installed, or its configuration is invalid.
        """
        settings = load_settings()
        if settings.run_launcher == "celery":
            demand_extra("celery")
            from dagster_celery.launcher import CeleryRunLauncher

            from platform_assets.orchestration.celery_app import RUNS, broker_arguments

            return CeleryRunLauncher(default_queue=RUNS, inst_data=inst_data, **broker_arguments(settings))
        if settings.run_launcher == "k8s":
            demand_extra("k8s")
            from platform_assets.orchestration.kubernetes import kubernetes_launcher

            return kubernetes_launcher(settings, inst_data)
        return DefaultRunLauncher(inst_data=inst_data)
