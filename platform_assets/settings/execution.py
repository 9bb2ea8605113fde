"""Settings for the query engine, and for the machines that execute runs and their steps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator

from platform_assets.settings.groups import SettingsGroup
from platform_assets.settings.redis_url import RedisUrl


class ExecutionSettings(SettingsGroup):
    """The query engine, and the machines that execute runs and their steps."""

    engine: Annotated[
        Literal["duckdb", "spark"],
        Field(
            description="Engine that computes derived tables. `duckdb`: inside the run's own process. `spark`: on a "
            "cluster. See [Scale](scale.md)."
        ),
    ] = "duckdb"
    spark_remote: Annotated[
        str,
        Field(
            description="Address of Spark: `sc://host:port` of a Connect server, or a master such as "
            "`spark://host:port`. Default: Spark inside the run's own process."
        ),
    ] = "local[*]"
    engine_memory: Annotated[
        str,
        Field(description="Memory limit of DuckDB, for example `2GB`."),
    ] = "2GB"
    engine_threads: Annotated[
        int | None, Field(ge=1, description="Number of threads of DuckDB. Default: all cores.")
    ] = None
    executor: Annotated[
        Literal["in_process", "multiprocess", "celery", "k8s"],
        Field(
            description="Where the steps of a run are executed: inside the run's own process (`in_process`), each in a "
            "separate process (`multiprocess`), on Celery workers (`celery`), or each in a Kubernetes job (`k8s`). "
            "See [Scale](scale.md#runs-on-several-machines)."
        ),
    ] = "in_process"
    run_launcher: Annotated[
        Literal["local", "celery", "k8s"],
        Field(
            description="Where Dagster starts a run: on the machine of the code location (`local`), on a Celery worker "
            "(`celery`), or in a Kubernetes job (`k8s`)."
        ),
    ] = "local"
    celery_broker_url: Annotated[
        RedisUrl,
        Field(
            description="Redis server that distributes work to Celery workers: `redis://:password@host:6379/0` or "
            "`rediss://..`."
        ),
    ] = SecretStr("")
    kubernetes_config: Annotated[
        Path | None,
        Field(
            description="YAML file with the configuration of dagster-k8s' `K8sRunLauncher`: image, namespace, service "
            "account, secrets and resources of the Kubernetes jobs."
        ),
    ] = None

    @field_validator("engine_memory")
    @classmethod
    def _size(cls, text: str) -> str:
        if not re.fullmatch(r"\d+(\.\d+)?\s?[KMGT]i?B", text):
            raise ValueError("must be a number and a unit (KB, MB, GB, TB, KiB ..), for example 2GB")
        return text

    @property
    def uses_several_machines(self) -> bool:
        """Return whether steps or runs may be executed on other machines."""
        return bool({self.executor, self.run_launcher} & {"celery", "k8s"})
