"""Dagster runs that load months of the series, in the test process and with an in-memory instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.definitions import resources
from platform_assets.domains.esios_demand import defs
from platform_assets.orchestration.in_process_runs import partition_tags
from platform_assets_tests.instances import empty_instance

if TYPE_CHECKING:
    from platform_assets.services import Services

TABLE = "esios_demand/demand_forecast"
ALL = [defs.demand_forecast, defs.hours_are_as_expected, defs.demand_forecast_csv]


class Loaded:
    """Result of a run over some months."""

    def __init__(self, services: Services, *keys: str) -> None:
        with empty_instance() as instance:
            self.result = dg.materialize(
                ALL,
                resources=resources(lambda: services),
                instance=instance,
                tags=partition_tags(keys[0], keys[-1]),
                raise_on_error=False,
            )
        evaluations = self.result.get_asset_check_evaluations()
        self.checks = {one.check_name: one for one in evaluations}
        self.failed = {name for name, one in self.checks.items() if not one.passed}
        self.failures = [str(one.step_failure_data.error) for one in self.result.all_events if one.is_step_failure]

    @property
    def facts(self) -> dict[str, dict[str, Any]]:
        """Metadata of the table, by partition key."""
        events = self.result.asset_materializations_for_node("esios_demand__demand_forecast")
        return {one.partition or "": {name: value.value for name, value in one.metadata.items()} for one in events}
