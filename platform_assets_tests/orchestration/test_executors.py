"""The executor and the launcher that the settings select."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster import DefaultRunLauncher

from platform_assets import definitions
from platform_assets.base.errors import PlatformError
from platform_assets.orchestration import executors
from platform_assets.orchestration.executors import step_executor
from platform_assets.settings import Settings

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from pathlib import Path

BROKER = "redis://:hunter2hunter2@redis.invalid:6379/0"


@pytest.fixture
def _on_celery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_EXECUTOR", "celery")
    monkeypatch.setenv("PLATFORM_RUN_LAUNCHER", "celery")
    monkeypatch.setenv("PLATFORM_CELERY_BROKER_URL", BROKER)


@pytest.mark.requirement("PLT-9")
@pytest.mark.parametrize(
    ("executor", "needed"),
    [
        ("in_process", {}),
        ("multiprocess", {}),
        ("celery", {"database_url": "postgresql://h/x", "celery_broker_url": BROKER}),
        ("k8s", {"database_url": "postgresql://h/x", "run_launcher": "k8s", "kubernetes_config": "file.yaml"}),
    ],
)
def test_the_setting_selects_the_executor(executor: Any, needed: dict[str, Any], tmp_path: Path) -> None:
    if executor in executors._PACKAGES:
        pytest.importorskip(
            executors._PACKAGES[executor], reason=f"needs the extra {executor}: make test EXTRAS={executor}"
        )
    assert step_executor(Settings(home=tmp_path, executor=executor, **needed)).name == executor


def test_runs_start_on_this_machine_by_default(instance: dg.DagsterInstance) -> None:
    assert isinstance(instance.run_launcher, DefaultRunLauncher)


@pytest.mark.usefixtures("_on_celery")
def test_the_error_names_a_missing_extra_and_the_fix(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "dagster_celery" else importlib.util.find_spec(name, package)

    monkeypatch.setattr(executors, "find_spec", find_spec)
    for opened in (definitions.defs, lambda: instance.run_launcher):
        with pytest.raises(PlatformError, match="`celery` is not installed; run `pip install 'platform-assets.celery"):
            opened()


def test_op_jobs_run_in_one_process_even_if_the_executor_is_multiprocess(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PLATFORM_HOME", str(tmp_path))
    monkeypatch.setenv("PLATFORM_EXECUTOR", "multiprocess")
    found = definitions.defs()
    of_ops = {job.name for job in found.jobs or () if isinstance(job, dg.JobDefinition)}
    jobs = {job.name: job for job in found.get_repository_def().get_all_jobs()}
    assert {"upkeep", "promote_model", "decide", "audit"} <= of_ops
    assert {jobs[name].executor_def.name for name in of_ops} == {"in_process"}
    assert {job.executor_def.name for name, job in jobs.items() if name not in of_ops} == {"multiprocess"}


@pytest.mark.usefixtures("instance", "_on_celery")
def test_the_error_for_an_unreachable_broker_names_the_setting_but_not_the_password() -> None:
    pytest.importorskip("dagster_celery", reason="needs the extra celery: make test EXTRAS=celery")
    from platform_assets.orchestration.celery_app import celery_app, demand_broker
    from platform_assets.settings import load_settings

    with pytest.raises(PlatformError, match="PLATFORM_CELERY_BROKER_URL: Redis does not respond") as raised:
        demand_broker(celery_app(load_settings()))
    assert "hunter2" not in str(raised.value)
    assert {"hunter2hunter2", ":hunter2hunter2"} <= set(load_settings().secrets())
