"""Assets of the daily measurements, asset checks that report the measurements, and the job and its schedule."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from platform_assets.base.frames import Frame
from platform_assets.lake.assets import ACCUMULATES, KEY, table_asset
from platform_assets.lake.delta_tables import TableStore
from platform_assets.lake.online_tables import OnlineTables
from platform_assets.lake.schemas import TableSchema
from platform_assets.lake.step_tables import QUARANTINE, STORE
from platform_assets.monitoring.daily.budget import days_per_check
from platform_assets.monitoring.daily.judging import read_days
from platform_assets.monitoring.daily.measurements import measure_models, measure_tables, newest, recent_days
from platform_assets.monitoring.daily.metadata import of_series
from platform_assets.monitoring.daily.model_days import ModelSources
from platform_assets.monitoring.daily.report import told
from platform_assets.monitoring.daily.schemas import MODEL_DAYS, TABLE_DAYS
from platform_assets.monitoring.daily.series import (
    MODEL_CHECKS,
    MODEL_SERIES,
    TABLE_CHECKS,
    TABLE_SERIES,
    Check,
    Series,
)
from platform_assets.monitoring.daily.table_days import WatchedTable
from platform_assets.orchestration.declared import ON_REQUEST, Declared
from platform_assets.orchestration.failures import plain_failures
from platform_assets.settings import Settings
from platform_assets.training.model_spec import ModelSpec

OWNERS = ["team:platform"]
SCHEDULE = "30 5 * * *"
_SEVERITIES = {"warn": dg.AssetCheckSeverity.WARN, "error": dg.AssetCheckSeverity.ERROR}


def daily_definitions(declared: Declared, settings: Settings) -> dg.Definitions:
    """Return the assets, checks, job and schedule of the daily measurements.

    Parameters
    ----------
    declared
        Models and tables of all domains.
    settings
        The platform's settings, for the budget of false alarms.
    """
    watched = watched_tables(declared.definitions)
    models: Sequence[ModelSpec] = declared.models
    per_check = _days_per_check(models, watched, settings)
    assets = [model_days_asset(models, per_check), table_days_asset(watched, per_check)]
    checks = [
        checks_of(MODEL_DAYS, MODEL_CHECKS, MODEL_SERIES, {spec.name: spec.key for spec in models}),
        checks_of(TABLE_DAYS, TABLE_CHECKS, TABLE_SERIES, {table.name: table.name for table in watched}),
    ]
    monitor = dg.define_asset_job(
        "monitor",
        selection=dg.AssetSelection.assets(*assets)
        | dg.AssetSelection.checks(*(spec.key for check in checks for spec in check.check_specs)),
        description="Measure all models and tables, and check whether the measurements are in their usual range.",
    )
    schedule = dg.ScheduleDefinition(
        name="monitor_daily",
        job=monitor,
        cron_schedule=SCHEDULE,
        execution_timezone="UTC",
        description="Run `monitor` every day.",
    )
    return dg.Definitions(assets=assets, asset_checks=checks, jobs=[monitor], schedules=[schedule])


def watched_tables(definitions: dg.Definitions) -> list[WatchedTable]:
    """Return the tables that the definitions create."""
    specs = [spec for one in definitions.assets or () if isinstance(one, dg.AssetsDefinition) for spec in one.specs]
    return [
        WatchedTable(
            "/".join(spec.key.path),
            spec.metadata[STORE],
            tuple(spec.metadata[KEY]),
            spec.metadata.get(QUARANTINE, ""),
            spec.metadata[ACCUMULATES],
        )
        for spec in specs
        if STORE in spec.metadata
    ]


def _days_per_check(models: Sequence[ModelSpec], watched: Sequence[WatchedTable], settings: Settings) -> float:
    # Each model has a stream of the rows in its prediction requests. A model with a table of new rows also has a stream
    # of these new rows.
    streams = len(models) + sum(spec.incoming is not None for spec in models)
    checks = len(models) * len(MODEL_CHECKS) + len(watched) * len(TABLE_CHECKS)
    return days_per_check(settings.false_alarm_days, settings.drift_false_alarm_days, streams, checks)


def model_days_asset(models: Sequence[ModelSpec], per_check: float) -> dg.AssetsDefinition:
    """Return the asset that measures models."""

    @table_asset(MODEL_DAYS, owners=OWNERS, kinds={"postgres"})
    def model_days(
        context: dg.AssetExecutionContext,
        model_sources: dg.ResourceParam[ModelSources],
        tables: dg.ResourceParam[TableStore],
    ) -> Frame:
        """Daily measurements of each model: predictions, requests, drift, performance and ages.

        Each run adds measurements for every day since the previous run, and for today up to the time of the run.
        """
        history, now = read_days(tables, MODEL_DAYS), datetime.now(UTC)
        return measure_models(model_sources, models, history, per_check, now, context.run.run_id)

    return model_days


def table_days_asset(watched: Sequence[WatchedTable], per_check: float) -> dg.AssetsDefinition:
    """Return the asset that measures tables."""

    @table_asset(TABLE_DAYS, owners=OWNERS)
    def table_days(tables: dg.ResourceParam[TableStore], online: dg.ResourceParam[OnlineTables]) -> Frame:
        """Daily measurements of each table: age, number of rows, and values of each column.

        The values of the columns are measured only if the table has a new version.
        """
        return measure_tables(tables, online, watched, read_days(tables, TABLE_DAYS), per_check, datetime.now(UTC))

    return table_days


def checks_of(
    schema: TableSchema, declared: Sequence[Check], known: Mapping[str, Series], subjects: Mapping[str, str]
) -> dg.AssetChecksDefinition:
    """Return the asset checks. They read the newest stored measurements; they do not measure anything themselves.

    Parameters
    ----------
    schema
        Schema of the table that contains the measurements.
    declared
        Checks that each model or table gets.
    known
        The series by name.
    subjects
        Asset keys of the models or tables, by their name in the measurements.
    """
    by_name, named = {check.name: check for check in declared}, {key: name for name, key in subjects.items()}

    @dg.multi_asset_check(
        name=f"check_{schema.name.split('/')[1]}",
        specs=[
            dg.AssetCheckSpec(
                check.name,
                asset=key.split("/"),
                description=check.description,
                additional_deps=[dg.AssetKey(schema.name.split("/"))],
                metadata={ON_REQUEST: True},
            )
            for key in subjects.values()
            for check in declared
        ],
        can_subset=True,
    )
    def check(
        context: dg.AssetCheckExecutionContext, tables: dg.ResourceParam[TableStore]
    ) -> Iterator[dg.AssetCheckResult]:
        with plain_failures():
            days = read_days(tables, schema)
        judged = None if days is None else newest(days, known)
        recent = {} if days is None else {name: recent_days(found) for name, found in days.groupby("subject")}
        for key in context.selected_asset_check_keys:
            subject, found = named["/".join(key.asset_key.path)], by_name[key.name]
            yield dg.AssetCheckResult(
                asset_key=key.asset_key,
                check_name=key.name,
                severity=_SEVERITIES[found.severity],
                **_result(subject, found, known, recent.get(subject), judged),
            )

    return check


def _result(
    subject: str, check: Check, known: Mapping[str, Series], days: Frame | None, judged: Frame | None
) -> dict[str, Any]:
    if days is None or judged is None:
        return {"passed": True, "description": "not measured yet; launch the job `monitor`"}
    rows = judged[(judged["subject"] == subject) & (judged["check"] == check.name)]
    if rows.empty:
        return {"passed": True, "description": "no values to check yet"}
    alarmed = rows[rows["is_open"].astype(bool)]
    metadata = of_series(days, check, known)
    return {"passed": alarmed.empty, "description": told(alarmed, rows, known), "metadata": metadata}
