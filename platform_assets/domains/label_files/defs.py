"""The asset, check, job and sensor of label files."""

from dataclasses import replace

import dagster as dg

from platform_assets.base.frames import Expression
from platform_assets.domains.label_files.schemas import LABELS_INCOMING
from platform_assets.domains.label_files.sources import LABELS
from platform_assets.domains.label_files.storing import refusals, store_landed
from platform_assets.engine.query_engine import Engine
from platform_assets.engine.row_batch import RowBatch
from platform_assets.lake.assets import table_asset
from platform_assets.lake.delta_tables import TableStore
from platform_assets.lake.landed_files import LandedFiles
from platform_assets.landing.landing_zone import LandingZones
from platform_assets.landing.sensors import files_landed_sensor
from platform_assets.monitoring.label_store import Labels
from platform_assets.orchestration.failures import plain_failures

MOST_SHOWN = 20
"""Largest number of refused labels that the check shows."""


@table_asset(LABELS_INCOMING, owners=["team:platform"])
def labels_incoming(
    context: dg.AssetExecutionContext,
    zones: dg.ResourceParam[LandingZones],
    tables: dg.ResourceParam[TableStore],
    engine: dg.ResourceParam[Engine],
    labels: dg.ResourceParam[Labels],
) -> RowBatch:
    """Labels of predictions, one row per line of a file. After publication, the labels are stored in PostgreSQL."""
    from platform_assets.domains import model_specs

    zone, run = zones.find(LABELS), context.run.run_id
    models = {spec.name: spec for spec in model_specs()}

    def file(rows: Expression) -> None:
        if refused := store_landed(zone, rows, labels, models, run):
            context.log.warning("labels refused: %s; the check every_label_is_stored gives the reasons", refused)

    batch = zone.take(LandedFiles(tables, LABELS_INCOMING), engine, run)

    def published(rows: Expression) -> None:
        batch.published(rows)
        file(rows)

    if zone.files.waiting().landed:
        # Store these labels now, because an earlier run was killed between publishing the rows and storing the labels.
        file(tables.scan(LABELS_INCOMING.name))
    return replace(batch, published=published)


@dg.asset_check(
    asset=labels_incoming,
    name="every_label_is_stored",
    description="No label in a landed file was refused. A label is refused, for example, if its model is unknown.",
)
def every_label_is_stored(labels: dg.ResourceParam[Labels]) -> dg.AssetCheckResult:
    """Count the refused labels, and show the newest of them."""
    with plain_failures():
        count, told = refusals(labels, MOST_SHOWN)
    return dg.AssetCheckResult(
        passed=count == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"refused labels: {count:,}, e.g. {told[0]}" if count else None,
        metadata={"refused_labels": count, "last_refused": dg.MetadataValue.json(told)},
    )


load_labels = dg.define_asset_job(
    "load_labels",
    selection=dg.AssetSelection.assets(labels_incoming),
    description="Load up to 500 label files, and store their labels.",
)

label_files_landed = files_landed_sensor("label_files_landed", LABELS, load_labels.name, lambda _: None)
