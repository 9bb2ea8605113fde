"""Asset of the stored predictions of a champion. `batch_predictions.py` does the work."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import dagster as dg

from platform_assets.approval.ledger import Ledger
from platform_assets.base.frames import Expression
from platform_assets.database.connections import Database
from platform_assets.engine.row_batch import RowBatch
from platform_assets.lake.assets import table_asset
from platform_assets.lake.delta_tables import TableStore
from platform_assets.landing.landing_zone import DeclaredZone, LandingZones
from platform_assets.orchestration.failures import plain_failures
from platform_assets.serving.batch_predictions import BatchOutcome, BatchPredictions, BatchPredictor, adopt_lost
from platform_assets.serving.current_champions import CurrentChampions
from platform_assets.serving.live_models import how_to_get_a_champion
from platform_assets.serving.stored_predictions import StoredPredictions, batch_number

WAITS = "waits"
"""Metadata key of the asset: number of waiting files, and the reason."""


def predictions_asset(declared: BatchPredictions, zone: DeclaredZone, *, owners: Sequence[str]) -> dg.AssetsDefinition:
    """Return the asset of the stored predictions for the files of a landing zone.

    Parameters
    ----------
    declared
        Declaration of the batch predictions.
    zone
        Zone in which the files land.
    owners
        The asset's owners.
    """
    table = declared.table.name

    @table_asset(
        declared.table,
        owners=owners,
        kinds={"postgres", "scikitlearn"},
        ins={"landed": dg.AssetIn(declared.landed.name.split("/"))},
    )
    def predictions(
        context: dg.AssetExecutionContext,
        landed: Expression,
        zones: dg.ResourceParam[LandingZones],
        database: dg.ResourceParam[Database],
        current_champions: dg.ResourceParam[CurrentChampions],
        tables: dg.ResourceParam[TableStore],
    ) -> RowBatch:
        """The champion's predictions, one per landed row: stored permanently in PostgreSQL, then copied to the lake.

        Without a champion the files wait. A new champion predicts new files only.
        """
        stored = StoredPredictions(lambda: database, declared.table)
        predictor = BatchPredictor(declared, zones.find(zone), stored, current_champions, database.pooled)
        with ExitStack() as held:
            # Hold the lock until the rows are in the lake, so that two runs do not add the same rows.
            held.enter_context(database.lock(table))
            adopt_lost(stored, tables, table)
            outcome = predictor.predict(landed, context.run.run_id)
            facts = _metadata(outcome)
            context.add_asset_metadata(facts)
            if WAITS in facts:
                context.log.warning("%s: %s", table, facts[WAITS])
            rows = stored.after(tables.last_batch(table))
            return RowBatch(rows, batch_number(rows), release=held.pop_all().close)

    return predictions


def waits_for_champion(model: str) -> Callable[[dg.SensorEvaluationContext], str | None]:
    """Return a function that returns the reason if landed files cannot be predicted now, else None.

    The function takes the context of a sensor with the resource `ledger`.

    Parameters
    ----------
    model
        Name of the registered model.
    """

    def waits_for(context: dg.SensorEvaluationContext) -> str | None:
        ledger: Ledger = context.resources.ledger
        with plain_failures():
            return None if ledger.champion(model) else how_to_get_a_champion(model)

    return waits_for


def _metadata(outcome: BatchOutcome) -> dict[str, str | int | float]:
    """Return metadata for display: predicted files and rows, the model version, and the waiting files."""
    facts: dict[str, str | int | float] = {"predicted_files": outcome.files, "predicted_rows": outcome.rows}
    if outcome.live:
        live = outcome.live
        facts |= {"model_version": live.version, "approval_id": live.approval_id}
        facts |= {} if live.threshold is None else {"threshold": live.threshold}
    if outcome.waiting:
        files = "1 file is waiting" if outcome.waiting == 1 else f"{outcome.waiting:,} files are waiting"
        facts[WAITS] = f"{files}: {outcome.reason}"
    return facts
