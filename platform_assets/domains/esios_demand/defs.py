"""The power demand in Dagster: the monthly table, its checks, the CSV file, the job and its schedule."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from platform_assets.base.frames import Expression
from platform_assets.domains.esios_demand import demo, export, metadata, schemas, sql_table
from platform_assets.domains.esios_demand.harvest import JOB, has_sample_data, hours_of_months
from platform_assets.domains.esios_demand.harvest import harvest as harvest_months
from platform_assets.domains.esios_demand.months import FIRST_MONTH, ZONE, Month, months_around
from platform_assets.domains.esios_demand.quality import examine
from platform_assets.domains.esios_demand.settings import EsiosSettings
from platform_assets.domains.esios_demand.sources import open_esios
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.assets import IO_MANAGER, column_schema, table_asset
from platform_assets.lake.delta_tables import TableStore
from platform_assets.lake.sql_target import SqlTarget
from platform_assets.lake.validation import Rows
from platform_assets.landing.declared_sources import Sources
from platform_assets.orchestration.failures import plain_failures
from platform_assets.orchestration.in_process_runs import partition_tags, partitions_of_run

OWNERS = ["team:platform"]
# The last partition is the month after the current one, because the operator publishes a week ahead.
MONTHS = dg.MonthlyPartitionsDefinition(FIRST_MONTH, timezone=ZONE, end_offset=2)
# Daily, after the operator updates the forecast in the morning.
SCHEDULE = "30 9 * * *"


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
    """Examine the months of the run, or all months if the run has no partitions."""
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
    description=f"Run `{JOB}` every day for the months of the last days and the days ahead, to store corrections.",
)
def load_esios_demand_daily(context: dg.ScheduleEvaluationContext, sources: dg.ResourceParam[Sources]) -> dg.RunRequest:
    """Request a run for the months around today."""
    days = sources.settings_of(EsiosSettings).esios_reread_days
    months = months_around(context.scheduled_execution_time, days, demo.DAYS_AHEAD)
    return dg.RunRequest(tags=partition_tags(months[0].key, months[-1].key))
