"""The power demand in Dagster: the monthly table, its checks, the CSV file, the job and its schedule."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg

from platform_assets.base.frames import Expression
from platform_assets.database.connections import Database
from platform_assets.domains.esios_demand import demo, export, features, metadata, schemas, sql_table
from platform_assets.domains.esios_demand.forecast_errors import errors_by_hour, labels_of, recent
from platform_assets.domains.esios_demand.harvest import JOB, has_sample_data, hours_of_months
from platform_assets.domains.esios_demand.harvest import harvest as harvest_months
from platform_assets.domains.esios_demand.issued_forecasts import IssuedForecasts
from platform_assets.domains.esios_demand.issuing import BEGINNING, adopt_lost, batch_number, issue
from platform_assets.domains.esios_demand.model import MODEL
from platform_assets.domains.esios_demand.months import FIRST_MONTH, ZONE, Month, months_around
from platform_assets.domains.esios_demand.quality import examine
from platform_assets.domains.esios_demand.settings import EsiosSettings
from platform_assets.domains.esios_demand.sources import open_esios
from platform_assets.engine.query_engine import Engine, as_frame
from platform_assets.engine.row_batch import RowBatch
from platform_assets.lake.assets import IO_MANAGER, column_schema, table_asset
from platform_assets.lake.delta_tables import TableStore
from platform_assets.lake.sql_target import SqlTarget
from platform_assets.lake.validation import Rows
from platform_assets.landing.declared_sources import Sources
from platform_assets.monitoring.label_store import Labels
from platform_assets.orchestration.failures import plain_failures
from platform_assets.orchestration.in_process_runs import partition_tags, partitions_of_run
from platform_assets.serving.assets import WAITS
from platform_assets.serving.current_champions import CurrentChampions

OWNERS = ["team:platform"]
# The last partition is the month after the current one, because the operator publishes a week ahead.
MONTHS = dg.MonthlyPartitionsDefinition(FIRST_MONTH, timezone=ZONE, end_offset=2)
# Daily, after the operator updates the forecast in the morning.
SCHEDULE = "30 9 * * *"
# Daily at the cut-off time of the features, and after the harvest.
ISSUE_SCHEDULE = "0 10 * * *"


@table_asset(schemas.DEMAND_FORECAST, owners=OWNERS, kinds={"esios"}, partitions_def=MONTHS)
def demand_forecast(
    context: dg.AssetExecutionContext, sources: dg.ResourceParam[Sources], tables: dg.ResourceParam[TableStore]
) -> Rows:
    """The operator's newest hourly forecast of the power demand of the Spanish peninsula.

    Each run reads whole months of local time from ESIOS and merges them with the stored hours.
    """
    with open_esios(sources) as esios:
        rows = harvest_months(esios, tables, context.partition_keys)
    for key, facts in rows.metadata["months"].items():
        context.add_asset_metadata(facts, partition_key=key)
    return rows


@dg.multi_asset_check(specs=metadata.HOUR_CHECKS)
def hours_are_as_expected(
    context: dg.AssetCheckExecutionContext, tables: dg.ResourceParam[TableStore]
) -> Iterator[dg.AssetCheckResult]:
    """Check the months of the run, or all months if the run has no partitions."""
    keys = partitions_of_run(context.run, MONTHS)
    now = datetime.now(UTC)
    with plain_failures():
        months = [Month.with_key(key) for key in keys or MONTHS.get_partition_keys()]
        yield from metadata.results(examine(hours_of_months(tables, months), months, now))


@dg.asset(
    key=schemas.DEMAND_FORECAST_CSV.name.split("/"),
    group_name=schemas.DEMAND_FORECAST_CSV.domain,
    owners=OWNERS,
    kinds={"csv"},
    metadata={"dagster/column_schema": column_schema(schemas.DEMAND_FORECAST_CSV)},
    io_manager_key=IO_MANAGER,
)
def demand_forecast_csv(demand_forecast: Expression, exports: dg.ResourceParam[Path]) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster recognises only the bare class
    """The whole forecast as a CSV file in the folder `exports` of PLATFORM_HOME."""
    with plain_failures():
        path, rows = export.write(demand_forecast, exports)
    return dg.MaterializeResult(metadata={"dagster/row_count": rows, "path": dg.MetadataValue.path(path)})


@dg.asset(
    key=schemas.DEMAND_FORECAST_ESIOS.name.split("/"),
    group_name=schemas.DEMAND_FORECAST_ESIOS.domain,
    owners=OWNERS,
    kinds={"sql"},
    metadata={"dagster/column_schema": column_schema(schemas.DEMAND_FORECAST_ESIOS)},
    io_manager_key=IO_MANAGER,
)
def demand_forecast_esios(
    context: dg.AssetExecutionContext,
    demand_forecast: Expression,
    engine: dg.ResourceParam[Engine],
    sql_target: dg.ResourceParam[SqlTarget],
    tables: dg.ResourceParam[TableStore],
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster recognises only the bare class
    """The whole forecast in the table `demand_forecast_esios` of the database in PLATFORM_SQL_TARGET_URL."""
    with plain_failures():
        demo_rows = has_sample_data(tables)
        loaded = sql_table.load(demand_forecast, engine, sql_target, context.log.info, demo=demo_rows)
    return dg.MaterializeResult(metadata=metadata.of_load(loaded, sql_target.place))


@table_asset(schemas.DEMAND_FEATURES, owners=OWNERS, kinds={"duckdb"})
def demand_features(demand_forecast: Expression) -> Expression:
    """Features of each hour, all known at 10:00 local time on the day before. The last rows are for the next day."""
    return features.demand_features(demand_forecast)


@table_asset(schemas.FORECASTS, owners=OWNERS, kinds={"postgres", "scikitlearn"})
def forecasts(
    context: dg.AssetExecutionContext,
    demand_features: Expression,
    database: dg.ResourceParam[Database],
    current_champions: dg.ResourceParam[CurrentChampions],
    tables: dg.ResourceParam[TableStore],
) -> RowBatch:
    """The champion's forecast of the next local day, hour by hour, with 90 % intervals.

    It is stored permanently in PostgreSQL, then copied to the lake. Without a champion, nothing is issued.
    """
    issued = IssuedForecasts(lambda: database)
    with ExitStack() as held:
        # Hold the lock until the rows are in the lake, so that two runs do not add the same rows.
        held.enter_context(database.lock(schemas.FORECASTS.name))
        adopt_lost(issued, tables)
        read = tables.current(schemas.DEMAND_FEATURES.name)
        inputs = {schemas.DEMAND_FEATURES.name: read.version} if read else {}
        facts = metadata.of_issue(issue(demand_features, inputs, current_champions, issued, datetime.now(UTC)))
        context.add_asset_metadata(facts)
        if WAITS in facts:
            context.log.warning("no forecast was issued: %s", facts[WAITS])
        copied = tables.last_batch(schemas.FORECASTS.name)
        rows = issued.after(date.fromordinal(copied) if copied else BEGINNING)
        return RowBatch(rows, batch_number(rows), release=held.pop_all().close)


@table_asset(schemas.FORECAST_ERRORS, owners=OWNERS)
def forecast_errors(
    context: dg.AssetExecutionContext,
    forecasts: Expression,
    demand_features: Expression,
    labels: dg.ResourceParam[Labels],
) -> Expression:
    """Error of each forecast whose demand is known, next to the errors of two naive forecasts.

    The demand is also stored as labels of the forecasts, for the evaluation of the champion.
    """
    errors = errors_by_hour(forecasts, demand_features)
    known = as_frame(errors)
    context.add_asset_metadata(metadata.of_errors(known))
    labels.store(MODEL, labels_of(recent(known)), schemas.FORECAST_ERRORS.name)
    return errors


@dg.multi_asset_check(specs=list(metadata.ERROR_CHECKS.values()))
def recent_forecasts_are_good(tables: dg.ResourceParam[TableStore]) -> Iterator[dg.AssetCheckResult]:
    """Check the errors of the last 28 days."""
    with plain_failures():
        yield from metadata.error_checks(as_frame(tables.scan(schemas.FORECAST_ERRORS.name)))


load_esios_demand = dg.define_asset_job(
    JOB,
    selection=dg.AssetSelection.assets(demand_forecast, demand_forecast_csv, demand_forecast_esios),
    description="Read months of the demand forecast from ESIOS, check them, and write the CSV file and the SQL table.",
)


@dg.schedule(
    job=load_esios_demand,
    cron_schedule=SCHEDULE,
    execution_timezone=ZONE,
    name="load_esios_demand_daily",
    description=f"Run `{JOB}` every day for the months around the current date, to load new and corrected values.",
)
def load_esios_demand_daily(context: dg.ScheduleEvaluationContext, sources: dg.ResourceParam[Sources]) -> dg.RunRequest:
    """Request a run for the months around today."""
    days = sources.settings_of(EsiosSettings).esios_reread_days
    months = months_around(context.scheduled_execution_time, days, demo.DAYS_AHEAD)
    return dg.RunRequest(tags=partition_tags(months[0].key, months[-1].key))


issue_demand_forecasts = dg.define_asset_job(
    "issue_demand_forecasts",
    selection=dg.AssetSelection.assets(demand_features, forecasts, forecast_errors),
    description="Compute the features, issue the forecast for the next local day with the champion, and compute the "
    "errors of earlier forecasts whose demand is known.",
)

issue_demand_forecasts_daily = dg.ScheduleDefinition(
    name="issue_demand_forecasts_daily",
    job=issue_demand_forecasts,
    cron_schedule=ISSUE_SCHEDULE,
    execution_timezone=ZONE,
    description="Run `issue_demand_forecasts` every day at 10:00 in Madrid, after the harvest.",
)
