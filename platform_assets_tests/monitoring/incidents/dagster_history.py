"""A Dagster instance, with the entries that the daemon would store, and the sensors that read these entries."""

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

from platform_assets.monitoring.incidents.problems import LOOKOUT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from platform_assets.database.connections import Database

ORIGIN = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("platform_assets"), "__repository__")
WATCHED = timedelta(days=2)
"""How long the daemon has been running when the sensors are evaluated."""


class DagsterHistory:
    """Dagster's history of a code location.

    Parameters
    ----------
    instance, repository
        Dagster's instance, and the code location.
    database
        The platform's database.
    services
        Resources of the sensors.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        repository: dg.RepositoryDefinition,
        database: Database,
        services: Mapping[str, Any],
    ) -> None:
        self.instance = instance
        self.repository = repository
        self._database = database
        self._resources = dict(services)
        self._cursor: str | None = None

    def look(self) -> None:
        """Evaluate both sensors, as the daemon does every 30 s."""
        with self._database.pooled() as connection, connection.transaction():
            connection.execute(
                "insert into platform.watch_heartbeats (name, since) values (%s, now() - %s)"
                " on conflict (name) do update set since = excluded.since, at = now()",
                [LOOKOUT, WATCHED],
            )
        for name in ("run_failed", "incidents"):
            context = dg.build_sensor_context(
                instance=self.instance,
                cursor=self._cursor if name == "run_failed" else None,
                repository_def=self.repository,
                resources=self._resources,
            )
            data = self.repository.get_sensor_def(name).evaluate_tick(context)
            if name == "run_failed":
                self._cursor = data.cursor

    def ticked(self, name: str, ago: timedelta, failure: str = "", kind_of_error: str = "PlatformError") -> None:
        """Store that a schedule or sensor is switched on, and when it was evaluated last."""
        schedule = next((one for one in self.repository.schedule_defs if one.name == name), None)
        kind = InstigatorType.SCHEDULE if schedule else InstigatorType.SENSOR
        now = datetime.now(UTC)
        at = (now - ago).timestamp()
        data: Any = (
            ScheduleInstigatorData(schedule.cron_schedule, start_timestamp=at)
            if schedule
            else SensorInstigatorData(last_tick_start_timestamp=now.timestamp() if failure else at, min_interval=30)
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

    def became(self, key: dg.AssetKey, state: FreshnessState) -> None:
        """Store the freshness of an asset."""
        self.instance._report_runless_asset_event(
            FreshnessStateChange(
                key=key,
                new_state=state,
                previous_state=FreshnessState.UNKNOWN,
                state_change_timestamp=datetime.now(UTC).timestamp(),
            )
        )
