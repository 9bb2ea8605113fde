"""A small code location with faults that can be switched on and off, and the sensors that watch it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._utils.error import SerializableErrorInfo  # type: ignore[attr-defined]  # Dagster does not export it

from platform_assets.base.errors import PlatformError
from platform_assets.monitoring.incidents.defs import audit_job
from platform_assets.monitoring.incidents.problems import LOOKOUT
from platform_assets.monitoring.incidents.sensors import incidents_sensor, run_failed_sensor
from platform_assets.orchestration.failures import plain_failures
from platform_assets_tests.approval.proposals import MODEL

if TYPE_CHECKING:
    from platform_assets_tests.approval.promotions import Works
    from platform_assets_tests.monitoring.incidents.conftest import Desk

SALES, PRICES = dg.AssetKey(["shop", "sales"]), dg.AssetKey(["shop", "prices"])
OWNER = "team:shop"
ORIGIN = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("platform_assets"), "__repository__")


class Plant:
    """The code location, its history, and what watches it.

    Attributes
    ----------
    broken
        Names of the faults that are switched on: `run`, `check`, `op`.
    """

    def __init__(self, desk: Desk, works: Works, instance: dg.DagsterInstance) -> None:
        self.desk = desk
        self.works = works
        self.instance = instance
        self.broken: set[str] = set()
        self.cursor: str | None = None
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
        self.repository = self.definitions.get_repository_def()

    def run(self, job: str) -> bool:
        found = self.definitions.resolve_job_def(job)
        return found.execute_in_process(instance=self.instance, raise_on_error=False).success

    def materialise(self, key: dg.AssetKey = SALES, partition: str | None = None) -> bool:
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance, asset_selection=[key], partition_key=partition, raise_on_error=False
        ).success

    def look(self) -> None:
        """Evaluate both sensors, as the daemon does every 30 s."""
        with self.desk.database.pooled() as connection, connection.transaction():
            connection.execute(
                "insert into platform.watch_heartbeats (name, since) values (%s, now() - interval '2 hours')"
                " on conflict (name) do update set since = excluded.since, at = now()",
                [LOOKOUT],
            )
        for name in ("run_failed", "incidents"):
            context = dg.build_sensor_context(
                instance=self.instance,
                cursor=self.cursor if name == "run_failed" else None,
                repository_def=self.repository,
                resources=self.services,
            )
            data = self.repository.get_sensor_def(name).evaluate_tick(context)
            if name == "run_failed":
                self.cursor = data.cursor

    def ticked(self, name: str, ago: timedelta, failure: str = "", kind_of_error: str = "PlatformError") -> None:
        """Store that a schedule or sensor is on, and was evaluated some time ago."""
        is_schedule = name == "nightly"
        kind = InstigatorType.SCHEDULE if is_schedule else InstigatorType.SENSOR
        at = (datetime.now(UTC) - ago).timestamp()
        data: Any = (
            ScheduleInstigatorData("0 3 * * *", start_timestamp=at)
            if is_schedule
            else SensorInstigatorData(last_tick_start_timestamp=at, min_interval=30)
        )
        state = InstigatorState(ORIGIN.get_instigator_origin(name), kind, InstigatorStatus.RUNNING, data)
        if self.instance.get_instigator_state(state.instigator_origin_id, state.selector_id):
            self.instance.update_instigator_state(state)
        else:
            self.instance.add_instigator_state(state)
        error = SerializableErrorInfo(f"platform_assets.base.errors.PlatformError: {failure}\n", [], kind_of_error)
        self.instance.create_tick(
            TickData(
                state.instigator_origin_id,
                name,
                kind,
                TickStatus.FAILURE if failure else TickStatus.SKIPPED,
                at,
                error=error if failure else None,
                selector_id=state.selector_id,
            )
        )

    def became(self, state: FreshnessState) -> None:
        """Store a freshness state as the daemon does."""
        self.instance._report_runless_asset_event(
            FreshnessStateChange(
                key=PRICES,
                new_state=state,
                previous_state=FreshnessState.UNKNOWN,
                state_change_timestamp=datetime.now(UTC).timestamp(),
            )
        )

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
