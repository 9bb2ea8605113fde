"""The IO manager that moves tables between assets and the lake."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from platform_assets.base.errors import TableError
from platform_assets.base.frames import Expression, Frame
from platform_assets.base.logs import shown
from platform_assets.base.provenance import code_version
from platform_assets.engine.query_engine import Engine, as_frame
from platform_assets.engine.staged_files import Staged
from platform_assets.lake.assets import KEY, PARTITION_BY
from platform_assets.lake.delta_tables import TableStore
from platform_assets.lake.online_tables import OnlineTables
from platform_assets.lake.publication import Publisher
from platform_assets.lake.schemas import PARTITION
from platform_assets.lake.step_tables import QUARANTINE, STORE, step_tables
from platform_assets.lake.table_versions import SOURCE, SOURCE_DIGEST
from platform_assets.lake.validation import Validated
from platform_assets.orchestration.failures import plain_failures

PREVIEW_ROWS = 5
"""Number of rows in the preview that the metadata show."""


class TablesIOManager(dg.IOManager):
    """Publishes the rows that an asset returns, and loads them for downstream assets.

    An asset returns a pandas frame, an Ibis expression, or (if made by `table_asset`) validated rows. A downstream
    parameter annotated `Expression` receives an expression; any other parameter receives a frame.

    Parameters
    ----------
    tables
        Store of the tables in the lake.
    online
        The online tables.
    engine
        The query engine that stages the rows.
    """

    def __init__(self, tables: TableStore, online: OnlineTables, engine: Engine) -> None:
        self._tables = tables
        self._online = online
        self._engine = engine

    def handle_output(self, context: dg.OutputContext, obj: Validated | Frame | Expression) -> None:
        """Publish the rows in one commit and describe them in the metadata. A partitioned run replaces its partitions.

        The rows of a `RowBatch` are added to the table.

        Raises
        ------
        dagster.Failure
            The rows cannot be published. The table's current version is unchanged.
        """
        with plain_failures():
            partitions = _partitions(context)
            column = _declared(context).get(PARTITION_BY)
            validated = obj if isinstance(obj, Validated) else Validated(self._engine.stage(obj, column), [])
            try:
                self._publish(context, validated, partitions)
            finally:
                validated.discard()

    def load_input(self, context: dg.InputContext) -> Frame | Expression:
        """Return the upstream table, at the step's pinned version and limited to the partitions of this run.

        Raises
        ------
        dagster.Failure
            The table cannot be read.
        """
        if context.upstream_output is None:
            raise dg.DagsterInvariantViolationError("TablesIOManager loads only assets, not the outputs of ops")
        name, declared = _name(context.asset_key), _declared(context.upstream_output)
        is_expression = context.dagster_type.typing_type is Expression
        with plain_failures():
            if declared.get(STORE) == "online":
                rows = self._engine.as_expression(self._online.read(name))
            else:
                partitions = context.asset_partition_keys if context.has_asset_partitions else None
                store = step_tables(context.step_context, self._tables, self._online).store
                rows = store.scan(name, partitions=partitions, on_cluster=is_expression)
            return rows if is_expression else as_frame(rows)

    def _publish(self, context: dg.OutputContext, validated: Validated, partitions: Sequence[str]) -> None:
        name, staged, declared = _name(context.asset_key), validated.table, _declared(context)
        found = context.output_metadata
        given = {key: found[key].value for key in ("demo", SOURCE, SOURCE_DIGEST) if key in found}
        step = step_tables(context.step_context, self._tables, self._online)
        metadata = {"asset": name, "run": context.run_id, "code": code_version(), "inputs": step.record(), **given}
        publisher = Publisher(self._tables, self._engine, metadata, step.lineage)
        quarantine = declared.get(QUARANTINE, "")
        facts: dict[str, Any] = {"digest": staged.digest, "code": code_version()}
        if declared.get(STORE) == "online":
            publisher.publish_bad(quarantine, validated)
            self._online.publish(name, staged, declared[KEY], context.run_id, step.lineage(name))
            rows = staged.rows
        else:
            version = publisher.publish(name, quarantine, validated, partitions)
            rows = version.rows
            facts |= {"version": version.version, "dagster/uri": shown(self._tables.uri(name))}
        for partition in partitions:
            count = staged.parts[partition].rows if partition in staged.parts else 0
            context.step_context.add_asset_metadata(
                {"dagster/partition_row_count": count}, context.asset_key, partition_key=partition
            )
        if validated.batch:
            facts |= {"batch": validated.batch.number, "batch_rows": staged.rows}
        context.add_output_metadata({"dagster/row_count": rows, **facts, "preview": _preview(staged)})


def _partitions(context: dg.OutputContext) -> Sequence[str]:
    if not context.has_asset_partitions:
        return ()
    if PARTITION_BY not in _declared(context):
        name = _name(context.asset_key)
        raise TableError(f"{name} is partitioned; set {PARTITION_BY} in its metadata to the partition column")
    return context.asset_partition_keys


def _preview(staged: Staged) -> dg.MarkdownMetadataValue:
    """Return some rows of a staged file as a Markdown table. A query is not used, because it would read more rows."""
    import pyarrow.parquet as pq

    batches = (batch for file in staged.files for batch in pq.ParquetFile(file).iter_batches(batch_size=PREVIEW_ROWS))
    rows = next(batches, None)
    if rows and PARTITION in rows.schema.names:
        rows = rows.drop_columns(PARTITION)
    return dg.MetadataValue.md(rows.to_pandas().to_markdown(index=False) if rows else "no rows")


def _name(key: dg.AssetKey) -> str:
    return "/".join(key.path)


def _declared(context: dg.OutputContext) -> Mapping[str, Any]:
    return context.definition_metadata or {}
