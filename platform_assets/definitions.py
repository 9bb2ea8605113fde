"""The code location: every domain that is there, the shared jobs and sensors, the resources."""

import copy
from functools import cache
from typing import Any

import dagster as dg
from dagster._core.definitions.partitions.partitioned_schedule import UnresolvedPartitionedAssetScheduleDefinition
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster_shared.record import replace

from platform_assets import domains
from platform_assets.approval.defs import promotion_definitions
from platform_assets.base.logs import configure_logging
from platform_assets.domains import all_of, model_specs, modules_of
from platform_assets.lake.assets import tables_in_lake
from platform_assets.lake.io_manager import resources
from platform_assets.monitoring.defs import run_failed_sensor
from platform_assets.operations.defs import upkeep_job, upkeep_schedule
from platform_assets.orchestration.console import console
from platform_assets.services import Services, open_services
from platform_assets.settings import load_settings
from platform_assets.training.assets import model_definitions


@cache
def services() -> Services:
    """The services of this process, as its environment says."""
    return open_services(load_settings())


def domain_definitions() -> dg.Definitions:
    """What the domains define. A folder with a `defs.py` is a domain; nobody lists them, nor what is in it."""
    modules = modules_of("defs")
    declared = dg.Definitions(
        assets=dg.load_assets_from_modules(modules),
        asset_checks=dg.load_asset_checks_from_modules(modules),
        jobs=[*all_of(dg.JobDefinition, modules), *all_of(UnresolvedAssetJobDefinition, modules)],
        schedules=[
            *all_of(dg.ScheduleDefinition, modules),
            *all_of(UnresolvedPartitionedAssetScheduleDefinition, modules),
        ],
        sensors=all_of(dg.SensorDefinition, modules),
    )
    return dg.Definitions.merge(declared, *(model_definitions(spec) for spec in model_specs()))


def shared_definitions(of_domains: dg.Definitions) -> dg.Definitions:
    """What serves all domains."""
    upkeep = upkeep_job(tables_in_lake(of_domains))
    return dg.Definitions.merge(
        promotion_definitions(model_specs()),
        dg.Definitions(
            jobs=[upkeep],
            schedules=[upkeep_schedule(upkeep)],
            sensors=[run_failed_sensor()],
            resources=resources(services),
            executor=dg.in_process_executor,
            loggers={"console": console},
        ),
    )


@dg.definitions
def defs() -> dg.Definitions:
    """Everything that Dagster shows and runs; schedules and sensors start switched on with automation only."""
    settings = load_settings()
    # Our own lines only: Dagster's processes have handlers for theirs.
    configure_logging(settings.secrets(), name=domains.__name__.split(".")[0])
    of_domains = domain_definitions()
    merged = dg.Definitions.merge(of_domains, shared_definitions(of_domains))
    if settings.automation == "off":
        return merged
    return dg.Definitions(
        assets=merged.assets,
        asset_checks=merged.asset_checks,
        jobs=merged.jobs,
        schedules=[_switched_on(schedule, dg.DefaultScheduleStatus.RUNNING) for schedule in merged.schedules or ()],
        sensors=[_switched_on(sensor, dg.DefaultSensorStatus.RUNNING) for sensor in merged.sensors or ()],
        resources=merged.resources,
        executor=merged.executor,
        loggers=merged.loggers,
    )


def _switched_on(automation: Any, status: dg.DefaultScheduleStatus | dg.DefaultSensorStatus) -> Any:
    """The same, switched on from the start. Dagster takes that at construction only, where no settings are known."""
    if isinstance(automation, UnresolvedPartitionedAssetScheduleDefinition):
        return replace(automation, default_status=status)
    running = copy.copy(automation)
    running._default_status = status  # noqa: SLF001 - Dagster takes it at construction only
    return running
