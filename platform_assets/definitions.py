"""Dagster's code location, built from the `defs.py` of all subpackages and domains."""

import copy
from collections.abc import Callable
from functools import cache, cached_property
from inspect import getmembers
from typing import Any

import dagster as dg
from dagster._core.definitions.partitions.partitioned_schedule import UnresolvedPartitionedAssetScheduleDefinition
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster_shared.record import replace

from platform_assets import domains
from platform_assets.base.discovery import modules_named
from platform_assets.base.logs import configure_logging
from platform_assets.lake.assets import IO_MANAGER
from platform_assets.lake.io_manager import TablesIOManager
from platform_assets.orchestration.console import console, make_console_the_default
from platform_assets.orchestration.declared import Declared
from platform_assets.orchestration.executors import step_executor
from platform_assets.services import Services, open_services
from platform_assets.settings import load_settings

PACKAGE = "platform_assets"


@cache
def services() -> Services:
    """Return the services of this process, configured by its environment."""
    return open_services(load_settings(), domains.traced_answers)


@dg.definitions
def defs() -> dg.Definitions:
    """Return all definitions; schedules and sensors are on by default only if PLATFORM_AUTOMATION is `on`."""
    settings = load_settings()
    domains.check_settings()
    # Configure only the platform's loggers, because Dagster's processes configure Dagster's own.
    configure_logging(settings.secrets(), name=PACKAGE)
    make_console_the_default()
    declared = Declared(domains.model_specs(), domain_definitions())
    rooms = [module.definitions(declared) for module in modules_named("defs", PACKAGE)]
    shared = dg.Definitions(
        resources=resources(services), executor=step_executor(settings), loggers={"console": console}
    )
    merged = dg.Definitions.merge(declared.definitions, *rooms, shared)
    schedules, sensors = merged.schedules or (), merged.sensors or ()
    if settings.automation == "on":
        schedules = [_switched_on(schedule, dg.DefaultScheduleStatus.RUNNING) for schedule in schedules]
        sensors = [_switched_on(sensor, dg.DefaultSensorStatus.RUNNING) for sensor in sensors]
    return dg.Definitions(
        assets=merged.assets,
        asset_checks=merged.asset_checks,
        jobs=merged.jobs,
        schedules=schedules,
        sensors=sensors,
        resources=merged.resources,
        executor=merged.executor,
        loggers=merged.loggers,
    )


def domain_definitions() -> dg.Definitions:
    """Return the definitions in the domains' `defs.py`."""
    modules = modules_named("defs", domains.__name__)
    return dg.Definitions(
        assets=dg.load_assets_from_modules(modules),
        asset_checks=dg.load_asset_checks_from_modules(modules),
        jobs=[*domains.all_of(dg.JobDefinition, modules), *domains.all_of(UnresolvedAssetJobDefinition, modules)],
        schedules=[
            *domains.all_of(dg.ScheduleDefinition, modules),
            *domains.all_of(UnresolvedPartitionedAssetScheduleDefinition, modules),
        ],
        sensors=domains.all_of(dg.SensorDefinition, modules),
    )


def resources(services: Callable[[], Services]) -> dict[str, dg.ResourceDefinition]:
    """Return one resource for each service, and the IO manager; a run opens the resources that it needs.

    Parameters
    ----------
    services
        Function that returns the services of the process.
    """
    names = [name for name, _ in getmembers(Services, lambda value: isinstance(value, cached_property | property))]

    def checked(context: dg.InitResourceContext) -> Services:
        found = services()
        # Check that database and lake belong together, even for a step that uses only tables. A test instance without
        # persistent storage needs no check.
        if context.instance and context.instance.is_persistent and not found.settings.lake_is_memory:
            found.demand_own_lake()
        return found

    def service(name: str) -> dg.ResourceDefinition:
        return dg.ResourceDefinition(
            lambda context: getattr(checked(context), name), description=getattr(Services, name).__doc__
        )

    def io_manager(context: dg.InitResourceContext) -> TablesIOManager:
        found = checked(context)
        return TablesIOManager(found.tables, found.online, found.engine)

    return {**{name: service(name) for name in names}, IO_MANAGER: dg.IOManagerDefinition(io_manager)}


def _switched_on(automation: Any, status: dg.DefaultScheduleStatus | dg.DefaultSensorStatus) -> Any:
    """Return a copy of a schedule or sensor, with the given status as its default."""
    if isinstance(automation, UnresolvedPartitionedAssetScheduleDefinition):
        return replace(automation, default_status=status)
    running = copy.copy(automation)
    running._default_status = status  # noqa: SLF001 - only the constructor accepts it
    return running
