"""A small code location with faults that can be switched on and off, and the sensors that watch it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from platform_assets.base.errors import PlatformError
from platform_assets.monitoring.incidents.defs import audit_job
from platform_assets.monitoring.incidents.sensors import incidents_sensor, run_failed_sensor
from platform_assets.orchestration.failures import plain_failures
from platform_assets_tests.approval.proposals import MODEL
from platform_assets_tests.monitoring.incidents.dagster_history import DagsterHistory

if TYPE_CHECKING:
    from platform_assets_tests.approval.promotions import Works
    from platform_assets_tests.monitoring.incidents.conftest import Desk

SALES, PRICES = dg.AssetKey(["shop", "sales"]), dg.AssetKey(["shop", "prices"])
OWNER = "team:shop"


class Plant(DagsterHistory):
    """The code location with its Dagster history, and the sensors that watch the code location.

    Attributes
    ----------
    broken
        Names of the faults that are switched on: `run`, `check`, `warning`, `op`.
    """

    def __init__(self, desk: Desk, works: Works, instance: dg.DagsterInstance) -> None:
        self.desk = desk
        self.works = works
        self.broken: set[str] = set()
        self.services = {
            "incidents": desk.incidents,
            "delivery": desk.delivery,
            "ledger": works.ledger,
            "promoter": works.promoter,
        }
        self.definitions = dg.Definitions(
            assets=self._assets(),
            asset_checks=[self._check()],
            jobs=[audit_job(), self._job()],
            schedules=[dg.ScheduleDefinition(name="nightly", job_name="count", cron_schedule="0 3 * * *")],
            sensors=[run_failed_sensor(), incidents_sensor({MODEL: ("team:risk",)}), *self._sensors()],
            executor=dg.in_process_executor,
            resources={name: dg.ResourceDefinition.hardcoded_resource(one) for name, one in self.services.items()},
        )
        super().__init__(instance, self.definitions.get_repository_def(), desk.database, self.services)

    def run(self, job: str) -> bool:
        found = self.definitions.resolve_job_def(job)
        return found.execute_in_process(instance=self.instance, raise_on_error=False).success

    def materialise(self, key: dg.AssetKey = SALES, partition: str | None = None) -> bool:
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance, asset_selection=[key], partition_key=partition, raise_on_error=False
        ).success

    def _assets(self) -> list[dg.AssetsDefinition]:
        @dg.asset(key=SALES, owners=[OWNER])
        def sales() -> None:
            with plain_failures():
                if "run" in self.broken:
                    raise PlatformError("the file sales.csv has no rows")

        @dg.asset(
            key=PRICES,
            freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=24)),
            partitions_def=dg.StaticPartitionsDefinition(["2026-01", "2026-02"]),
        )
        def prices() -> None:
            if "run" in self.broken:
                raise ValueError("no prices")

        return [sales, prices]

    def _check(self) -> dg.AssetChecksDefinition:
        @dg.asset_check(asset=SALES)
        def sales_are_unique() -> dg.AssetCheckResult:
            severity = dg.AssetCheckSeverity.WARN if "warning" in self.broken else dg.AssetCheckSeverity.ERROR
            return dg.AssetCheckResult(passed="check" not in self.broken, severity=severity, description="3 rows")

        return sales_are_unique

    def _job(self) -> dg.JobDefinition:
        @dg.op
        def count_sales() -> None:
            if "op" in self.broken:
                raise ValueError("no")

        @dg.job
        def count() -> None:
            count_sales()

        return count

    def _sensors(self) -> list[dg.SensorDefinition]:
        def look() -> dg.SkipReason:
            return dg.SkipReason("no file")

        return [
            dg.SensorDefinition(name=name, job_name="count", evaluation_fn=look)
            for name in ("sales_arrived", "prices_arrived")
        ]
