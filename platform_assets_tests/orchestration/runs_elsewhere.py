"""Create and launch runs for tests of launchers that start runs on other machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.launcher import LaunchRunContext

from platform_assets import definitions

if TYPE_CHECKING:
    import dagster as dg
    from dagster._core.definitions.reconstruct import ReconstructableJob

JOB = "__ASSET_JOB"


def reconstructable() -> ReconstructableJob:
    """Return a reference to the job of all assets, from which other processes can load the job."""
    return ReconstructableRepository.for_module("platform_assets.definitions", "defs").get_reconstructable_job(JOB)


def created(instance: dg.DagsterInstance, *assets: dg.AssetKey) -> dg.DagsterRun:
    """Create a run that materialises the given assets."""
    return instance.create_run_for_job(
        definitions.defs().resolve_implicit_global_asset_job_def(),
        asset_selection=frozenset(assets),
        job_code_origin=reconstructable().get_python_origin(),
    )


def launched(instance: dg.DagsterInstance, *assets: dg.AssetKey) -> dg.DagsterRun:
    """Launch a run as Dagster's daemon does, and return it."""
    run = created(instance, *assets)
    instance.run_launcher.launch_run(LaunchRunContext(run, workspace=None))
    return run
