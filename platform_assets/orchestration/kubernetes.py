"""Launcher and executor for Kubernetes: each run, and each step, is a Kubernetes job.

PLATFORM_KUBERNETES_CONFIG names a YAML file with the fields of dagster-k8s' `K8sRunLauncher`. The jobs also get the
PLATFORM_ variables of this process, except secrets, which the file must name (`env_secrets`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import yaml
from dagster_k8s import K8sRunLauncher, k8s_job_executor

from platform_assets.base.errors import PlatformError, first_line
from platform_assets.base.logs import redact
from platform_assets.settings import PREFIX, Settings

if TYPE_CHECKING:
    import dagster as dg
    from dagster._serdes import ConfigurableClassData

# Mount no files, because `dagster.yaml` is in the image, and the platform's classes in it need no configuration.
_DEFAULTS = {"instance_config_map": "none"}


def kubernetes_launcher(settings: Settings, inst_data: ConfigurableClassData | None = None) -> K8sRunLauncher:
    """Return the launcher with the configuration of the settings.

    Raises
    ------
    PlatformError
        The file is missing or has unknown or malformed fields, or this process has no access to a cluster.
    """
    from dagster._config import process_config
    from kubernetes.config import ConfigException

    fields = _fields(settings)
    checked = process_config(K8sRunLauncher.config_type(), fields)
    if not checked.success:
        problems = "; ".join(first_line(ValueError(error.message)) for error in checked.errors or ())
        raise PlatformError(f"{_place(settings)}: {problems}; see the fields of dagster-k8s' K8sRunLauncher")
    try:
        launcher: K8sRunLauncher = K8sRunLauncher.from_config_value(inst_data, checked.value)
    except ConfigException as error:
        raise PlatformError(
            f"{_place(settings)}: no access to a Kubernetes cluster ({first_line(error)}); run in a pod with a service "
            "account, or set load_incluster_config to false and kubeconfig_file to the path of a kubeconfig"
        ) from None
    return launcher


def kubernetes_executor() -> dg.ExecutorDefinition:
    """Return the executor, which uses the configuration of the launcher."""
    return k8s_job_executor


def _fields(settings: Settings) -> dict[str, Any]:
    try:
        text = settings.kubernetes_config.read_text(encoding="utf-8") if settings.kubernetes_config else ""
        given = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PlatformError(f"{_place(settings)}: cannot be read: {first_line(error)}") from None
    if not isinstance(given, dict) or "job_image" not in given or "service_account_name" not in given:
        raise PlatformError(f"{_place(settings)}: must have at least the fields job_image and service_account_name")
    home = {"dagster_home": os.environ["DAGSTER_HOME"]} if "DAGSTER_HOME" in os.environ else {}
    variables = [*_variables(settings), *given.get("env_vars", ())]
    return {**_DEFAULTS, **home, **given, "env_vars": variables}


def _variables(settings: Settings) -> list[str]:
    """Return this process's PLATFORM_ environment variables, except secrets, as `<name>=<value>`."""
    secrets = settings.secrets()
    found = ((name, value) for name, value in sorted(os.environ.items()) if name.startswith(PREFIX))
    return [f"{name}={value}" for name, value in found if redact(value, secrets) == value]


def _place(settings: Settings) -> str:
    return f"PLATFORM_KUBERNETES_CONFIG, {settings.kubernetes_config}"
